//! No privilege: everything works for one's own processes, and what does not says what to change.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "privilege::own_processes",
        about: "the user nobody records a program and attaches to one, bit-exactly",
        run: own_processes,
    },
    Scenario {
        name: "privilege::others_processes",
        about: "another user's process and a set-user-id program are refused with code 3",
        run: others_processes,
    },
];

/// A directory of nobody's with copies of what nobody runs.
struct Stage {
    dir: tempfile::TempDir,
    still: PathBuf,
    quiet: PathBuf,
}

fn copy(from: &Path, dir: &Path, name: &str, mode: u32) -> Result<PathBuf> {
    let to = dir.join(name);
    std::fs::copy(from, &to)?;
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode))?;
    Ok(to)
}

fn stage() -> Result<Option<Stage>> {
    if place::is_root() && place::program("setpriv").is_none() {
        return Ok(None);
    }
    let dir = place::scratch()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
    let still = copy(place::still()?, dir.path(), "still", 0o755)?;
    let quiet = copy(&place::target("quiet.c")?, dir.path(), "quiet", 0o755)?;
    Ok(Some(Stage { dir, still, quiet }))
}

/// `program` as nobody; as ourselves where we are no root anyway.
fn as_nobody(program: &Path) -> Command {
    if !place::is_root() {
        return Command::new(program);
    }
    let mut c = Command::new("setpriv");
    c.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]);
    c.arg(program);
    c
}

fn own_processes(length: &Length) -> Result<Outcome> {
    let Some(stage) = stage()? else {
        return skip("no setpriv on this machine");
    };
    let d = stage.dir.path();
    let count = (length.checkpoints / 2).to_string();
    let out = d.join("launched.still");
    let mut c = as_nobody(&stage.still);
    c.args(["record", "--json", "--paranoid", "--hz", "100", "-o"])
        .arg(&out)
        .arg("--");
    c.arg(&stage.quiet).args(["--seconds", "1"]);
    let mut recorder = Running::start(&mut c, d)?;
    still::ended_with(&mut recorder, 0, PATIENCE).context("record as nobody")?;
    let launched = still::summary(&recorder.stdout())?;
    let mut c = as_nobody(&stage.quiet);
    let mut target = Running::start(c.args(["--seconds", "1000"]), d)?;
    let pid = target.ready()?;
    let out = d.join("attached.still");
    let mut c = as_nobody(&stage.still);
    c.args([
        "attach",
        "--json",
        "--paranoid",
        "--hz",
        "100",
        "--count",
        &count,
        "-o",
    ]);
    let mut recorder = Running::start(c.arg(&out).arg(pid.to_string()), d)?;
    still::ended_with(&mut recorder, 0, PATIENCE * 2).context("attach as nobody")?;
    let attached = still::summary(&recorder.stdout())?;
    for summary in [&launched, &attached] {
        ensure!(summary.is_exact()?.checkpoints > 0, "no checkpoint");
    }
    process::left_alone(pid)?;
    target.finish()?;
    for args in [
        vec!["verify".into(), out.clone().into_os_string()],
        vec![
            "export".into(),
            "--core".into(),
            still::moment(&out, "last"),
            "-o".into(),
            d.join("nobody.core").into(),
        ],
    ] {
        let mut c = as_nobody(&stage.still);
        let (status, _, err) = process::run(c.args(&args), d)?;
        ensure!(status.success(), "{args:?} as nobody: {status}: {err}");
    }
    passed(format!(
        "checkpoints {} + {}",
        launched.checkpoints, attached.checkpoints
    ))
}

fn refused_as_nobody(stage: &Stage, pid: u32) -> Result<String> {
    let mut c = as_nobody(&stage.still);
    c.args(["attach", "--count", "1", "-o"])
        .arg(stage.dir.path().join("refused.still"));
    still::one_line_failure(c.arg(pid.to_string()), stage.dir.path(), 3)
}

fn others_processes(_: &Length) -> Result<Outcome> {
    let Some(stage) = stage()? else {
        return skip("no setpriv on this machine");
    };
    let d = stage.dir.path();
    if !place::is_root() {
        let line = refused_as_nobody(&stage, 1)?;
        return passed(line);
    }
    let mut ours = Running::start(&mut command(&stage.quiet, &["--seconds", "1000"]), d)?;
    let line = refused_as_nobody(&stage, ours.ready()?).context("a process of root's")?;
    process::left_alone(ours.pid())?;
    ours.finish()?;
    // A set-user-id program, started by nobody, belongs to root.
    let special = copy(&stage.quiet, d, "special", 0o4755)?;
    let mut c = as_nobody(&special);
    let mut raised = Running::start(c.args(["--seconds", "1000"]), d)?;
    let pid = raised.ready()?;
    let uids = process::status_value(pid, "Uid")?;
    ensure!(
        uids.split_whitespace().nth(1) == Some("0"),
        "the file system ignores set-user-id"
    );
    refused_as_nobody(&stage, pid).context("a set-user-id process")?;
    process::left_alone(pid)?;
    raised.finish()?;
    passed(line)
}
