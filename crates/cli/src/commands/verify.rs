//! `still verify`.

use crate::args::VerifyArgs;
use crate::exit::{Code, fail};
use crate::{output, units};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};
use stillframe_store::{Error, VerifyReport};

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    recording: String,
    ok: bool,
    checkpoints: u64,
    versions: u64,
    objects: u64,
    bytes: u64,
    live: bool,
    finished: bool,
    problems: &'a [String],
    notes: &'a [String],
}

/// Reads everything; exit code 5 if anything is wrong.
pub fn run(args: &VerifyArgs) -> anyhow::Result<u8> {
    let started = Instant::now();
    let mut progress = Progress::new();
    let result =
        stillframe_store::verify(&args.recording, &mut |done, all| progress.show(done, all));
    progress.clear();
    let report = result.map_err(|error| match error {
        Error::Io { .. } | Error::NotRecording { .. } => fail(Code::Recording, error.to_string()),
        other => other.into(),
    })?;
    let name = args.recording.display();
    if args.json {
        output::json(&Report {
            recording: name.to_string(),
            ok: report.problems.is_empty(),
            checkpoints: report.checkpoints,
            versions: report.versions,
            objects: report.objects,
            bytes: report.bytes,
            live: report.live,
            finished: report.finished,
            problems: &report.problems,
            notes: &report.notes,
        })?;
    } else {
        print(&report, started.elapsed())?;
    }
    match report.problems.len() {
        0 => Ok(0),
        1 => Err(fail(
            Code::Damaged,
            format!("{name} is damaged: {}", report.problems[0]),
        )),
        n => Err(fail(
            Code::Damaged,
            format!("{name} is damaged: {n} problems; what `still ls` lists can still be opened"),
        )),
    }
}

fn print(report: &VerifyReport, took: Duration) -> anyhow::Result<()> {
    let mut out = output::stdout();
    for problem in &report.problems {
        writeln!(out, "problem: {}", output::printable(problem.as_bytes()))?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}", output::printable(note.as_bytes()))?;
    }
    let state = match (report.live, report.finished) {
        (_, true) => "finished",
        (true, false) => "being recorded now",
        (false, false) => "not finished: its recorder was killed",
    };
    let found = if report.problems.is_empty() {
        "all is well"
    } else {
        "damaged"
    };
    writeln!(
        out,
        "{found}: {} checkpoints, {} page versions, {} objects, {} read in {}; {state}",
        report.checkpoints,
        report.versions,
        report.objects,
        units::show_size(report.bytes),
        units::show_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
    )?;
    out.flush()?;
    Ok(())
}

/// A line on stderr, if that is a terminal, renewed ten times a second.
struct Progress {
    last: Option<Instant>,
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            last: None,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(&mut self, done: u64, all: u64) {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if !self.terminal || !due {
            return;
        }
        self.last = Some(Instant::now());
        self.shown = true;
        let percent = done
            .saturating_mul(100)
            .checked_div(all)
            .unwrap_or(0)
            .min(100);
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[Kverifying: {percent} % of {}",
            units::show_size(all)
        );
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
