//! Trees: what several processes share, and what they know of each other.

use super::{equal, pids, piped, record_with, same_result};
use crate::process::{self, wait_for};
use crate::{Length, Outcome, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;

/// Moments restored in the short form.
const fn times(length: &Length) -> u64 {
    if length.full { 100 } else { 4 }
}

pub fn family(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("family.c")?;
    let cmd = [exe.into(), "900".into(), "300".into()];
    let run = record_with(dir.path(), &["--follow", "--hz", "50"], &cmd)?;
    let equal = equal(dir.path(), &run, times(length))?;
    let same = same_result(dir.path(), &run, times(length), &[])?;
    // In PID namespaces of their own, side by side.
    let moment = still::moment(&run.recording, &(run.checkpoints / 2).to_string());
    let mut copies: Vec<OsString> = vec![place::still()?.into(), "restore".into()];
    copies.extend(["-n", "2", "--quiet"].map(OsString::from));
    copies.push(moment.clone());
    let (out, status, err) = piped(dir.path(), &copies)?;
    if status != 0 && err.contains("clone3 (namespaces)") {
        detached(dir.path(), &moment)?;
        return passed(format!(
            "{same}; {equal}; NO COPIES: no PID namespaces here"
        ));
    }
    let ends: Vec<&str> = out.lines().filter(|l| l.starts_with("ok")).collect();
    ensure!(
        status == 0 && ends.len() == 2 && ends.iter().all(|l| *l == run.result),
        "two copies ended with {status} and {ends:?} instead of {}: {}",
        run.result,
        still::tail(&err)
    );
    detached(dir.path(), &moment)?;
    passed(format!("{same}; {equal}"))
}

/// Stopped and left alone: all stand still, and all go on.
fn detached(dir: &std::path::Path, moment: &std::ffi::OsStr) -> Result<()> {
    let mut args: Vec<OsString> = vec!["restore".into()];
    args.extend(["--detach", "--stopped", "--json"].map(OsString::from));
    args.push(moment.to_owned());
    let (status, out, err) = still::run(dir, &args)?;
    ensure!(status.success(), "detached: {}", still::tail(&err));
    let told: serde_json::Value = serde_json::from_str(&out)?;
    let all = pids(&told[0])?;
    ensure!(all.len() == 5, "{} processes of five", all.len());
    for pid in &all {
        let state = process::state_of(*pid);
        ensure!(
            state == Some('T'),
            "process {pid} is not stopped: {state:?}"
        );
    }
    for pid in &all {
        process::signal(*pid, rustix::process::Signal::CONT)?;
    }
    let root = *all.first().context("no root")?;
    wait_for("the detached tree to end", || {
        process::state_of(root).is_none_or(|s| s == 'Z')
    })
}
