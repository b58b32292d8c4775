//! `monitor` commands: what debuggers have no command for.

mod ask;
mod running;

use super::Error;
use super::link::Link;
use super::session::{Session, console};
use std::fmt::Write as _;
use std::time::Duration;
use stillframe_image::{SpaceId, signal};
use stillframe_store::retention::{self, Change};
use stillframe_store::{Moment, Row};

/// Most moments listed at once.
const MOST: usize = 1000;

const HELP: &str = "\
monitor where               the moment, and what there is around it
monitor goto MOMENT         go to 42, 12.5s, -3s, first, last, crash, exit, a tag, point:NAME;
                            +N and -N count checkpoints from here
monitor checkpoints [N]     the N moments before and after this one (10)
monitor bookmark NAME       names this moment, as still tag does; goto NAME comes back to it
monitor history EXPR        each change of an expression, or of bytes (u32@0x404010, 0x404010:8)
monitor find COND           go to the next moment at which this begins to hold; find-back: to the
                            previous one; find --all lists every stretch over which it holds
                            All three take, in front: --from MOMENT, --to MOMENT, --limit N (200),
                            --thread TID, --frame N or --function NAME (whose locals are seen);
                            history also --backward
monitor running FUNCTION    go to the next moment at which a thread executes a function, inlined
                            ones included; FROM TO: in these addresses. running-back: backwards
monitor processes           the processes at this moment
monitor process N           which process the next connection is to have
After goto, find and running the debugger has to be told: stepi does that, and then only
arrives. `still debug` sets up GDB so that it happens by itself.
Moving in time: stepi and reverse-stepi go by one checkpoint, continue and reverse-continue to the
next at which something happens: a watched value differs, a thread stands at a breakpoint, a signal
is fatal, the recording ends.
";

/// Runs a command and sends what it says; whether the debugger still waits for the end.
///
/// # Errors
/// If the connection fails.
pub fn run(session: &mut Session<'_>, command: &[u8], link: &mut Link) -> Result<bool, Error> {
    let command = String::from_utf8_lossy(command);
    let (name, rest) = match command.trim().split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim()),
        None => (command.trim(), ""),
    };
    let said = match name {
        "help" | "" => Ok(HELP.to_owned()),
        "where" => Ok(place(session)),
        "goto" => goto(session, rest),
        "checkpoints" => checkpoints(session, rest),
        "bookmark" => bookmark(session, rest),
        "history" => ask::history(session, rest, link),
        "find" => ask::find(session, rest, true, link),
        "find-back" => ask::find(session, rest, false, link),
        "running" => running::run(session, rest, true, link),
        "running-back" => running::run(session, rest, false, link),
        "processes" => processes(session),
        "process" => process(session, rest),
        _ => Err(format!(
            "there is no monitor command `{}`; monitor help lists them",
            name.chars().take(40).collect::<String>()
        )),
    };
    if link.abandoned() {
        return Ok(false);
    }
    match said {
        Ok(text) => console(link, &text)?,
        Err(why) => console(link, &format!("{why}\n"))?,
    }
    Ok(true)
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A text without what a terminal would take for a command.
pub(super) fn plain(text: &str) -> String {
    let tame = |c: char| match c.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(tame).collect()
}

/// A moment in words.
fn moment(row: &Row) -> String {
    let seconds = Duration::from_nanos(row.tick.at_ns).as_secs_f64();
    let marks: Vec<&str> = row.tick.marks.names().collect();
    let marks = if marks.is_empty() {
        String::new()
    } else {
        format!(" ({})", marks.join(", "))
    };
    format!("checkpoint {} at {seconds:.6}s{marks}", row.id)
}

fn place(session: &Session<'_>) -> String {
    let scene = &session.scene;
    let recording = scene.recording();
    let rows = recording.rows();
    let mut out = moment(&scene.listed());
    let (first, last) = (scene.lives().start(), scene.lives().end());
    let process = &scene.image().process;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        ", {} before and {} after it",
        scene.row() - first.min(&scene.row()),
        last - scene.row().min(*last)
    );
    let _ = writeln!(
        out,
        "process {} (pid {}, {}), threads: {}",
        scene.process().0,
        process.pid,
        String::from_utf8_lossy(&process.name),
        scene.image().threads.len()
    );
    for thread in &scene.image().threads {
        if let Some(info) = &thread.signal {
            let _ = writeln!(
                out,
                "thread {} is about to be killed by {}",
                thread.tid,
                signal::name(i64::from(info.signal))
            );
        }
    }
    for (name, id) in recording.tags() {
        if *id == scene.checkpoint() {
            let _ = writeln!(out, "tagged {name}");
        }
    }
    if recording.is_live() {
        let _ = writeln!(
            out,
            "the recording still grows; connect again to see more than checkpoint {}",
            rows.last().map(|r| r.id).unwrap_or_default()
        );
    }
    out
}

/// The row that a word names.
fn resolve(session: &Session<'_>, word: &str) -> Result<usize, String> {
    let scene = &session.scene;
    let counted = |n: &str| {
        let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| n.parse::<usize>().unwrap_or(usize::MAX))
    };
    let ends = scene.lives();
    if let Some(n) = word.strip_prefix('+').and_then(counted) {
        return Ok(scene.row().saturating_add(n).min(*ends.end()));
    }
    if let Some(n) = word.strip_prefix('-').and_then(counted) {
        return Ok(scene.row().saturating_sub(n).max(*ends.start()));
    }
    // As it may be pasted from elsewhere: REC@42, @42.
    let word = word.rsplit_once('@').map_or(word, |(_, m)| m);
    // The recording as it was opened does not know these.
    if let Some(row) = session.named.get(word) {
        return Ok(*row);
    }
    let moment: Moment = word.parse().map_err(shown)?;
    let recording = scene.recording();
    let id = recording.resolve(&moment).map_err(shown)?;
    let row = recording.rows().partition_point(|r| r.id < id);
    if ends.contains(&row) {
        Ok(row)
    } else {
        let rows = recording.rows();
        let id = |row: usize| rows.get(row).map(|r| r.id).unwrap_or_default();
        Err(format!(
            "process {} is not in checkpoint {}; it is in {} to {}",
            scene.process().0,
            id(row),
            id(*ends.start()),
            id(*ends.end())
        ))
    }
}

fn goto(session: &mut Session<'_>, word: &str) -> Result<String, String> {
    if word.is_empty() {
        return Err(
            "goto where? a checkpoint's number, 12.5s, -3s, first, last, crash, exit, a \
                    tag, point:NAME, +N or -N"
                .to_owned(),
        );
    }
    let row = resolve(session, word)?;
    session.go(row).map_err(shown)?;
    Ok(format!("{}\n", moment(&session.scene.listed())))
}

/// Tags the moment, in the recording, so that it is there for every command.
fn bookmark(session: &mut Session<'_>, name: &str) -> Result<String, String> {
    if !stillframe_store::moment::is_tag(name) {
        return Err(format!(
            "`{}` is no name; take letters, digits, `_`, `-` and `.`, a letter first, and none of \
             first, last, crash, exit",
            name.chars().take(80).collect::<String>()
        ));
    }
    let id = session.scene.checkpoint();
    let change = Change::Tag {
        name: name.to_owned(),
        id: id.0,
    };
    retention::change(&session.settings.recording, &change, &mut |_, _| true).map_err(shown)?;
    session.named.insert(name.to_owned(), session.scene.row());
    Ok(format!("checkpoint {id} is called {name}\n"))
}

fn checkpoints(session: &Session<'_>, rest: &str) -> Result<String, String> {
    let around = match rest {
        "" => 10,
        n => n
            .parse::<usize>()
            .map_err(|_| format!("`{n}` is no number of checkpoints"))?
            .min(MOST),
    };
    let scene = &session.scene;
    let rows = scene.recording().rows();
    let from = scene.row().saturating_sub(around);
    let to = scene.row().saturating_add(around + 1).min(rows.len());
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate().take(to).skip(from) {
        let here = if i == scene.row() { "*" } else { " " };
        let outside = if scene.lives().contains(&i) {
            ""
        } else {
            ", without this process"
        };
        let _ = writeln!(
            out,
            "{here} {}, {} pages written{outside}",
            moment(row),
            row.tick.dirty_pages
        );
    }
    Ok(out)
}

fn processes(session: &Session<'_>) -> Result<String, String> {
    let scene = &session.scene;
    let mut out = String::new();
    let mut listed = 0;
    scene
        .recording()
        .each_process(scene.checkpoint(), |node, process| {
            listed += 1;
            if listed > MOST {
                return;
            }
            let here = if node.id == scene.process() { "*" } else { " " };
            let said = match process {
                Ok(p) => format!(
                    "pid {}, threads: {}, {}",
                    p.process.pid,
                    p.threads.len(),
                    String::from_utf8_lossy(&p.process.name)
                ),
                Err(error) => error.to_string(),
            };
            let _ = writeln!(out, "{here} process {}: {said}", node.id.0);
        })
        .map_err(shown)?;
    Ok(out)
}

fn process(session: &mut Session<'_>, rest: &str) -> Result<String, String> {
    let number: u32 = rest
        .parse()
        .map_err(|_| "process needs a number, as monitor processes lists them".to_owned())?;
    let scene = &session.scene;
    let (id, process) = (scene.checkpoint(), SpaceId(number));
    // Refuses what is not there.
    scene.recording().threads(id, process).map_err(shown)?;
    session.next_process = Some(process);
    Ok(format!(
        "process {number} at checkpoint {id} is what the next connection gets; disconnect, and \
         connect again\n"
    ))
}
