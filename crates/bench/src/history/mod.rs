//! `still bench history`: what questions about the past cost.
//!
//! One recording of a big process over many checkpoints, made by the real recorder; every thing is
//! measured once a round, in turn, each from a recording just opened, and the median over the rounds
//! counts. Beside it what one would do without an index: the same question at every checkpoint, and
//! GDB on exported cores.

mod gdb;
mod maker;
mod ours;

use crate::args::HistoryBench;
use crate::marks::{Mark, Verdict, mark};
use crate::recorder::wall_ns;
use crate::report::{self, Absent, Machine};
use crate::stats::Spread;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;
use stillframe_store::Recording;

/// What questions are asked of.
#[derive(Debug)]
pub struct Subject {
    recording: PathBuf,
    /// The program that was recorded, with its debug information.
    program: PathBuf,
    /// A variable on a page of its own that changed [`maker::CHANGES`] times.
    alone: u64,
    /// The same on a page that is written all the time.
    among: u64,
    /// One that changed all the time.
    hot: u64,
    /// What making the recording took, if it was made now.
    made_seconds: Option<f64>,
}

/// One thing that is measured again and again.
struct Measure<'a> {
    name: String,
    how: String,
    run: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Measure<'a> {
    /// `run` returns milliseconds.
    fn new(name: &str, how: &str, run: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self {
            name: name.to_owned(),
            how: how.to_owned(),
            run: Box::new(run),
        }
    }
}

/// One result.
#[derive(Clone, Debug, Serialize)]
struct Case {
    name: String,
    how: String,
    ms: Spread,
    rounds: usize,
}

/// A command, from its start to its end.
#[derive(Clone, Debug, Serialize)]
struct Command {
    /// As typed, without the recording.
    what: String,
    ms: Spread,
    /// Most memory that any of its runs had.
    peak_mib: f64,
    /// Bytes of its output.
    output_bytes: usize,
}

/// The recording.
#[derive(Clone, Debug, Serialize)]
struct Facts {
    path: String,
    checkpoints: u64,
    seconds: f64,
    process_mib: f64,
    stored_mib: f64,
    dirty_pages_mean: f64,
    made_seconds: Option<f64>,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
struct Report {
    machine: Machine,
    started_wall_ns: u64,
    seconds: f64,
    recording: Facts,
    cases: Vec<Case>,
    commands: Vec<Command>,
    gdb: Option<gdb::Scan>,
    marks: Vec<Mark>,
    skipped: Vec<Absent>,
    failed: Vec<Absent>,
}

/// Measures, prints, writes.
///
/// # Errors
/// If the recording cannot be made, or something could not be measured.
pub fn run(args: &HistoryBench) -> Result<()> {
    let begun = Instant::now();
    let started_wall_ns = wall_ns();
    let machine = Machine::here();
    let mut say = |line: &str| {
        // Progress that nobody reads is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "bench: {:>5.0} s: {line}",
            begun.elapsed().as_secs_f64()
        );
    };
    if machine.debug_build {
        say("this is not a release build: its figures are no figures");
    }
    let scratch = tempfile::tempdir()?;
    let path = match &args.recording {
        Some(path) => std::path::absolute(path)?,
        None => scratch.path().join("bench.still"),
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let subject = maker::recording(args, &path, &mut say)?;
    let recording = facts(&subject)?;
    let (mut skipped, mut failed) = (Vec::new(), Vec::new());
    let mut all = ours::library(&subject, recording.checkpoints);
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    for round in 0..args.rounds as usize {
        say(&format!("round {} of {}", round + 1, args.rounds));
        for i in 0..all.len() {
            // Another one begins each round, so that none always follows the same.
            let i = (i + round) % all.len();
            let measure = &mut all[i];
            match (measure.run)() {
                Ok(ms) => values[i].push(ms),
                Err(error) => {
                    let what = format!("{}, {}", measure.name, measure.how);
                    let why = format!("{error:#}").replace('\n', " ");
                    if failed.iter().all(|f: &Absent| f.what != what) {
                        say(&format!("FAILED: {what}: {why}"));
                        failed.push(Absent { what, why });
                    }
                }
            }
        }
    }
    let cases: Vec<Case> = all
        .iter()
        .zip(&values)
        .filter(|(_, values)| !values.is_empty())
        .map(|(measure, values)| Case {
            name: measure.name.clone(),
            how: measure.how.clone(),
            ms: Spread::of(values),
            rounds: values.len(),
        })
        .collect();
    drop(all);
    let mut commands = Vec::new();
    for args_of in ours::commands(&subject, recording.checkpoints) {
        let what = args_of.words.join(" ").replace(&recording.path, "REC");
        say(&format!("still {what}"));
        match measured(&args_of, args.rounds, scratch.path()) {
            Ok((ms, peak, output_bytes)) => commands.push(Command {
                what,
                ms,
                peak_mib: mib(peak),
                output_bytes,
            }),
            Err(error) => failed.push(Absent {
                what: format!("still {what}"),
                why: format!("{error:#}").replace('\n', " "),
            }),
        }
    }
    let mut scan = None;
    if args.no_peers {
    } else if crate::process::program("gdb").is_none() {
        let why = "not installed (no gdb in PATH)".to_owned();
        say(&format!("SKIPPED: GDB: {why}"));
        skipped.push(Absent {
            what: "GDB on exported cores".to_owned(),
            why,
        });
    } else {
        say("GDB on exported cores");
        match gdb::scan(&subject, args.cores, scratch.path()) {
            Ok(found) => scan = Some(found),
            Err(error) => failed.push(Absent {
                what: "GDB on exported cores".to_owned(),
                why: format!("{error:#}").replace('\n', " "),
            }),
        }
    }
    let report = Report {
        machine,
        started_wall_ns,
        seconds: begun.elapsed().as_secs_f64(),
        marks: judge(&cases, &commands, &recording),
        recording,
        cases,
        commands,
        gdb: scan,
        skipped,
        failed,
    };
    report::publish(&report, &report.text()?, args.json.as_deref())?;
    match report.failed.len() {
        0 => Ok(()),
        n => bail!("{n} things could not be measured"),
    }
}

/// A command, `rounds` times: times, most memory, length of the output.
fn measured(
    command: &ours::Typed,
    rounds: u32,
    dir: &std::path::Path,
) -> Result<(Spread, u64, usize)> {
    let (mut times, mut peak, mut length) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        let words = command.at(round);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (said, took, most) = ours::command(&words, dir)?;
        length = said.len();
        ensure!(length > 0, "it printed nothing");
        times.push(took);
        peak = peak.max(most);
    }
    Ok((Spread::of(&times), peak, length))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}

fn facts(subject: &Subject) -> Result<Facts> {
    let recording = Recording::open(&subject.recording)?;
    let rows = recording.rows();
    let last = rows.last().context("the recording is empty")?;
    let space = recording.process(last.id, stillframe_image::SpaceId(0));
    // The last one may be at the exit, when all memory is gone.
    let space = match space {
        Ok(process) if !process.space.mappings.is_empty() => process,
        _ => {
            let middle = rows.get(rows.len() / 2).context("the recording is empty")?;
            recording.process(middle.id, stillframe_image::SpaceId(0))?
        }
    };
    let mapped = space.space.mappings.iter().map(|m| m.end - m.start).sum();
    let dirty: u64 = rows
        .iter()
        .skip(rows.len() / 2)
        .map(|r| r.tick.dirty_pages)
        .sum();
    ensure!(mapped > 0, "the process has no memory");
    Ok(Facts {
        path: subject.recording.display().to_string(),
        checkpoints: rows.len() as u64,
        seconds: last.tick.at_ns as f64 / 1e9,
        process_mib: mib(mapped),
        stored_mib: mib(rows.iter().map(|r| r.stored_bytes).sum()),
        dirty_pages_mean: dirty as f64 / (rows.len() - rows.len() / 2) as f64,
        made_seconds: subject.made_seconds,
    })
}

/// The marks the project set itself. Only a recording of the size that they are about can meet them.
fn judge(cases: &[Case], commands: &[Command], facts: &Facts) -> Vec<Mark> {
    let big = facts.checkpoints >= 20_000 && facts.process_mib >= 512.0;
    let found = |name: &str, how: &str| {
        cases
            .iter()
            .find(|c| c.name == name && c.how == how)
            .filter(|_| big)
            .map(|c| c.ms)
    };
    let within = |name: &str, how: &str, limit: f64| {
        found(name, how).map(|s| {
            (
                format!("{:.2} ms ({:.2} to {:.2})", s.median, s.min, s.max),
                s.median <= limit,
            )
        })
    };
    // Loading debug information takes the same time either way, and is in the mark before.
    let ratio = |name: &str, when: &str| {
        let of = |how: &str| found(name, &format!("{how}{when}"));
        let (walk, every) = (of("by what changed")?, of("every checkpoint")?);
        let times = every.median / walk.median;
        Some((format!("{times:.0} times"), times >= 100.0))
    };
    let mut marks = vec![
        mark(
            "opening the recording",
            "<= 50 ms",
            within("open", "the recording", 50.0),
        ),
        mark(
            "history of a variable that changed 50 times",
            "<= 20 ms",
            within(
                "history of the variable alone.value",
                "by what changed",
                20.0,
            ),
        ),
        mark(
            "the same against asking every checkpoint",
            ">= 100 times",
            ratio("history of the variable alone.value", ", loaded"),
        ),
    ];
    marks.push(mark(
        "stacks of all threads, random moment, warm",
        "<= 50 ms",
        within("stacks of a random moment", "warm", 50.0),
    ));
    marks.push(mark(
        "GDB: reverse-continue with a watchpoint",
        "<= 100 ms",
        within("reverse-continue, watchpoint", "in GDB", 100.0),
    ));
    let most = commands
        .iter()
        .max_by(|a, b| a.peak_mib.total_cmp(&b.peak_mib));
    if let Some(c) = most {
        marks.push(Mark {
            figure: "most memory of a command".to_owned(),
            mark: "-".to_owned(),
            measured: format!("{:.0} MiB ({})", c.peak_mib, c.what),
            verdict: Verdict::Reported,
        });
    }
    for (name, how) in [
        ("history among", "by what changed"),
        ("history hot", "by what changed"),
        ("find hot > 3/4 of its last", "first moment"),
    ] {
        if let Some((measured, _)) = within(name, how, f64::INFINITY) {
            marks.push(Mark {
                figure: format!("{name}, {how}"),
                mark: "-".to_owned(),
                measured,
                verdict: Verdict::Reported,
            });
        }
    }
    marks
}

impl Report {
    /// For people: at most 120 columns.
    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let r = &self.recording;
        writeln!(out, "{}", self.machine.headline(self.seconds))?;
        writeln!(
            out,
            "recording: {} checkpoints over {:.1} s, process {:.0} MiB, {:.0} pages written each, {:.0} MiB stored",
            r.checkpoints, r.seconds, r.process_mib, r.dirty_pages_mean, r.stored_mib
        )?;
        writeln!(
            out,
            "\n{:<36} {:<26} {:>12} {:>12} {:>12}",
            "question", "how", "median ms", "min", "max"
        )?;
        for c in &self.cases {
            writeln!(
                out,
                "{:<36} {:<26} {:>12.3} {:>12.3} {:>12.3}",
                c.name, c.how, c.ms.median, c.ms.min, c.ms.max
            )?;
        }
        writeln!(
            out,
            "\n{:<72} {:>12} {:>10} {:>8}",
            "command, from its start to its end", "median ms", "max", "peak MiB"
        )?;
        for c in &self.commands {
            writeln!(
                out,
                "{:<72} {:>12.1} {:>10.1} {:>8.0}",
                c.what, c.ms.median, c.ms.max, c.peak_mib
            )?;
        }
        if let Some(g) = &self.gdb {
            writeln!(
                out,
                "\n{} on exported cores: {:.0} ms to export one, {:.0} ms to ask it (medians of {}). All {} \
                 checkpoints would take {:.1} h,\n{:.1} h of it GDB: computed, not measured.",
                g.version,
                g.export_ms,
                g.gdb_ms,
                g.cores,
                r.checkpoints,
                g.all_hours,
                g.all_gdb_hours
            )?;
        }
        writeln!(
            out,
            "\n{:<48} {:<14} {:<36} verdict",
            "mark", "held to", "measured"
        )?;
        for m in &self.marks {
            writeln!(
                out,
                "{:<48} {:<14} {:<36} {}",
                m.figure,
                m.mark,
                m.measured,
                m.verdict.word()
            )?;
        }
        for (word, absent) in [("SKIPPED", &self.skipped), ("FAILED", &self.failed)] {
            for a in absent {
                writeln!(out, "{word}: {}: {}", a.what, a.why)?;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, how: &str, ms: f64) -> Case {
        let ms = Spread {
            median: ms,
            min: ms,
            max: ms,
        };
        Case {
            name: name.to_owned(),
            how: how.to_owned(),
            ms,
            rounds: 1,
        }
    }

    fn facts(checkpoints: u64) -> Facts {
        Facts {
            path: String::new(),
            checkpoints,
            seconds: 20.0,
            process_mib: 513.0,
            stored_mib: 100.0,
            dirty_pages_mean: 10.0,
            made_seconds: None,
        }
    }

    #[test]
    fn marks_are_for_recordings_of_their_size() {
        let name = "history of the variable alone.value";
        let cases = [
            case("open", "the recording", 51.0),
            case(name, "by what changed", 2.0),
            case(name, "by what changed, loaded", 1.0),
            case(name, "every checkpoint, loaded", 100.0),
        ];
        let verdicts = |n| {
            judge(&cases, &[], &facts(n))
                .iter()
                .map(|m| m.verdict)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            verdicts(20_000),
            [
                Verdict::Missed,
                Verdict::Met,
                Verdict::Met,
                Verdict::NotMeasured,
                Verdict::NotMeasured
            ]
        );
        assert_eq!(verdicts(19_999), [Verdict::NotMeasured; 5]);
    }
}
