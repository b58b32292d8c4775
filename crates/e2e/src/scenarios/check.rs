//! `still check` says what a restore would meet, and touches nothing.

use crate::process::{self, PATIENCE};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "check::unchanged",
        about: "right after a recording nothing is refused; exit codes and lines agree",
        run: unchanged,
    },
    Scenario {
        name: "check::changed",
        about: "executable of another build, gone and shorter files, a missing directory, a taken \
                pid: each a line",
        run: changed,
    },
];

/// Exit codes: cannot be restored; only with differences.
const REFUSED: i32 = 11;
const DIFFERENT: i32 = 12;

struct Stage {
    dir: tempfile::TempDir,
    exe: PathBuf,
    work: PathBuf,
    recording: PathBuf,
}

/// Records a copy of a program in a directory of its own, so that all of it can be changed.
fn stage(options: &[&str]) -> Result<Stage> {
    let dir = place::scratch()?;
    let work = dir.path().join("work");
    std::fs::create_dir(&work)?;
    let exe = work.join("program");
    std::fs::copy(place::target("writes.c")?, &exe)?;
    let recording = dir.path().join("r.still");
    let files = work.join("files");
    std::fs::create_dir(&files)?;
    let command = [
        exe.clone().into(),
        files.into(),
        "60".into(),
        "3000".into(),
        "0".into(),
    ];
    let mut run = still::record(&work, options, &recording, &command)?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    Ok(Stage {
        dir,
        exe,
        work,
        recording,
    })
}

struct Answer {
    code: i32,
    findings: Vec<Value>,
}

impl Answer {
    /// The severity of the first finding whose subject ends so.
    fn of(&self, subject: &str) -> &str {
        let ends = |f: &&Value| f["subject"].as_str().is_some_and(|s| s.ends_with(subject));
        let found = self.findings.iter().find(ends);
        found.and_then(|f| f["severity"].as_str()).unwrap_or("none")
    }
}

fn check(dir: &Path, recording: &Path, moment: &str, options: &[&str]) -> Result<Answer> {
    let mut c = still::still(&["check", "--json"])?;
    c.args(options).arg(still::moment(recording, moment));
    let (status, out, err) = process::run(&mut c, dir)?;
    let code = status.code().context("killed")?;
    let report: Value =
        serde_json::from_str(&out).with_context(|| format!("{status}: {}", still::tail(&err)))?;
    let findings = report["findings"]
        .as_array()
        .context("no findings")?
        .clone();
    let worst = |name: &str| findings.iter().any(|f| f["severity"] == name);
    let want = match (worst("refuse"), worst("warning")) {
        (true, _) => REFUSED,
        (false, true) => DIFFERENT,
        _ => 0,
    };
    ensure!(code == want, "exit code {code} instead of {want}: {out}");
    Ok(Answer { code, findings })
}

fn unchanged(_: &Length) -> Result<Outcome> {
    let s = stage(&["--hz", "50"])?;
    let answer = check(s.dir.path(), &s.recording, "last", &[])?;
    let refused: Vec<&Value> = answer
        .findings
        .iter()
        .filter(|f| f["severity"] == "refuse")
        // The one that was deleted while it was open, and is not kept.
        .filter(|f| !f["subject"].as_str().is_some_and(|s| s.ends_with("/gone")))
        .collect();
    ensure!(refused.is_empty(), "{refused:?}");
    for subject in [
        "kernel",
        "instructions",
        "limits",
        "mapped files",
        "/data",
        "/log",
    ] {
        ensure!(
            answer.of(subject) == "ok",
            "{subject}: {}",
            answer.of(subject)
        );
    }
    // People get lines: all of them, or those that matter and a sum.
    let moment = still::moment(&s.recording, "last");
    let (_, all, _) = still::run(s.dir.path(), &["check".into(), "-a".into(), moment.clone()])?;
    ensure!(
        all.lines().count() == answer.findings.len() + 1,
        "{all} for {:?}",
        answer.findings
    );
    let (_, brief, _) = still::run(s.dir.path(), &["check".into(), moment])?;
    ensure!(!brief.lines().any(|l| l.starts_with("ok")), "{brief}");
    // An early moment: files were written since.
    let answer = check(s.dir.path(), &s.recording, "5", &[])?;
    ensure!(
        answer.code == REFUSED,
        "files were written since checkpoint 5"
    );
    ensure!(answer.of("/data") == "refuse", "{}", answer.of("/data"));
    passed(format!("{} findings", answer.findings.len()))
}

fn changed(_: &Length) -> Result<Outcome> {
    let ask = |s: &Stage, options: &[&str]| check(s.dir.path(), &s.recording, "last", options);
    for (options, want) in [
        (&["--hz", "50"][..], "warning"),
        (&["--hz", "50", "--no-objects"][..], "refuse"),
    ] {
        let s = stage(options)?;
        ensure!(
            ask(&s, &[])?.of("/program") == "none",
            "the program has not changed"
        );
        // The same bytes again, another file: the build-id says that it is the same build.
        let bytes = std::fs::read(&s.exe)?;
        std::fs::remove_file(&s.exe)?;
        std::fs::write(&s.exe, &bytes)?;
        ensure!(
            ask(&s, &[])?.of("/program") == "none",
            "it is the same build"
        );
        std::fs::remove_file(&s.exe)?;
        std::fs::copy(place::target("quiet.c")?, &s.exe)?;
        let answer = ask(&s, &[])?;
        ensure!(
            answer.of("/program") == want,
            "another build: {}",
            answer.of("/program")
        );
        std::fs::remove_file(&s.exe)?;
        let answer = ask(&s, &[])?;
        ensure!(
            answer.of("/program") == want,
            "no program: {}",
            answer.of("/program")
        );
    }
    let s = stage(&["--hz", "50", "--files", "version"])?;
    let files = s.work.join("files");
    std::fs::remove_file(files.join("data"))?;
    std::fs::write(files.join("cut"), "")?;
    let answer = ask(&s, &[])?;
    ensure!(
        answer.of("/data") == "refuse" && answer.of("/cut") == "refuse",
        "{:?}",
        answer.findings
    );
    let answer = ask(&s, &["--files", "version"])?;
    ensure!(
        answer.of("/data") == "ok" && answer.of("/cut") == "ok",
        "{:?}",
        answer.findings
    );
    ensure!(!files.join("data").exists(), "check made a file");
    // The pid of a process that lives.
    let mut live = process::Running::start(
        process::command("sleep", &["60"]).env("LIVES", "1"),
        s.dir.path(),
    )?;
    let recording = s.dir.path().join("sleep.still");
    let mut run = still::attach(
        s.dir.path(),
        &["--hz", "50", "--count", "3"],
        &recording,
        live.pid(),
    )?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    let pid = format!("pid {}", live.pid());
    let answer = check(s.dir.path(), &recording, "last", &["--same-pids"])?;
    ensure!(answer.of(&pid) == "refuse", "{:?}", answer.findings);
    let answer = check(s.dir.path(), &recording, "last", &[])?;
    ensure!(answer.of(&pid) == "none", "{:?}", answer.findings);
    live.signal(rustix::process::Signal::KILL)?;
    live.wait(PATIENCE)?;
    let answer = check(s.dir.path(), &recording, "last", &["--same-pids"])?;
    ensure!(answer.of(&pid) == "none", "{:?}", answer.findings);
    // A moment that does not exist is the recording's failure, not the world's.
    let moment = still::moment(&s.recording, "999999");
    still::refused(s.dir.path(), &["check".into(), moment], 4)?;
    passed("")
}
