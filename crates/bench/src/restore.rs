//! `still bench restore`: what bringing a moment back costs.
//!
//! A process of a given size is recorded by the real command; then its last checkpoint is restored,
//! stopped before its first instruction, again and again. Two times count: how long the restoring
//! itself took, as the command tells it, and the command from its start to its end, which is what a
//! user waits. Memory is there as a whole by then, lazily or not. CRIU, where it is installed and works, dumps and
//! restores the same process. What going back in place costs is measured by [`rollback`].

mod rollback;

use crate::args::RestoreBench;
use crate::marks::{Mark, mark};
use crate::process::{PATIENCE, Running, program, tail, wait_for};
use crate::recorder::wall_ns;
use crate::report::{self, Absent, Machine};
use crate::stats::Spread;
use anyhow::{Context as _, Result, bail, ensure};
use rollback::Rollbacks;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const EAGERLY: &str = "still restore";
const LAZILY: &str = "still restore --lazy";

/// One way to bring a process back, measured.
#[derive(Clone, Debug, Serialize)]
struct Case {
    /// Memory of the process, MiB.
    mib: u32,
    how: String,
    /// Until it could run, ms, as far as it is told.
    ready_ms: Option<Spread>,
    /// The command from its start to its end, ms.
    command_ms: Spread,
    rounds: usize,
}

#[derive(Clone, Debug, Serialize)]
struct Report {
    machine: Machine,
    started_wall_ns: u64,
    seconds: f64,
    cases: Vec<Case>,
    rollbacks: Rollbacks,
    marks: Vec<Mark>,
    skipped: Vec<Absent>,
}

/// Measures, prints, writes.
///
/// # Errors
/// If a process cannot be recorded or restored.
pub fn run(args: &RestoreBench) -> Result<()> {
    let begun = Instant::now();
    let started_wall_ns = wall_ns();
    let machine = Machine::here();
    let say = |line: &str| {
        // Progress that nobody reads is no reason to stop.
        let seconds = begun.elapsed().as_secs_f64();
        let _ = writeln!(std::io::stderr(), "bench: {seconds:>5.0} s: {line}");
    };
    if machine.debug_build {
        say("this is not a release build: its figures are no figures");
    }
    let sizes = match args.mib.as_slice() {
        [] => &[256, 1024][..],
        typed => typed,
    };
    let (mut cases, mut skipped) = (Vec::new(), Vec::new());
    for mib in sizes {
        let scratch = tempfile::tempdir()?;
        say(&format!("recording a process of {mib} MiB"));
        let recording = record(*mib, scratch.path())?;
        say(&format!("restoring it {} times", args.rounds));
        cases.push(ours(*mib, &recording, args.rounds, false)?);
        match ours(*mib, &recording, args.rounds, true) {
            Ok(case) => cases.push(case),
            Err(error) => {
                let why = format!("{error:#}").replace('\n', " ");
                say(&format!("SKIPPED: lazily, {mib} MiB: {why}"));
                let what = format!("still restore --lazy, {mib} MiB");
                skipped.push(Absent { what, why });
            }
        }
        if args.no_peers {
            continue;
        }
        match criu(*mib, args.rounds, scratch.path()) {
            Ok(case) => cases.push(case),
            Err(error) => {
                let why = format!("{error:#}").replace('\n', " ");
                say(&format!("SKIPPED: CRIU, {mib} MiB: {why}"));
                let what = format!("CRIU, {mib} MiB");
                skipped.push(Absent { what, why });
            }
        }
    }
    if !args.no_peers {
        let why = if program("dmtcp_launch").is_some() {
            "installed, and not driven by this bench: start it by hand"
        } else {
            "not installed (no dmtcp_launch in PATH)"
        };
        say(&format!("SKIPPED: DMTCP: {why}"));
        skipped.push(Absent {
            what: "DMTCP".to_owned(),
            why: why.to_owned(),
        });
    }
    say(&format!("rolling back {} times", args.rounds));
    let scratch = tempfile::tempdir()?;
    let rollbacks = rollback::measure(args.rounds, scratch.path())?;
    let report = Report {
        machine,
        started_wall_ns,
        seconds: begun.elapsed().as_secs_f64(),
        marks: judge(&cases, &rollbacks),
        cases,
        rollbacks,
        skipped,
    };
    report::publish(&report, &report.text()?, args.json.as_deref())
}

fn us() -> Result<PathBuf> {
    std::env::current_exe().context("our own executable")
}

/// A process of this size, waiting at its standard input.
fn subject(mib: u32, how: &[&str]) -> Result<Running> {
    let mut command = Command::new(us()?);
    command
        .args(["bench", "target", "random", "--mib", &mib.to_string()])
        .args(how)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut running = Running::start(&mut command, "the process to be restored")?;
    let out = running.child().stdout.take().context("its output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line.starts_with("ready"), "the process said {line:?}");
    Ok(running)
}

fn record(mib: u32, dir: &Path) -> Result<PathBuf> {
    let subject = subject(mib, &[])?;
    let (recording, errors) = (dir.join("bench.still"), dir.join("record.err"));
    let mut command = Command::new(us()?);
    command
        .args(["attach", "--quiet", "--hz", "10", "--count", "2", "-o"])
        .arg(&recording)
        .arg(subject.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(crate::process::file(&errors)?);
    let status = Running::start(&mut command, "the recorder")?.wait(PATIENCE)?;
    ensure!(
        status.success(),
        "the recorder ended with {status}: {}",
        tail(&errors)
    );
    Ok(recording)
}

fn ours(mib: u32, recording: &Path, rounds: u32, lazy: bool) -> Result<Case> {
    let mut moment = recording.as_os_str().to_owned();
    moment.push("@last");
    // Files: what is restored has the streams as well, and an end of a pipe would not come.
    let said = recording.with_extension("out");
    let errors = recording.with_extension("err");
    let (mut ready, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut command = Command::new(us()?);
        command
            .args(["restore", "--detach", "--stopped", "--json"])
            .args(lazy.then_some("--lazy"))
            .arg(&moment)
            .stdin(Stdio::null())
            .stdout(crate::process::file(&said)?)
            .stderr(crate::process::file(&errors)?);
        let begun = Instant::now();
        let status = command.status().context("cannot start still restore")?;
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(status.success(), "still restore: {}", tail(&errors));
        let all: Value =
            serde_json::from_slice(&std::fs::read(&said)?).context("what it printed")?;
        let number = |key: &str| all.get(0).and_then(|one| one.get(key)?.as_u64());
        let pid = number("pid").context("it printed no pid")?;
        let took = number("took_ns").context("it printed no time")?;
        kill(u32::try_from(pid)?)?;
        ready.push(took as f64 / 1e6);
    }
    Ok(Case {
        mib,
        how: if lazy { LAZILY } else { EAGERLY }.to_owned(),
        ready_ms: Some(Spread::of(&ready)),
        command_ms: Spread::of(&whole),
        rounds: whole.len(),
    })
}

fn kill(pid: u32) -> Result<()> {
    let process = Pid::from_raw(pid.cast_signed()).context("no pid")?;
    kill_process(process, Signal::KILL).context("killing what was restored")?;
    wait_for("the end of what was restored", PATIENCE, || {
        // It is nobody's child that we could wait for; a zombie counts as gone.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok(stat.is_empty() || stat.contains(") Z "))
    })
}

/// CRIU on a process of the same size: dumped once, restored several times.
fn criu(mib: u32, rounds: u32, dir: &Path) -> Result<Case> {
    let Some(criu) = program("criu") else {
        bail!("not installed (no criu in PATH)");
    };
    let images = dir.join("criu");
    std::fs::create_dir_all(&images)?;
    let run = |words: &[&str]| -> Result<f64> {
        let mut command = Command::new(&criu);
        command.args(words).arg("-D").arg(&images);
        command.args(["--shell-job", "-v0"]).stdin(Stdio::null());
        let begun = Instant::now();
        let out = command.output().context("cannot start criu")?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let said = String::from_utf8_lossy(&out.stderr);
        let first = said.lines().next().unwrap_or_default();
        ensure!(
            out.status.success(),
            "criu {}: {} {first}",
            words[0],
            out.status
        );
        Ok(took)
    };
    let subject = subject(mib, &[])?;
    let pid = subject.pid();
    run(&["dump", "--tree", &pid.to_string()])?;
    drop(subject);
    let mut whole = Vec::new();
    for _ in 0..rounds {
        whole.push(run(&["restore", "--restore-detached"])?);
        kill(pid)?;
        // The next one gets the same number.
        wait_for(
            "the number of what CRIU restored to be free",
            PATIENCE,
            || Ok(!Path::new(&format!("/proc/{pid}")).exists()),
        )?;
    }
    Ok(Case {
        mib,
        how: "criu restore".to_owned(),
        ready_ms: None,
        command_ms: Spread::of(&whole),
        rounds: whole.len(),
    })
}

fn judge(cases: &[Case], rollbacks: &Rollbacks) -> Vec<Mark> {
    let find = |how: &str| cases.iter().find(|c| c.how == how && c.mib == 1024);
    let lazy = find(LAZILY).and_then(|c| c.ready_ms);
    let ratio = lazy.zip(find("criu restore")).map(|(ours, criu)| {
        let times = criu.command_ms.median / ours.median;
        (format!("{times:.1} times"), times >= 10.0)
    });
    vec![
        mark(
            "until the first instruction, lazily, 1 GiB",
            "<= 30 ms",
            lazy.map(|s| (format!("{:.1} ms", s.median), s.median <= 30.0)),
        ),
        mark("sooner than criu restore, 1 GiB", ">= 10 times", ratio),
        mark("rollback of 1,000 pages", "<= 5 ms", {
            let ms = rollbacks.stood_ms.median;
            Some((format!("{ms:.1} ms"), ms <= 5.0))
        }),
    ]
}

impl Report {
    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        writeln!(out, "{}", self.machine.headline(self.seconds))?;
        writeln!(
            out,
            "\n{:>6} {:<24} {:>14} {:>10} {:>10} {:>14} {:>10}",
            "MiB", "how", "can run, ms", "min", "max", "command, ms", "max"
        )?;
        for c in &self.cases {
            let show = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.1}"));
            writeln!(
                out,
                "{:>6} {:<24} {:>14} {:>10} {:>10} {:>14.1} {:>10.1}",
                c.mib,
                c.how,
                show(c.ready_ms.map(|s| s.median)),
                show(c.ready_ms.map(|s| s.min)),
                show(c.ready_ms.map(|s| s.max)),
                c.command_ms.median,
                c.command_ms.max
            )?;
        }
        let r = &self.rollbacks;
        writeln!(
            out,
            "\nrollback of {:.0} pages, {} times: stood still {:.1} ms (min {:.1}, max {:.1}), \
             command {:.1} ms (max {:.1})",
            r.pages.median,
            r.rounds,
            r.stood_ms.median,
            r.stood_ms.min,
            r.stood_ms.max,
            r.command_ms.median,
            r.command_ms.max
        )?;
        writeln!(
            out,
            "\n{:<40} {:<14} {:<20} verdict",
            "mark", "held to", "measured"
        )?;
        for m in &self.marks {
            let word = m.verdict.word();
            writeln!(
                out,
                "{:<40} {:<14} {:<20} {word}",
                m.figure, m.mark, m.measured
            )?;
        }
        for a in &self.skipped {
            writeln!(out, "SKIPPED: {}: {}", a.what, a.why)?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::Verdict;

    fn case(how: &str, mib: u32, ms: f64) -> Case {
        let spread = Spread::of(&[ms]);
        Case {
            mib,
            how: how.to_owned(),
            ready_ms: Some(spread),
            command_ms: spread,
            rounds: 1,
        }
    }

    #[test]
    fn marks_are_for_a_gibibyte() {
        let spread = |of: f64| Spread::of(&[of]);
        let rollbacks = Rollbacks {
            pages: spread(1000.0),
            stood_ms: spread(6.0),
            command_ms: spread(30.0),
            rounds: 1,
        };
        let verdicts = |cases: &[Case]| -> Vec<Verdict> {
            let marks = judge(cases, &rollbacks);
            assert_eq!(marks.last().map(|m| m.verdict), Some(Verdict::Missed));
            marks[..2].iter().map(|m| m.verdict).collect()
        };
        let small = [case(LAZILY, 256, 1.0), case(EAGERLY, 1024, 1.0)];
        assert_eq!(verdicts(&small), [Verdict::NotMeasured; 2]);
        let both = [case(LAZILY, 1024, 20.0), case("criu restore", 1024, 190.0)];
        assert_eq!(verdicts(&both), [Verdict::Met, Verdict::Missed]);
        assert_eq!(verdicts(&both[..1]), [Verdict::Met, Verdict::NotMeasured]);
    }
}
