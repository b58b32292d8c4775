//! Signals, timers and waits: the target sees nothing of us in them.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Result, ensure};
use rustix::process::Signal;
use std::time::Duration;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "signals::restarted_waits",
        about: "waits that Linux restarts end in time and without EINTR; signals keep count and order",
        run: restarted,
    },
    Scenario {
        name: "signals::interrupted_waits",
        about: "epoll_wait, which Linux ends with EINTR after any stop, ends in time and without it",
        run: interrupted,
    },
    Scenario {
        name: "signals::job_control",
        about: "a target stopped and continued by others while recorded is so as without us",
        run: job_control,
    },
];

fn waits(length: &Length, fragile: &str) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("signals.c")?;
    let options = ["--seconds", "20000", "--fragile", fragile];
    let mut target = Running::start(&mut command(exe, &options), dir.path())?;
    let pid = target.ready()?;
    let out = dir.path().join("run.still");
    let count = (length.checkpoints * 5).to_string();
    let mut recorder = still::attach(dir.path(), &["--hz", "100", "--count", &count], &out, pid)?;
    let patience = PATIENCE + Duration::from_secs(length.checkpoints);
    // If the target gives up, its verdict is the better explanation.
    while recorder.ended()?.is_none() && target.ended()?.is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    if target.ended()?.is_some() {
        target.verdict()?;
    }
    still::ended_with(&mut recorder, 0, patience)?;
    process::left_alone(pid)?;
    target.finish()?;
    still::verify(dir.path(), &out)?;
    passed(format!(
        "checkpoints {count}, {}",
        target.stdout().lines().last().unwrap_or_default()
    ))
}

fn restarted(length: &Length) -> Result<Outcome> {
    waits(length, "0")
}

/// The other calls that Linux ends with EINTR after a stop (`sigtimedwait`, `recv` with a time-out,
/// `semtimedop`: the target's kinds 2 to 4) do so under us, too: docs/limits.md.
fn interrupted(length: &Length) -> Result<Outcome> {
    waits(length, "1")
}

fn job_control(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("random_writes.c")?;
    let mut target = Running::start(
        &mut command(exe, &["--mib", "8", "--seconds", "20000"]),
        dir.path(),
    )?;
    let pid = target.ready()?;
    let out = dir.path().join("run.still");
    let mut recorder = still::attach(dir.path(), &["--hz", "100", "--paranoid"], &out, pid)?;
    process::wait_for("it is being recorded", || {
        process::status_value(pid, "TracerPid").is_ok_and(|t| t != "0")
            || recorder.ended().is_ok_and(|e| e.is_some())
    })?;
    ensure!(
        recorder.ended()?.is_none(),
        "the recorder ended: {}",
        recorder.stderr()
    );
    for _ in 0..5 {
        process::signal(pid, Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(60));
        // Under a tracer a stopped process shows as t or T; what counts is that it stands still.
        let before = process::cpu_ticks(pid)?;
        std::thread::sleep(Duration::from_millis(150));
        let after = process::cpu_ticks(pid)?;
        ensure!(
            after - before <= 3,
            "a stopped target ran for {} ticks",
            after - before
        );
        process::signal(pid, Signal::CONT)?;
        process::wait_for("it runs again", || {
            process::cpu_ticks(pid).is_ok_and(|t| t > after + 1)
        })?;
    }
    // Stopped when the recorder leaves: it must stay stopped, and continue when told.
    process::signal(pid, Signal::STOP)?;
    std::thread::sleep(Duration::from_millis(100));
    recorder.signal(Signal::INT)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    process::wait_for("it is stopped and untraced", || {
        process::state_of(pid) == Some('T')
            && process::status_value(pid, "TracerPid").is_ok_and(|t| t == "0")
    })?;
    process::signal(pid, Signal::CONT)?;
    process::wait_for("it runs", || process::state_of(pid) != Some('T'))?;
    process::left_alone(pid)?;
    target.finish()?;
    let summary = still::summary(&recorder.stdout())?;
    ensure!(summary.is_exact()?.checkpoints > 0, "no checkpoint");
    passed("")
}
