//! `still view`, driven through a terminal: keys in, and what is on the screen.

use crate::process::PATIENCE;
use crate::terminal::Terminal;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "view::moves",
        about: "keys move through a recording in 80x24, and what is bookmarked stays so",
        run: moves,
    },
    Scenario {
        name: "view::watches",
        about: "watched expressions have the values of each moment; a condition finds its moments",
        run: watches,
    },
    Scenario {
        name: "view::threads",
        about: "the threads of a moment are where the program says they are",
        run: threads,
    },
    Scenario {
        name: "view::source",
        about: "the stack of a thread and the source of a frame are the program's",
        run: source,
    },
    Scenario {
        name: "view::follows",
        about: "a recording that is being made is followed, at any size of the terminal",
        run: follows,
    },
    Scenario {
        name: "view::restores",
        about: "however it ends, the terminal is left as it was",
        run: restores,
    },
    Scenario {
        name: "view::plain",
        about: "without colours, without UTF-8 and without a terminal it does what can be done",
        run: plain,
    },
];

/// Keys.
const HOME: &str = "\x1b[H";
const LEFT: &str = "\x1b[D";
const RIGHT: &str = "\x1b[C";
const SHIFT_RIGHT: &str = "\x1b[1;2C";
const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";

/// Checkpoint 0 is the start, 1 to 60 are turns, 61 is the one too many, 62 the crash.
const CRASH: u64 = 62;

/// Records `debug_queue.c` until it dies.
fn record(dir: &Path) -> Result<(PathBuf, String)> {
    let out = still::fresh(dir, "queue.still");
    let cmd: [OsString; 1] = [place::target("debug_queue.c")?.into()];
    let mut run = still::record(dir, &["--at-points"], &out, &cmd)?;
    still::ended_with(&mut run, 128 + 11, PATIENCE)?;
    let recording = still::open(&out)?;
    let last = recording.rows().last().context("no checkpoint")?;
    ensure!(last.id.0 == CRASH, "the last checkpoint is {}", last.id);
    Ok((out, run.stdout()))
}

fn view(recording: &Path, more: &[&str], size: (u16, u16)) -> Result<Terminal> {
    view_in(recording, more, &[], size)
}

fn view_in(
    recording: &Path,
    more: &[&str],
    environment: &[(&str, &str)],
    (columns, rows): (u16, u16),
) -> Result<Terminal> {
    let mut program: Vec<OsString> = vec![place::still()?.into(), "view".into()];
    program.push(recording.into());
    program.extend(more.iter().map(OsString::from));
    Terminal::start(&program, environment, columns, rows)
}

/// Waits until a checkpoint is shown, threads and all.
fn shows(terminal: &mut Terminal, checkpoint: u64) -> Result<String> {
    let wanted = format!("checkpoint {checkpoint} ");
    terminal.until(&wanted, |s| s.contains(&wanted))
}

fn quit(terminal: &mut Terminal) -> Result<()> {
    terminal.type_keys("q")?;
    let status = terminal.wait()?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    restored(terminal)
}

fn restored(terminal: &Terminal) -> Result<()> {
    ensure!(!terminal.alternate(), "the alternate screen is left on");
    ensure!(!terminal.cursor_hidden(), "the cursor is left hidden");
    ensure!(terminal.cooked()?, "the terminal is left in raw mode");
    Ok(())
}

fn moves(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    let mut t = view(&out, &[], (80, 24))?;
    let screen = shows(&mut t, CRASH)?;
    for part in [
        "killed by SIGSEGV",
        "pause",
        "dirty",
        "stored",
        "events",
        "crash",
    ] {
        ensure!(screen.contains(part), "the screen lacks {part}:\n{screen}");
    }
    for line in screen.lines() {
        ensure!(line.chars().count() <= 80, "too long: {line}");
    }
    for (keys, checkpoint) in [
        (HOME, 0),
        (RIGHT, 1),
        (SHIFT_RIGHT, 11),
        (LEFT, 10),
        ("g30\r", 30),
        ("]", 31),
        ("[[", 29),
        ("\x1b[F", CRASH),
        ("gfirst\r", 0),
        ("g30\r", 30),
    ] {
        t.type_keys(keys)?;
        shows(&mut t, checkpoint)?;
    }
    // A bookmark stays, for the next one to look.
    t.type_keys("g21\r")?;
    shows(&mut t, 21)?;
    t.type_keys("bfirst drained\r")?;
    t.until("the bookmark", |s| s.contains("first drained"))?;
    quit(&mut t)?;
    let mut t = view(&out, &[], (80, 24))?;
    shows(&mut t, CRASH)?;
    t.type_keys("B")?;
    t.until("the list", |s| s.contains("first drained"))?;
    t.type_keys(ENTER)?;
    shows(&mut t, 21)?;
    quit(&mut t)?;
    passed("")
}

/// Whether a watched expression is shown with a value.
fn has(screen: &str, name: &str, value: &str) -> bool {
    screen.lines().any(|line| {
        let gutter = line.split('│').next().unwrap_or_default();
        let mut words = gutter.split_whitespace();
        words.next() == Some(name) && words.next() == Some(value)
    })
}

fn watches(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    let at = still::moment(&out, "30");
    let mut t = view(Path::new(&at), &[], (80, 24))?;
    shows(&mut t, 30)?;
    // A watched expression has its value, at once and after each move.
    t.type_keys("wturn\r")?;
    t.until("turn = 30", |s| has(s, "turn", "30"))?;
    t.type_keys(&format!("{RIGHT}wqueue.len\r"))?;
    t.until("turn = 31", |s| has(s, "turn", "31"))?;
    t.until("queue.len = 29", |s| has(s, "queue.len", "29"))?;
    t.until("the history of queue.len", |s| {
        let line = s.lines().find(|l| l.starts_with("queue.len"));
        line.is_some_and(|l| l.contains('█') && l.contains('▁') && !l.contains('╌'))
    })?;
    // What never holds is said not to, what does is found.
    t.type_keys("/queue.len > 40\r")?;
    t.until("no match", |s| s.contains("does not begin to hold after"))?;
    t.type_keys("/\x15queue.len < 0\r")?;
    shows(&mut t, 61)?;
    t.type_keys("gfirst\r")?;
    shows(&mut t, 0)?;
    t.type_keys("/\x15phase == DRAINING\r")?;
    shows(&mut t, 21)?;
    t.type_keys("gfirst\r")?;
    shows(&mut t, 0)?;
    t.type_keys("n")?;
    shows(&mut t, 21)?;
    quit(&mut t)?;
    passed("")
}

fn threads(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    // At the crash the first thread is in `take`; the other sleeps.
    let mut t = view(&out, &["--watch", "queue.most"], (100, 40))?;
    shows(&mut t, CRASH)?;
    let screen = t.until("both threads", |s| {
        s.contains("threads 2") && s.contains("idle")
    })?;
    let line = |screen: &str, begin: &str| {
        let found = screen.lines().find(|l| l.starts_with(begin));
        found
            .unwrap_or_default()
            .split('│')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let chosen = line(&screen, ">");
    ensure!(
        chosen.contains("SIGSEGV") && chosen.contains("take"),
        "{screen}"
    );
    t.until("the stack", |s| s.contains("#0 take debug_queue.c:"))?;
    t.until("the watch given", |s| has(s, "queue.most", "41"))?;
    t.type_keys("tj")?;
    t.until("the other thread", |s| line(s, ">").contains("idle"))?;
    t.until("its stack", |s| s.contains("#0 ") && !s.contains("#0 take"))?;
    quit(&mut t)?;
    passed("")
}

fn source(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    let at = still::moment(&out, "61");
    let mut t = view(Path::new(&at), &["--watch", "queue.most"], (100, 40))?;
    shows(&mut t, 61)?;
    // Both threads; the stack of the first; the line that runs, with its text.
    let screen = t.until("the stack", |s| {
        ["idle", "take", "step", "main", "debug_queue.c:"]
            .iter()
            .all(|part| s.contains(part))
    })?;
    ensure!(screen.contains("threads 2"), "{screen}");
    t.type_keys("\t")?;
    let taking = "if (!job) still_checkpoint(\"too many\");";
    for _ in 0..6 {
        let screen = t.screen();
        if screen
            .lines()
            .any(|l| l.starts_with('>') && l.contains(taking))
        {
            break;
        }
        t.type_keys("j")?;
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    t.until("the line that runs", |s| {
        s.lines().any(|l| l.starts_with('>') && l.contains(taking))
    })?;
    t.type_keys("tj")?;
    let own = |line: &str| {
        let stack = line.split('│').nth(1).unwrap_or_default().trim_start();
        stack.starts_with('#') && stack.contains(" idle debug_queue.c:")
    };
    t.until("the stack of the other thread", |s| s.lines().any(own))?;
    quit(&mut t)?;
    passed("threads, stacks and source")
}

fn follows(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let out = still::fresh(dir.path(), "live.still");
    let cmd: [OsString; 5] = [
        place::target("crash.c")?.into(),
        "--after".into(),
        "6".into(),
        "--kind".into(),
        "segv".into(),
    ];
    let mut run = still::record(dir.path(), &["--hz", "50"], &out, &cmd)?;
    crate::process::wait_for("the recording begins", || out.join("recording").exists())?;
    let mut t = view(&out, &[], (80, 24))?;
    let number = |s: &str| -> Option<u64> {
        let rest = s.split("checkpoint ").nth(1)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    t.until("a checkpoint", |s| number(s).is_some())?;
    t.type_keys("\x1b[F")?;
    let screen = t.until("following", |s| s.contains("following"))?;
    ensure!(screen.contains("recording"), "{screen}");
    let first = number(&screen).context("a number")?;
    t.until("more", |s| number(s).is_some_and(|n| n >= first + 10))?;
    // Looking back ends it.
    t.type_keys(&format!("{LEFT}{LEFT}"))?;
    let screen = t.until("standing still", |s| !s.contains("following"))?;
    let stands = number(&screen).context("a number")?;
    for (columns, rows) in [(120, 40), (30, 5), (80, 24)] {
        t.resize(columns, rows)?;
        match columns {
            30 => t.until("a word on its size", |s| s.contains("40 x 10"))?,
            _ => t.until("the same moment", |s| number(s) == Some(stands))?,
        };
    }
    still::ended_with(&mut run, 128 + 11, PATIENCE)?;
    t.until("its end", |s| s.contains("killed by SIGSEGV"))?;
    t.type_keys("\x1b[F")?;
    t.until("the crash", |s| {
        s.contains("crash") && !s.contains("following")
    })?;
    quit(&mut t)?;
    passed("")
}

fn restores(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    for (how, signal, code) in [
        ("q", None, 0),
        ("\x03", None, 0),
        ("?\x03", None, 0),
        ("", Some(Signal::TERM), 128 + 15),
        ("", Some(Signal::INT), 128 + 2),
        ("", Some(Signal::HUP), 128 + 1),
        ("wtyping", Some(Signal::TERM), 128 + 15),
    ] {
        let mut t = view(&out, &[], (80, 24))?;
        shows(&mut t, CRASH)?;
        ensure!(
            t.alternate() && !t.cooked()?,
            "it did not take the terminal"
        );
        t.type_keys(how)?;
        if let Some(signal) = signal {
            std::thread::sleep(std::time::Duration::from_millis(100));
            t.signal(signal)?;
        }
        let status = t.wait()?;
        ensure!(
            status.code() == Some(code),
            "{how:?} {signal:?}: it ended with {status} (signal {:?})",
            status.signal()
        );
        restored(&t)?;
    }
    passed("")
}

/// Whether bytes hold a sequence that sets a colour.
fn coloured(raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(raw);
    text.split("\x1b[").skip(1).any(|rest| {
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        let is_style = rest.get(end..end + 1) == Some("m");
        let codes = rest.get(..end).unwrap_or_default();
        is_style
            && codes.split(';').any(|code| {
                matches!(
                    code.parse::<u32>(),
                    Ok(30..=38 | 40..=48 | 90..=97 | 100..=107)
                )
            })
    })
}

fn plain(_: &Length) -> Result<Outcome> {
    if place::program("setsid").is_none() {
        return skip("no setsid on this machine");
    }
    let dir = place::scratch()?;
    let (out, _) = record(dir.path())?;
    let mut t = view(&out, &[], (80, 24))?;
    shows(&mut t, CRASH)?;
    quit(&mut t)?;
    ensure!(coloured(&t.raw()), "a terminal with colours gets none");
    let plain = [("NO_COLOR", "1"), ("LANG", "C"), ("TERM", "vt100")];
    let mut t = view_in(&out, &[], &plain, (80, 24))?;
    let screen = shows(&mut t, CRASH)?;
    ensure!(screen.is_ascii(), "not ASCII:\n{screen}");
    t.type_keys("?")?;
    t.until("the keys", |s| s.contains("one checkpoint back"))?;
    t.type_keys(ESCAPE)?;
    t.until("the lanes", |s| !s.contains("one checkpoint back"))?;
    quit(&mut t)?;
    ensure!(!coloured(&t.raw()), "NO_COLOR has colours");
    let line = still::refused(dir.path(), &["view".as_ref(), out.as_os_str()], 1)?;
    ensure!(line.contains("terminal"), "{line}");
    passed("")
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_are_told_from_other_sequences() {
        for (raw, has) in [
            ("\x1b[31mred", true),
            ("\x1b[1;38;5;4mx", true),
            ("\x1b[0m\x1b[7m\x1b[39m\x1b[49m", false),
            ("\x1b[34;12Hplace", false),
            ("plain", false),
        ] {
            assert_eq!(super::coloured(raw.as_bytes()), has, "{raw:?}");
        }
    }
}
