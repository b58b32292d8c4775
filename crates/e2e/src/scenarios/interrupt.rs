//! Ctrl-C, and the limits of time and number.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "interrupt::attached",
        about: "Ctrl-C and SIGTERM end a recording and leave an attached target running",
        run: attached,
    },
    Scenario {
        name: "interrupt::launched",
        about: "Ctrl-C reaches a launched target, whose exit status becomes ours",
        run: launched,
    },
    Scenario {
        name: "interrupt::limits",
        about: "--count and --for end a recording in time",
        run: limits,
    },
];

fn attached(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("quiet.c")?;
    let mut target = Running::start(&mut command(exe, &["--seconds", "1000"]), dir.path())?;
    let pid = target.ready()?;
    for signal in [Signal::INT, Signal::TERM] {
        let out = still::fresh(dir.path(), "run.still");
        let mut recorder = still::attach(dir.path(), &["--hz", "100"], &out, pid)?;
        has_checkpoints(&out, &mut recorder)?;
        recorder.signal(signal)?;
        still::ended_with(&mut recorder, 0, PATIENCE)?;
        ensure!(
            still::summary(&recorder.stdout())?.checkpoints > 0,
            "no checkpoint"
        );
        still::verify(dir.path(), &out)?;
        ensure!(
            target.ended()?.is_none(),
            "the target ended with the recorder"
        );
        process::left_alone(pid)?;
    }
    target.finish()?;
    passed("")
}

fn has_checkpoints(out: &std::path::Path, recorder: &mut Running) -> Result<()> {
    process::wait_for("there is a checkpoint", || {
        Recording::open(out).is_ok_and(|r| r.rows().len() > 2)
            || recorder.ended().is_ok_and(|e| e.is_some())
    })?;
    ensure!(
        recorder.ended()?.is_none(),
        "the recorder ended: {}",
        recorder.stderr()
    );
    Ok(())
}

fn launched(_: &Length) -> Result<Outcome> {
    let exe = place::target("quiet.c")?;
    // (the target catches SIGINT and ends with status 5, or not; to the group as from a terminal)
    for (catch, group, status) in [
        (true, true, 5),
        (false, true, 130),
        (true, false, 5),
        (false, false, 130),
    ] {
        let dir = place::scratch()?;
        let out = dir.path().join("run.still");
        let mut cmd: Vec<OsString> = vec![exe.clone().into()];
        cmd.extend(["--seconds", "1000", "--status", "5"].map(OsString::from));
        if catch {
            cmd.extend(["--catch", "1"].map(OsString::from));
        }
        let mut recorder = still::record(dir.path(), &["--hz", "100"], &out, &cmd)?;
        let pid = recorder.ready()?;
        has_checkpoints(&out, &mut recorder)?;
        if group {
            recorder.signal_group(Signal::INT)?;
        } else {
            recorder.signal(Signal::INT)?;
        }
        still::ended_with(&mut recorder, status, PATIENCE)?;
        ensure!(!process::alive(pid), "the target outlived its recorder");
        still::verify(dir.path(), &out)?;
    }
    passed("")
}

fn limits(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("quiet.c")?;
    let mut target = Running::start(&mut command(exe, &["--seconds", "1000"]), dir.path())?;
    let pid = target.ready()?;
    let out = dir.path().join("count.still");
    let mut recorder = still::attach(dir.path(), &["--hz", "200", "--count", "7"], &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    ensure!(still::open(&out)?.rows().len() == 7, "not 7 checkpoints");
    let out = dir.path().join("time.still");
    let mut recorder = still::attach(dir.path(), &["--hz", "20", "--for", "500ms"], &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let rows = still::open(&out)?.rows().len();
    ensure!(
        (1..=11).contains(&rows),
        "{rows} checkpoints in half a second at 20 Hz"
    );
    // Quiet is quiet; human output names the next useful command.
    for (flag, silent) in [("--quiet", true), ("--hz=50", false)] {
        let out = still::fresh(dir.path(), "run.still");
        let mut c = still::still(&["attach", flag, "--count", "2", "-o"])?;
        let mut recorder = Running::start(c.arg(&out).arg(pid.to_string()), dir.path())?;
        still::ended_with(&mut recorder, 0, PATIENCE)?;
        let said = recorder.stdout() + &recorder.stderr();
        ensure!(said.trim().is_empty() == silent, "with {flag}: {said:?}");
        ensure!(
            silent || said.contains("still "),
            "no next command is named: {said:?}"
        );
    }
    process::left_alone(pid)?;
    target.finish()?;
    passed("")
}
