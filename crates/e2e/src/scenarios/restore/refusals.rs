//! What cannot be restored.

use super::record;
use crate::process::{self, Running};
use crate::{Length, Outcome, passed, place, still};
use anyhow::{Result, ensure};
use std::ffi::OsString;
use std::path::Path;

/// Children of this process by that name.
fn left(name: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name_of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if name_of(pid).is_ok_and(|n| n.trim() == name) {
            found.push(pid);
        }
    }
    Ok(found)
}

pub fn all(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let dir = dir.path();
    // A copy of its own, which can be taken away.
    let exe = dir.join("revive-copy");
    std::fs::copy(place::target("revive.c")?, &exe)?;
    let cmd: [OsString; 3] = [exe.clone().into(), "9000".into(), "1".into()];
    let run = record(dir, "100", &cmd)?;
    let rec = &run.recording;
    let refuse = |args: &[OsString], code: i32, says: &str| -> Result<()> {
        let line = still::refused(dir, args, code)?;
        ensure!(
            line.contains(says),
            "{args:?}: {line:?} does not say {says:?}"
        );
        let left = left("revive-copy")?;
        ensure!(left.is_empty(), "{args:?} left processes behind: {left:?}");
        Ok(())
    };
    let restore = |moment: &str, options: &[&str]| -> Vec<OsString> {
        let mut args = vec!["restore".into(), still::moment(rec, moment)];
        args.extend(options.iter().map(OsString::from));
        args
    };
    refuse(&["restore".into(), rec.into()], 2, "which moment")?;
    refuse(&restore("999999", &[]), 4, "999999")?;
    refuse(&restore("5", &["--process", "77"]), 4, "77")?;
    refuse(
        &restore("5", &["--pid", "same", "-n", "2"]),
        2,
        "--pid same",
    )?;
    refuse(&restore("5", &["-n", "0"]), 2, "0")?;
    pid_taken(dir)?;
    // The program of another build: the recording has a copy, and takes that.
    std::fs::write(&exe, b"#!/bin/sh\necho other\n")?;
    let result = super::same_result(dir, &run, 2, &[])?;
    // Without a copy it is refused.
    std::fs::copy(place::target("revive.c")?, &exe)?;
    std::fs::remove_dir_all(rec)?;
    let again = dir.join("bare");
    std::fs::create_dir(&again)?;
    let mut bare: Vec<OsString> = vec![place::still()?.into()];
    let options = ["record", "--hz", "100", "--no-objects", "-o"];
    bare.extend(options.map(OsString::from));
    bare.extend([rec.into(), "--".into()]);
    bare.extend(cmd);
    let (_, status, err) = super::piped(dir, &bare)?;
    ensure!(status == 0, "recording: {}", still::tail(&err));
    std::fs::write(&exe, b"#!/bin/sh\necho other\n")?;
    refuse(&restore("5", &[]), 11, "revive-copy")?;
    std::fs::remove_file(&exe)?;
    refuse(&restore("5", &[]), 11, "revive-copy")?;
    passed(result)
}

/// With `--pid same` while the process still runs.
fn pid_taken(dir: &Path) -> Result<()> {
    let exe = place::target("quiet.c")?;
    let out = dir.join("live.still");
    let none: [&str; 0] = [];
    let mut target = Running::start(&mut process::command(exe, &none), dir)?;
    let pid = target.ready()?;
    let mut recorder = still::attach(dir, &["--count", "5"], &out, pid)?;
    still::ended_with(&mut recorder, 0, process::PATIENCE)?;
    let args = [
        OsString::from("restore"),
        still::moment(&out, "last"),
        "--pid".into(),
        "same".into(),
    ];
    let line = still::refused(dir, &args, 11)?;
    ensure!(line.contains(&pid.to_string()), "{line}");
    target.finish()
}
