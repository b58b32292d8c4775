//! Cooperative points: what a program asks for is what the recording has.

use super::loads;
use crate::process::{self, PATIENCE, Running, command};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stillframe_image::{CheckpointId, Marks, SpaceId};
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "points::c",
        about: "checkpoints asked for from C hold the value of that moment, and carry its name",
        run: c,
    },
    Scenario {
        name: "points::rust",
        about: "the same from Rust",
        run: rust,
    },
    Scenario {
        name: "points::python",
        about: "the same from Python, through a library loaded while recording",
        run: python,
    },
    Scenario {
        name: "points::at_points",
        about: "--at-points takes checkpoints there and nowhere else",
        run: at_points,
    },
    Scenario {
        name: "points::alone",
        about: "without a recorder every call says that nobody records",
        run: alone,
    },
    Scenario {
        name: "points::killed",
        about: "SIGKILL of recorders under a loop of calls: no call hangs, none is wrong",
        run: killed,
    },
];

/// (thread, value, number) of every call that the target made.
fn calls(stdout: &str) -> Result<Vec<(u64, u64, i64)>> {
    let mut all = Vec::new();
    for line in stdout.lines() {
        let Some(rest) = line.strip_prefix("point ") else {
            continue;
        };
        let words: Vec<&str> = rest.split(' ').collect();
        let (thread, value, number) = match words.as_slice() {
            [value, number] => ("0", value, number),
            [thread, value, number] => (*thread, value, number),
            _ => anyhow::bail!("{line:?}"),
        };
        all.push((thread.parse()?, value.parse()?, number.parse()?));
    }
    Ok(all)
}

/// Every call was answered with a checkpoint that holds the caller's value and carries its name.
fn hold(
    recording: &Recording,
    out: &Path,
    cells: u64,
    calls: &[(u64, u64, i64)],
    name: impl Fn(u64, u64) -> String,
) -> Result<()> {
    for (thread, value, number) in calls {
        let context = || format!("thread {thread}, call {value}, answered {number}");
        let id = CheckpointId(u64::try_from(*number).with_context(context)?);
        let row = recording.row(id).with_context(context)?;
        ensure!(row.tick.marks.contains(Marks::POINT), "{}", context());
        let memory = recording.memory(id, SpaceId(0))?;
        let mut bytes = [0; 8];
        memory.read(cells + thread * 4096, &mut bytes)?;
        let found = u64::from_le_bytes(bytes);
        ensure!(found == *value, "{}: the cell has {found}", context());
        let name = name(*thread, *value);
        let points = recording.points(id)?;
        ensure!(
            points.iter().any(|p| p.name == name.as_bytes()),
            "{}: {points:?} have no {name}",
            context()
        );
        let moment = still::moment(out, &format!("point:{name}"));
        let (_, moment) = stillframe_store::split_moment(&moment.to_string_lossy())?;
        let meant = recording.resolve(&moment.context("no moment")?)?;
        ensure!(meant == id, "{}: {name} means {meant}", context());
    }
    Ok(())
}

fn names(thread: u64, value: u64) -> String {
    format!("t{thread}.{value}")
}

/// Launches a target under the recorder to its end, and checks its calls.
fn launched(
    options: &[&str],
    cmd: &[OsString],
    threads: usize,
    rounds: usize,
) -> Result<(tempfile::TempDir, String)> {
    let dir = place::scratch()?;
    let out = dir.path().join("run.still");
    let mut recorder = still::record(dir.path(), options, &out, cmd)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let said = recorder.stdout();
    ensure!(said.contains("recording 1 1"), "{said}");
    let calls = calls(&said)?;
    ensure!(calls.len() == threads * rounds, "{} calls", calls.len());
    let cells = recorder.address("cells")?;
    hold(&still::open(&out)?, &out, cells, &calls, names)?;
    still::verify(dir.path(), &out)?;
    Ok((dir, said))
}

fn c(_: &Length) -> Result<Outcome> {
    let exe = place::target("points.c")?;
    for (threads, more) in [
        (1, ["--blocked", "1"]),
        (1, ["--handler", "1"]),
        (3, ["--blocked", "0"]),
    ] {
        let mut cmd: Vec<OsString> = vec![exe.clone().into()];
        let count = threads.to_string();
        cmd.extend(["--rounds", "30", "--threads", &count].map(OsString::from));
        cmd.extend(more.map(OsString::from));
        for options in [&["--hz", "100"][..], &["--hz", "20", "--paranoid"]] {
            let context = || format!("{threads} threads, {more:?}, {options:?}");
            let (dir, said) = launched(options, &cmd, threads, 30).with_context(context)?;
            ensure!(said.contains("ok urgent 0"), "{}: {said}", context());
            if options.contains(&"--paranoid") {
                still::summary(&said)?.is_exact().with_context(context)?;
            }
            // Plain points, which do not wait: the fifth of a name is in the recording, and not
            // later than the checkpoint asked for right after it.
            let recording = still::open(&dir.path().join("run.still"))?;
            let fifth = recording.resolve(&"point:t0#5".parse()?)?;
            let after = recording.resolve(&"point:t0.5".parse()?)?;
            ensure!(fifth <= after, "{}: {fifth} and {after}", context());
            let absent = recording.resolve(&"point:t0#31".parse()?);
            ensure!(absent.is_err(), "a 31st of 30");
        }
    }
    passed("")
}

fn rust(_: &Length) -> Result<Outcome> {
    let cmd = [place::target("points.rs")?.into(), OsString::from("30")];
    launched(&["--hz", "100"], &cmd, 1, 30)?;
    passed("")
}

fn python(_: &Length) -> Result<Outcome> {
    let Some(python) = loads::python() else {
        return crate::skip("no python3 on this machine");
    };
    let examples = place::workspace().join("examples/points");
    let dir = place::scratch()?;
    let library = dir.path().join("libpoints.so");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-I"]);
    cc.arg(place::workspace().join("include"));
    cc.arg("-o").arg(&library).arg(examples.join("shim.c"));
    ensure!(cc.status()?.success(), "shim.c does not compile");
    let out = dir.path().join("run.still");
    let cmd = [
        python.into(),
        examples.join("points.py").into(),
        library.into(),
        OsString::from("30000"),
    ];
    let mut recorder = still::record(dir.path(), &["--hz", "50"], &out, &cmd)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let said = recorder.stdout();
    ensure!(said.contains("recording 1"), "{said}");
    let calls = calls(&said)?;
    ensure!(calls.len() == 5, "{} calls", calls.len());
    let cell = recorder.address("cell")?;
    let name = |_, value| format!("epoch {value}");
    hold(&still::open(&out)?, &out, cell, &calls, name)?;
    passed("")
}

fn at_points(_: &Length) -> Result<Outcome> {
    let exe = place::target("points.c")?;
    let mut cmd: Vec<OsString> = vec![exe.into()];
    cmd.extend(["--rounds", "10"].map(OsString::from));
    let (dir, _) = launched(&["--at-points"], &cmd, 1, 10)?;
    let recording = still::open(&dir.path().join("run.still"))?;
    // The start, ten points and ten checkpoints asked for, the exit.
    let rows = recording.rows().len();
    ensure!(rows == 22, "{rows} checkpoints");
    for row in recording.rows() {
        let special = row.tick.marks.contains(Marks::FULL) || row.tick.marks.contains(Marks::EXIT);
        ensure!(
            special != row.tick.marks.contains(Marks::POINT),
            "checkpoint {}: {:?}",
            row.id,
            row.tick.marks
        );
    }
    passed("")
}

fn alone(_: &Length) -> Result<Outcome> {
    let exe = place::target("points.c")?;
    let dir = place::scratch()?;
    let mut target = Running::start(
        &mut command(exe, &["--rounds", "50", "--alone", "1", "--handler", "1"]),
        dir.path(),
    )?;
    target.wait(PATIENCE)?;
    let said = target.stdout();
    ensure!(said.contains("recording 0 0"), "{said}");
    ensure!(said.contains("ok urgent 0"), "{said}");
    let calls = calls(&said)?;
    ensure!(
        calls.len() == 50 && calls.iter().all(|c| c.2 == -1),
        "{said}"
    );
    passed("")
}

fn killed(length: &Length) -> Result<Outcome> {
    let (mut random, seed) = Random::seeded();
    let exe = place::target("points.c")?;
    let dir = place::scratch()?;
    let mut target = Running::start(
        &mut command(exe, &["--threads", "2", "--alone", "1"]),
        dir.path(),
    )?;
    let pid = target.ready()?;
    let kills = length.kills.max(50);
    let mut checkpoints = 0;
    for round in 0..kills {
        let context = || format!("kill {round}, seed {seed}");
        let out = still::fresh(dir.path(), "run.still");
        let mut recorder = still::attach(dir.path(), &["--hz", "50"], &out, pid)?;
        process::wait_for("a checkpoint that was asked for", || {
            recorder.ended().is_ok_and(|e| e.is_some())
                || Recording::open(&out).is_ok_and(|r| {
                    let asked = |r: &stillframe_store::Row| r.tick.marks.contains(Marks::POINT);
                    r.rows().iter().any(asked)
                })
        })
        .with_context(context)?;
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        recorder.signal(Signal::KILL).with_context(context)?;
        recorder.wait(PATIENCE)?;
        process::wait_for("the target is left alone", || {
            process::left_alone(pid).is_ok() || !process::alive(pid)
        })
        .with_context(context)?;
        ensure!(
            target.ended()?.is_none(),
            "{}: the target ended: {}",
            context(),
            target.stdout()
        );
        checkpoints += Recording::open(&out).map_or(0, |r| r.rows().len());
    }
    // Every thread comes out of whatever call it was in, and has been answered.
    target.finish().with_context(|| format!("seed {seed}"))?;
    let said = target.stdout();
    ensure!(said.contains("ok urgent 0"), "{said}");
    for thread in 0..2 {
        let line = said
            .lines()
            .find(|l| l.starts_with(&format!("thread {thread} ")))
            .context("a thread said nothing")?;
        ensure!(!line.contains(" answered 0 "), "{line}");
    }
    passed(format!(
        "kills {kills}, checkpoints left {checkpoints}, seed {seed}"
    ))
}
