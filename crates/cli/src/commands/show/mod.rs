//! `still show`.

mod account;
mod json;
mod objects;
mod sections;
mod stacks;
mod threads;
mod tree;

pub(super) use json::PointView;
pub(super) use sections::permissions;

use crate::args::ShowArgs;
use crate::{names, open, output, units};
use std::io::{self, Write};
use std::sync::Arc;
use stillframe_image::{CheckpointId, Point, ProcessImage, SigInfo};
use stillframe_store::Recording;
use stillframe_timeline::{Machine, View};

/// Which sections to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    tree: bool,
    points: bool,
    account: bool,
    threads: bool,
    stacks: bool,
    mappings: bool,
    files: bool,
    signals: bool,
    process: bool,
    gaps: bool,
    /// Registers however many threads there are, limits and timers.
    detail: bool,
}

impl Wanted {
    fn of(args: &ShowArgs) -> Self {
        let of_process =
            args.stacks.bt || args.threads || args.mappings || args.files || args.signals;
        let some = of_process || args.tree || args.account;
        let chosen = args.process.pid.is_some() || args.process.process.is_some();
        Self {
            tree: args.tree || !(some || chosen),
            points: !some,
            account: args.account || args.all,
            threads: args.threads || !some,
            stacks: args.stacks.bt,
            mappings: args.mappings || !some,
            files: args.files || !some,
            signals: args.signals || !some,
            process: !some,
            gaps: !some,
            detail: args.all || args.threads,
        }
    }
}

/// Shows one moment.
pub fn run(args: &ShowArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.moment)?;
    let machine = Machine::new(
        Arc::new(opened.recording),
        stacks::options(&args.stacks.debug),
    );
    let (recording, id) = (&**machine.recording(), opened.id);
    let name = opened.path.to_string_lossy();
    let wanted = Wanted::of(args);
    if args.account && args.json {
        output::json(&account::view(recording, id)?)?;
        return Ok(0);
    }
    let image = &open::process(recording, id, &args.process)?;
    let view = &machine.at(id, image.id)?;
    if args.json && wanted.stacks {
        output::json(&stacks::view(view, id, image, &args.stacks)?)?;
        return Ok(0);
    }
    if args.json {
        let moment = json::moment(recording, id, image, view)?;
        output::json(&moment)?;
        return Ok(0);
    }
    let mut out = output::stdout();
    header(&mut out, &name, recording, id)?;
    if wanted.points {
        points(&mut out, &recording.points(id)?)?;
    }
    if wanted.tree {
        let tree = tree::read(recording, id)?;
        if args.tree || tree.len() > 1 {
            tree::print(&mut out, &tree)?;
        }
    }
    if wanted.process {
        sections::process(&mut out, image, id, wanted.detail)?;
    }
    if wanted.threads {
        threads::print(&mut out, image, view, wanted.detail)?;
    }
    if wanted.stacks {
        stacks::print(&mut out, view, image, &args.stacks)?;
    }
    if wanted.mappings {
        sections::mappings(&mut out, image)?;
    }
    if wanted.files {
        sections::files(&mut out, image)?;
        sections::written(&mut out, &recording.files(id)?)?;
    }
    if wanted.signals {
        signals(&mut out, image, view)?;
    }
    if wanted.gaps {
        sections::gaps(&mut out, image)?;
    }
    if wanted.account {
        account::print(&mut out, &recording.account(id)?)?;
    }
    out.flush()?;
    Ok(0)
}

fn header(
    out: &mut impl Write,
    name: &str,
    recording: &Recording,
    id: CheckpointId,
) -> io::Result<()> {
    write!(out, "{}@{id}", output::printable(name.as_bytes()))?;
    if let Some(row) = recording.row(id) {
        let marks: Vec<&str> = row.tick.marks.names().collect();
        write!(
            out,
            ": {} after the start, {}, pause {}, {} pages written since the one before",
            units::show_ns(row.tick.at_ns),
            units::show_wall(row.tick.wall_ns),
            units::show_ns(row.tick.pause_ns()),
            row.tick.dirty_pages,
        )?;
        if !marks.is_empty() {
            write!(out, " [{}]", marks.join(", "))?;
        }
    }
    writeln!(out)
}

/// What the program marked and this checkpoint answers.
fn points(out: &mut impl Write, points: &[Point]) -> io::Result<()> {
    const SHOWN: usize = 20;
    for point in points.iter().take(SHOWN) {
        writeln!(
            out,
            "point {:?}, marked by thread {} of process {}",
            output::printable(&point.name),
            point.tid,
            point.space.0
        )?;
    }
    match points.len().checked_sub(SHOWN) {
        Some(more @ 1..) => writeln!(out, "and {more} points more (all with --json)"),
        _ => Ok(()),
    }
}

/// `SIGSEGV (code 1)` and the sender or the address, as far as the structure says.
fn describe_signal(info: &SigInfo) -> String {
    let mut text = stillframe_image::signal::name(i64::from(info.signal));
    text.push_str(&format!(" (code {})", info.code));
    let word = |at: usize| -> Option<[u8; 8]> { info.raw.get(at..at + 8)?.try_into().ok() };
    if let Some(bytes) = word(16) {
        let fault = matches!(info.signal, 4 | 5 | 7 | 8 | 11) && info.code > 0;
        // si_addr after a fault; si_pid and si_uid where a process sent it (SI_USER, SI_QUEUE,
        // SI_TKILL).
        if fault && info.code != 0x80 {
            text.push_str(&format!(" at {:#x}", u64::from_le_bytes(bytes)));
        } else if matches!(info.code, 0 | -1 | -6) {
            let [a, b, c, d, ..] = bytes;
            text.push_str(&format!(
                " from process {}",
                u32::from_le_bytes([a, b, c, d])
            ));
        }
    }
    text
}

fn signals(out: &mut impl Write, image: &ProcessImage, view: &View<'_>) -> io::Result<()> {
    writeln!(out, "\nsignals")?;
    for thread in &image.threads {
        if thread.blocked != 0 {
            writeln!(
                out,
                "  thread {} blocks {}",
                thread.tid,
                blocked(thread.blocked)
            )?;
        }
        if let Some(signal) = &thread.signal {
            writeln!(
                out,
                "  thread {} is about to get {}",
                thread.tid,
                describe_signal(signal)
            )?;
        }
        for pending in &thread.pending {
            writeln!(
                out,
                "  thread {} has pending {}",
                thread.tid,
                describe_signal(pending)
            )?;
        }
    }
    for pending in &image.process.pending {
        writeln!(
            out,
            "  the process has pending {}",
            describe_signal(pending)
        )?;
    }
    for action in &image.process.actions {
        let handler = match action.handler {
            0 => "default".to_owned(),
            1 => "ignored".to_owned(),
            stillframe_image::SignalAction::UNKNOWN => {
                "caught, by a handler that could not be read".to_owned()
            }
            address => {
                format!("{address:#x} {}", threads::place(view, address))
            }
        };
        write!(
            out,
            "  {:<10} {handler}",
            stillframe_image::signal::name(i64::from(action.signal))
        )?;
        if action.flags != 0 {
            write!(out, ", {}", names::action_flags(action.flags))?;
        }
        if action.mask != 0 {
            write!(out, ", blocks {}", blocked(action.mask))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A set of signals; the complement if that is shorter.
fn blocked(set: u64) -> String {
    let list = |set: u64| names::signals(set).join(" ");
    if set == u64::MAX {
        "all".to_owned()
    } else if set.count_ones() > 32 {
        format!("all but {}", list(!set))
    } else {
        list(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_described() {
        let mut raw = vec![0; 128];
        raw[16..24].copy_from_slice(&0xdead_b000u64.to_le_bytes());
        let fault = SigInfo {
            signal: 11,
            errno: 0,
            code: 1,
            raw,
        };
        assert_eq!(describe_signal(&fault), "SIGSEGV (code 1) at 0xdeadb000");
        let mut raw = vec![0; 128];
        raw[16] = 42;
        let sent = SigInfo {
            signal: 15,
            errno: 0,
            code: 0,
            raw,
        };
        assert_eq!(describe_signal(&sent), "SIGTERM (code 0) from process 42");
        let short = SigInfo {
            signal: 11,
            errno: 0,
            code: 1,
            raw: Vec::new(),
        };
        assert_eq!(describe_signal(&short), "SIGSEGV (code 1)");
    }

    #[test]
    fn sets_are_short() {
        assert_eq!(blocked(u64::MAX), "all");
        assert_eq!(blocked(!0x4100), "all but SIGKILL SIGTERM");
        assert_eq!(blocked(2), "SIGINT");
    }
}
