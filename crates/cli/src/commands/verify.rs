//! `still verify`.

use crate::args::VerifyArgs;
use crate::exit::{Code, fail};
use crate::progress::Progress;
use crate::{output, units};
use serde::Serialize;
use std::io::Write as _;
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
    let mut progress = Progress::new("verifying");
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
