//! State other than memory, and what can go wrong.

use super::{Target, back, record};
use crate::process::{self, Running, command, wait_for};
use crate::random::Random;
use crate::{Length, Outcome, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::time::Duration;

/// The phase of `rollback_state.c`.
fn phase(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn second(run: &mut Running, pid: u32) -> Result<()> {
    run.signal(Signal::HUP)?;
    wait_for("the second phase", || {
        phase(pid) == "second" || !process::alive(pid)
    })?;
    ensure!(process::alive(pid), "the target ended: {}", run.stdout());
    Ok(())
}

pub(super) fn signals(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let target = place::target("rollback_state.c")?;
    let mut run = Running::start(&mut command(target, &[] as &[&str]), dir.path())?;
    let pid = run.ready()?;
    let rec = record(dir.path(), pid, 3)?;
    let rounds = if length.full { 50 } else { 5 };
    for round in 0..rounds {
        second(&mut run, pid).with_context(|| format!("round {round}"))?;
        back(dir.path(), pid, &rec, "0")?;
        ensure!(phase(pid) == "first", "its name is {}", phase(pid));
    }
    second(&mut run, pid)?;
    process::left_alone(pid)?;
    run.finish()?;
    passed(format!("rollbacks {rounds}"))
}

pub(super) fn identity(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let script = "echo ready $$; kill -STOP $$; exec sleep 100";
    let mut run = Running::start(&mut command("sh", &["-c", script]), dir.path())?;
    let pid = run.ready()?;
    wait_for("it stops", || process::state_of(pid) == Some('T'))?;
    let rec = record(dir.path(), pid, 2)?;
    let refuse = |pid: u32, what: &str| -> Result<()> {
        let args = [
            "rollback".into(),
            pid.to_string().into(),
            still::moment(&rec, "1"),
        ];
        let code = if what.contains("not in") { 4 } else { 3 };
        let line = still::refused(dir.path(), &args, code)?;
        ensure!(line.contains(what), "{line}");
        Ok(())
    };
    refuse(std::process::id(), "is not in checkpoint 1")?;
    run.signal(Signal::CONT)?;
    wait_for("it execs", || phase(pid) == "sleep")?;
    refuse(pid, "runs another program now")?;
    process::left_alone(pid)?;
    ensure!(process::state_of(pid) == Some('S'), "it does not run on");
    passed("")
}

pub(super) fn killed(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let options = [
        "--threads",
        "3",
        "--steps",
        "400000",
        "--pace",
        "500",
        "--pages",
        "2000",
        "--maps",
        "1",
    ];
    let target = Target::start(dir.path(), &options)?;
    let pid = target.pid;
    let rec = record(dir.path(), pid, 30)?;
    let (mut random, seed) = Random::seeded();
    let (mut stood, mut midway) = (0, 0);
    let kills = if length.full { 300 } else { 30 };
    for kill in 0..kills {
        let to = random.below(30).to_string();
        let mut c = still::still(&["rollback"])?;
        c.arg(pid.to_string()).arg(still::moment(&rec, &to));
        let mut ours = Running::start(&mut c, dir.path())?;
        // Attaching is the earliest that can do harm.
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while process::status_value(pid, "TracerPid")? == "0"
            && ours.ended()?.is_none()
            && std::time::Instant::now() < end
        {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        if ours.ended()?.is_none() {
            ours.signal(Signal::KILL)?;
            midway += 1;
        }
        ours.wait(process::PATIENCE)?;
        wait_for("nobody traces it", || {
            process::status_value(pid, "TracerPid").is_ok_and(|t| t == "0")
        })?;
        ensure!(
            process::alive(pid),
            "kill {kill} (seed {seed}): the target ended: {}",
            target.run.stdout()
        );
        // Whether it was stopped shows once its threads have had the time to.
        std::thread::sleep(Duration::from_millis(30));
        if process::state_of(pid) == Some('T') {
            stood += 1;
            back(dir.path(), pid, &rec, &to)
                .with_context(|| format!("again after kill {kill} (seed {seed})"))?;
            process::signal(pid, Signal::CONT)?;
            wait_for("it goes on", || process::state_of(pid) != Some('T'))?;
        }
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
    process::left_alone(pid)?;
    target.same_result(dir.path())?;
    ensure!(midway > 0, "no rollback was killed before its end");
    passed(format!("kills {midway}, process left standing {stood}"))
}

pub(super) fn failing(_: &Length) -> Result<Outcome> {
    let Some(prlimit) = place::program("prlimit") else {
        return skip("no prlimit on this machine");
    };
    let dir = place::scratch()?;
    let target = place::target("rollback_state.c")?;
    let (kept, gone) = (dir.path().join("kept"), dir.path().join("gone"));
    let mut run = Running::start(&mut command(target, &[&kept, &gone]), dir.path())?;
    let pid = run.ready()?;
    let rec = still::fresh(dir.path(), "run.still");
    let options = ["--hz", "50", "--count", "3", "--files", "version"];
    let mut recorder = still::attach(dir.path(), &options, &rec, pid)?;
    still::ended_with(&mut recorder, 0, process::PATIENCE)?;
    let files = || (std::fs::read(&kept).ok(), std::fs::read(&gone).ok());
    let (first, later) = (
        (Some(b"first".to_vec()), Some(b"first".to_vec())),
        (Some(b"second".to_vec()), None),
    );
    second(&mut run, pid)?;
    let limit = |to: &str| -> Result<()> {
        let args = ["--pid", &pid.to_string(), &format!("--as={to}:")];
        let (status, _, err) = process::run(&mut command(&prlimit, &args), dir.path())?;
        ensure!(status.success(), "prlimit: {err}");
        Ok(())
    };
    // What it unmapped does not fit any more.
    limit("33554432")?;
    ensure!(files() == later, "its files are {:?}", files());
    let args: [std::ffi::OsString; 6] = [
        "rollback".into(),
        "--files".into(),
        "version".into(),
        "--yes".into(),
        pid.to_string().into(),
        still::moment(&rec, "0"),
    ];
    let line = still::refused(dir.path(), &args, 1)?;
    ensure!(
        line.contains("everything is as it was") && line.contains("stopped"),
        "{line}"
    );
    wait_for("it stands", || process::state_of(pid) == Some('T'))?;
    ensure!(phase(pid) == "second", "it is {}", phase(pid));
    ensure!(files() == later, "its files are {:?} now", files());
    limit("unlimited")?;
    process::signal(pid, Signal::CONT)?;
    wait_for("it goes on", || process::state_of(pid) != Some('T'))?;
    process::left_alone(pid)?;
    std::thread::sleep(Duration::from_millis(20));
    // And it can still go back, and come here again.
    let (status, _, err) = still::run(dir.path(), &args)?;
    ensure!(status.success(), "{status}: {}", still::tail(&err));
    ensure!(files() == first, "its files are {:?} then", files());
    second(&mut run, pid)?;
    ensure!(files() == later, "its files are {:?} again", files());
    run.finish()?;
    passed("")
}
