//! Children: fork, vfork, posix_spawn, exec. They run untracked and unharmed.

use crate::process::{PATIENCE, Running, command, left_alone, verdict};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Result, ensure};
use std::ffi::OsString;
use stillframe_image::Marks;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tree::children",
        about: "children of fork, vfork and posix_spawn are untraced, unregistered and right",
        run: children,
    },
    Scenario {
        name: "tree::launched_children",
        about: "the same under a recorder that started the program",
        run: launched_children,
    },
    Scenario {
        name: "tree::exec",
        about: "a program that replaces itself again and again is followed, bit-exactly",
        run: exec,
    },
    Scenario {
        name: "tree::shell",
        about: "a shell pipeline gives the same output as without us",
        run: shell,
    },
];

fn children(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("forker.c")?;
    let mut target = Running::start(&mut command(exe, &["--seconds", "20000"]), dir.path())?;
    let pid = target.ready()?;
    let out = dir.path().join("run.still");
    let count = length.checkpoints.to_string();
    let mut recorder = still::attach(
        dir.path(),
        &["--paranoid", "--hz", "100", "--count", &count],
        &out,
        pid,
    )?;
    still::ended_with(&mut recorder, 0, PATIENCE * 2)?;
    still::summary(&recorder.stdout())?.is_exact()?;
    left_alone(pid)?;
    target.finish()?;
    still::verify(dir.path(), &out)?;
    passed(format!(
        "checkpoints {count}, {}",
        target.stdout().lines().last().unwrap_or_default()
    ))
}

fn launched_children(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let out = dir.path().join("run.still");
    let cmd: [OsString; 3] = [
        place::target("forker.c")?.into(),
        "--seconds".into(),
        "1.5".into(),
    ];
    let mut run = still::record(dir.path(), &["--paranoid", "--hz", "100"], &out, &cmd)?;
    let status = run.wait(PATIENCE)?;
    ensure!(
        status.success(),
        "still: {status}: {} {}",
        run.stdout(),
        still::tail(&run.stderr())
    );
    verdict("forker under record", status, &run.stdout())?;
    let summary = still::summary(&run.stdout())?;
    summary.is_exact()?;
    still::verify(dir.path(), &out)?;
    passed(format!("checkpoints {}", summary.checkpoints))
}

fn exec(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let out = dir.path().join("run.still");
    let (execs, seconds) = if length.full {
        ("200", "60")
    } else {
        ("8", "2")
    };
    let cmd: [OsString; 5] = [
        place::target("forker.c")?.into(),
        "--execs".into(),
        execs.into(),
        "--seconds".into(),
        seconds.into(),
    ];
    let mut run = still::record(dir.path(), &["--paranoid", "--hz", "100"], &out, &cmd)?;
    let status = run.wait(PATIENCE * 5)?;
    ensure!(
        status.success(),
        "still: {status}: {} {}",
        run.stdout(),
        still::tail(&run.stderr())
    );
    verdict("forker --execs under record", status, &run.stdout())?;
    let summary = still::summary(&run.stdout())?;
    summary.is_exact()?;
    still::verify(dir.path(), &out)?;
    let recording = still::open(&out)?;
    let seen = recording
        .rows()
        .iter()
        .filter(|r| r.tick.marks.contains(Marks::EXEC))
        .count();
    ensure!(seen > 0, "no checkpoint is marked as the first after exec");
    passed(format!(
        "checkpoints {}, after exec {seen} of {execs}",
        summary.checkpoints
    ))
}

fn shell(_: &Length) -> Result<Outcome> {
    let script = "i=0; while [ $i -lt 60 ]; do echo $((i*i)) | tr 0-9 a-j; i=$((i+1)); done; \
                  (exit 3); echo $?; sleep 0.1 & wait; echo ok; exit 5";
    let dir = place::scratch()?;
    let (status, expected, _) =
        crate::process::run(&mut command("sh", &["-c", script]), dir.path())?;
    ensure!(status.code() == Some(5), "the shell by itself: {status}");
    let out = dir.path().join("run.still");
    let cmd: [OsString; 3] = ["sh".into(), "-c".into(), script.into()];
    let mut run = still::record(dir.path(), &["--hz", "100"], &out, &cmd)?;
    still::ended_with(&mut run, 5, PATIENCE)?;
    ensure!(
        run.stdout().starts_with(&expected),
        "the output differs: {}",
        run.stdout()
    );
    still::verify(dir.path(), &out)?;
    passed("")
}
