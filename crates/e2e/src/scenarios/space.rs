//! No room: a file-size limit, a full disk, an output directory that goes away.
//!
//! Each time: one clear line, exit code 7, the target unharmed, and what was committed readable.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "space::file_size_limit",
        about: "RLIMIT_FSIZE stops the recording with exit code 7, and SIGXFSZ kills nobody",
        run: file_size_limit,
    },
    Scenario {
        name: "space::disk_full",
        about: "a full file system stops the recording with exit code 7",
        run: disk_full,
    },
    Scenario {
        name: "space::directory_gone",
        about: "an output directory removed while recording stops it with exit code 7",
        run: directory_gone,
    },
    Scenario {
        name: "space::no_permission",
        about: "an output that cannot be created is refused before the target is touched",
        run: no_permission,
    },
];

fn target(dir: &Path) -> Result<(Running, u32)> {
    let exe = place::target("random_writes.c")?;
    let mut target = Running::start(
        &mut command(exe, &["--mib", "4", "--seconds", "20000"]),
        dir,
    )?;
    let pid = target.ready()?;
    Ok((target, pid))
}

/// After a recorder ended with code 7: its words, the target, and the recording.
fn aftermath(
    dir: &Path,
    recorder: &mut Running,
    target: &mut Running,
    out: Option<&Path>,
) -> Result<usize> {
    still::ended_with(recorder, 7, PATIENCE)?;
    let err = recorder.stderr();
    ensure!(
        err.lines().filter(|l| l.starts_with("still:")).count() == 1 && !err.contains("panicked"),
        "not one clear line: {}",
        still::tail(&err)
    );
    process::left_alone(target.pid())?;
    target.finish().context("after the recorder gave up")?;
    let Some(out) = out else { return Ok(0) };
    match Recording::open(out) {
        Ok(recording) => {
            let rows = recording.rows().len();
            drop(recording);
            still::verify(dir, out)?;
            Ok(rows)
        }
        // Nothing fitted, not even the first checkpoint.
        Err(_) => Ok(0),
    }
}

fn file_size_limit(_: &Length) -> Result<Outcome> {
    let mut kept = Vec::new();
    // Blocks of 1024 bytes in bash: less than one checkpoint, and room for some.
    for blocks in [64u32, 40_000] {
        let dir = place::scratch()?;
        let (mut target, pid) = target(dir.path())?;
        let out = dir.path().join("run.still");
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut c = command("bash", &["-c", &script]);
        c.arg(place::still()?)
            .args(["attach", "--json", "--hz", "100", "--for", "50s", "-o"]);
        let mut recorder = Running::start(c.arg(&out).arg(pid.to_string()), dir.path())?;
        let rows = aftermath(dir.path(), &mut recorder, &mut target, Some(&out))
            .with_context(|| format!("limit of {blocks} KiB"))?;
        kept.push(rows);
    }
    ensure!(
        kept[1] > 0,
        "nothing was committed before the limit of 40 MB"
    );
    passed(format!("checkpoints kept {kept:?}"))
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .output();
    }
}

fn disk_full(_: &Length) -> Result<Outcome> {
    if !place::is_root() {
        return skip("mounting a small file system needs root");
    }
    let mut kept = Vec::new();
    for size in ["size=128k", "size=40m"] {
        let dir = place::scratch()?;
        let at = dir.path().join("small");
        std::fs::create_dir(&at)?;
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "none"])
            .arg(&at)
            .output()?;
        if !mounted.status.success() {
            return skip("mount is not permitted here");
        }
        let _guard = Mounted(at.clone());
        let (mut target, pid) = target(dir.path())?;
        let out = at.join("run.still");
        let mut recorder = still::attach(dir.path(), &["--hz", "100", "--for", "50s"], &out, pid)?;
        let rows = aftermath(dir.path(), &mut recorder, &mut target, Some(&out))
            .with_context(|| size.to_owned())?;
        kept.push(rows);
    }
    ensure!(kept[1] > 0, "nothing was committed before 40 MB were full");
    passed(format!("checkpoints kept {kept:?}"))
}

fn directory_gone(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (mut target, pid) = target(dir.path())?;
    let out = dir.path().join("run.still");
    let mut recorder = still::attach(dir.path(), &["--hz", "100", "--for", "50s"], &out, pid)?;
    process::wait_for("a checkpoint is committed or the recorder ends", || {
        Recording::open(&out).is_ok_and(|r| !r.rows().is_empty())
            || recorder.ended().is_ok_and(|e| e.is_some())
    })?;
    ensure!(
        recorder.ended()?.is_none(),
        "the recorder ended: {}",
        recorder.stderr()
    );
    std::fs::remove_dir_all(&out)?;
    aftermath(dir.path(), &mut recorder, &mut target, None)?;
    passed("")
}

fn no_permission(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (mut target, pid) = target(dir.path())?;
    let parent_missing = dir.path().join("missing/deeper/run.still");
    let file = dir.path().join("file");
    std::fs::write(&file, b"")?;
    for out in [
        parent_missing,
        file.join("run.still"),
        "/proc/run.still".into(),
    ] {
        let mut recorder = still::attach(dir.path(), &["--count", "1"], &out, pid)?;
        still::ended_with(&mut recorder, 7, PATIENCE).with_context(|| out.display().to_string())?;
        ensure!(
            recorder.stderr().lines().count() == 1,
            "{}",
            recorder.stderr()
        );
    }
    process::left_alone(pid)?;
    target.finish()?;
    passed("")
}
