//! `still last-good`: the last moment that passes a command.
//!
//! A fault is found later than it happened, so the newest checkpoint need not be a good one (seed
//! 004). What good means only the user knows; here a command says it, in the manner of `git bisect
//! run`, and as few moments as possible are asked about.

use super::export;
use crate::args::last_good::LastGoodArgs;
use crate::args::restore::RestoreArgs;
use crate::exit::{Code, fail};
use crate::{open, output, units};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use stillframe_image::CheckpointId;
use stillframe_linux::signals::Interrupts;
use stillframe_store::{Recording, Row};
use stillframe_timeline::bisect::{Bisect, Next, Outcome, Verdict};

/// The exit status that says that a moment cannot be judged, as of `git bisect run`.
const SKIP: i32 = 125;
/// From this status on the search is to end.
const ABORT: i32 = 128;

#[derive(Clone, Copy, Serialize)]
struct At {
    checkpoint: u64,
    at_ns: u64,
}

/// One run of the command.
#[derive(Serialize)]
struct Run {
    checkpoint: u64,
    verdict: &'static str,
    status: i32,
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    recording: String,
    /// `found`, `between`, `all-good`, `all-bad`, `reversed` or `none-judged`.
    outcome: &'static str,
    last_good: Option<At>,
    first_bad: Option<At>,
    runs: Vec<Run>,
}

/// Searches; 0 if there is a last good moment, 10 if there is none.
pub fn run(args: &LastGoodArgs) -> anyhow::Result<u8> {
    let recording = open::recording(&args.recording)?;
    let range = super::history::between(&recording, &args.from, &args.to)?;
    let rows = recording.rows().get(range).unwrap_or_default();
    if let Some(core) = &args.core {
        export::place::refuse_existing(core, args.force)?;
    }
    let judge = Judge {
        args,
        recording: &recording,
        interrupts: Interrupts::new()?,
    };
    let mut bisect = Bisect::new(rows.len());
    let mut runs = Vec::new();
    let outcome = loop {
        let at = match bisect.next() {
            Next::Over(outcome) => break outcome,
            Next::Ask(at) => at,
        };
        let Some(row) = rows.get(at) else {
            return Err(fail(Code::Failure, "no such moment"));
        };
        let begun = Instant::now();
        let (verdict, status) = judge.ask(row)?;
        bisect.tell(at, verdict);
        let run = Run {
            checkpoint: row.id.0,
            verdict: word(verdict),
            status,
            seconds: begun.elapsed().as_secs_f64(),
        };
        judge.said(&run, row, &bisect)?;
        runs.push(run);
    };
    // Signals are the process's from here on.
    drop(judge);
    let good = match outcome {
        Outcome::Found { good, .. } | Outcome::Between { good, .. } => rows.get(good),
        Outcome::AllGood { last } => rows.get(last),
        _ => None,
    };
    let code = conclude(args, rows, outcome, runs)?;
    match good {
        Some(row) if args.restore => restore(args, &recording, row.id),
        _ => Ok(code),
    }
}

/// Brings the moment back to life; exits as the process does.
fn restore(args: &LastGoodArgs, recording: &Recording, id: CheckpointId) -> anyhow::Result<u8> {
    let chosen = args.process.process.is_some() || args.process.pid.is_some();
    let process = match chosen {
        true => Some(open::process(recording, id, &args.process)?.id.0),
        false => None,
    };
    super::restore::run(&RestoreArgs {
        moment: moment(&args.recording, id),
        process,
        pid: None,
        detach: false,
        stopped: false,
        lazy: false,
        paranoid: false,
        files: args.files.clone(),
        count: 1,
        quiet: args.quiet,
        json: false,
    })
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "bad",
        Verdict::Skip => "skip",
    }
}

/// Who runs the command.
struct Judge<'a> {
    args: &'a LastGoodArgs,
    recording: &'a Recording,
    interrupts: Interrupts,
}

impl Judge<'_> {
    /// Runs the command about one moment.
    fn ask(&self, row: &Row) -> anyhow::Result<(Verdict, i32)> {
        if let Some(core) = &self.args.core {
            let image = open::process(self.recording, row.id, &self.args.process)?;
            export::core(self.recording, row.id, &image, core, true)?;
        }
        let moment = moment(&self.args.recording, row.id);
        let mut words = self.args.command.iter().map(|w| filled(w, &moment));
        let program = words.next().unwrap_or_default();
        let mut child = Command::new(&program)
            .args(words)
            .env("STILL_MOMENT", &moment)
            .env("STILL_RECORDING", &self.args.recording)
            .env("STILL_CHECKPOINT", row.id.to_string())
            // Stdout is for the answer.
            .stdout(Stdio::from(std::io::stderr()))
            .spawn()
            .map_err(|e| {
                fail(
                    Code::Usage,
                    format!("cannot run {}: {e}", program.to_string_lossy()),
                )
            })?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Some(signal) = self.interrupts.take() {
                if !signal.from_terminal {
                    signal.pass_on(child.id());
                }
                child.wait()?;
                return Err(fail(Code::Interrupted, "the search was ended by a signal"));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if self.interrupts.take().is_some() {
            return Err(fail(Code::Interrupted, "the search was ended by a signal"));
        }
        judged(status).map_err(|why| {
            let program = program.to_string_lossy();
            fail(Code::Failure, format!("{program} {why} at {}", row.id))
        })
    }

    /// A line about a run.
    fn said(&self, run: &Run, row: &Row, bisect: &Bisect) -> anyhow::Result<()> {
        if self.args.quiet {
            return Ok(());
        }
        writeln!(
            std::io::stderr(),
            "still: {}@{} ({}): {}, status {}; {} asked, about {} to go",
            output::printable(self.args.recording.as_os_str().as_bytes()),
            row.id,
            units::show_ns(row.tick.at_ns),
            run.verdict,
            run.status,
            bisect.asked(),
            match bisect.next() {
                Next::Ask(_) => bisect.left().max(1),
                Next::Over(_) => 0,
            },
        )?;
        Ok(())
    }
}

/// What an exit status says of the moment; why the search has to end.
fn judged(status: ExitStatus) -> Result<(Verdict, i32), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok((Verdict::Good, 0)),
        (Some(SKIP), _) => Ok((Verdict::Skip, SKIP)),
        (Some(code @ 1..ABORT), _) => Ok((Verdict::Bad, code)),
        (Some(code), _) => Err(format!("asked to end the search with status {code}")),
        (None, Some(signal)) => Err(format!(
            "was killed by {}",
            stillframe_image::signal::name(i64::from(signal))
        )),
        (None, None) => Err("ended in an unknown way".to_owned()),
    }
}

/// `REC@N`.
fn moment(recording: &Path, id: CheckpointId) -> OsString {
    let mut text = recording.as_os_str().to_owned();
    text.push(format!("@{id}"));
    text
}

/// A word with every `{}` replaced.
fn filled(word: &OsStr, by: &OsStr) -> OsString {
    let (mut rest, mut out) = (word.as_bytes(), Vec::new());
    while let Some(at) = rest.windows(2).position(|w| w == b"{}") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by.as_bytes());
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    OsString::from_vec(out)
}

/// Prints the answer.
fn conclude(
    args: &LastGoodArgs,
    rows: &[Row],
    outcome: Outcome,
    runs: Vec<Run>,
) -> anyhow::Result<u8> {
    let at = |i: usize| {
        rows.get(i).map(|row| At {
            checkpoint: row.id.0,
            at_ns: row.tick.at_ns,
        })
    };
    let (name, good, bad) = match outcome {
        Outcome::Found { good, bad } => ("found", at(good), at(bad)),
        Outcome::Between { good, bad } => ("between", at(good), at(bad)),
        Outcome::AllGood { last } => ("all-good", at(last), None),
        Outcome::Reversed { bad, good } => ("reversed", at(good), at(bad)),
        Outcome::AllBad => ("all-bad", None, at(0)),
        Outcome::NoneJudged => ("none-judged", None, None),
    };
    let found = matches!(name, "found" | "between" | "all-good");
    let shown = args.recording.to_string_lossy();
    let shown = output::printable(shown.as_bytes()).into_owned();
    if args.json {
        output::json(&Report {
            recording: shown,
            outcome: name,
            last_good: good.filter(|_| found),
            first_bad: bad,
            runs,
        })?;
        return Ok(if found { 0 } else { Code::Nothing as u8 });
    }
    let line = |what: &str, at: At| {
        format!(
            "{what}: {shown}@{} ({} after the start)",
            at.checkpoint,
            units::show_ns(at.at_ns)
        )
    };
    let mut out = output::stdout();
    match (outcome, good, bad) {
        (Outcome::Found { .. } | Outcome::Between { .. }, Some(good), Some(bad)) => {
            writeln!(out, "{}", line("last good", good))?;
            writeln!(out, "{}", line("first bad", bad))?;
            if let Outcome::Between { good, bad } = outcome {
                writeln!(
                    out,
                    "{} moments between them could not be judged: the last good one may be any of \
                     them",
                    bad - good - 1
                )?;
            }
        }
        (Outcome::AllGood { .. }, Some(good), _) => {
            writeln!(out, "{}", line("last good", good))?;
            writeln!(
                out,
                "no bad moment was met: the last one that was asked passes"
            )?;
        }
        _ => {}
    }
    out.flush()?;
    let message = match outcome {
        Outcome::AllBad => {
            "no good moment: the first one fails, and so does the last; if one between them is good, \
             begin there with --from"
        }
        Outcome::Reversed { .. } => {
            "not monotone: the first moment fails and the last passes; choose a stretch that begins \
             well with --from and --to"
        }
        Outcome::NoneJudged => "no moment could be judged: the command always ended with 125",
        _ => return Ok(0),
    };
    Err(fail(Code::Nothing, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        let code = |c: i32| ExitStatus::from_raw(c << 8);
        assert_eq!(judged(code(0)), Ok((Verdict::Good, 0)));
        for bad in [1, 2, 124, 126, 127] {
            assert_eq!(judged(code(bad)), Ok((Verdict::Bad, bad)));
        }
        assert_eq!(judged(code(125)), Ok((Verdict::Skip, 125)));
        assert!(judged(code(128)).is_err());
        assert!(judged(code(255)).is_err());
        assert_eq!(
            judged(ExitStatus::from_raw(9)),
            Err("was killed by SIGKILL".to_owned())
        );
    }

    #[test]
    fn words_are_filled() {
        for (word, want) in [
            ("{}", "r@1"),
            ("a{}b{}", "ar@1br@1"),
            ("{{}}", "{r@1}"),
            ("{", "{"),
            ("", ""),
            ("none", "none"),
        ] {
            assert_eq!(filled(word.as_ref(), "r@1".as_ref()), want);
        }
        assert_eq!(
            moment(Path::new("a/r.still"), CheckpointId(7)),
            "a/r.still@7"
        );
    }
}
