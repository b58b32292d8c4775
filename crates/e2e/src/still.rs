//! Running the command under test.

use crate::process::{self, PATIENCE, Running};
use crate::{place, process::command};
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use stillframe_store::Recording;

/// The summary that `record --json` and `attach --json` print at the end.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// Committed checkpoints.
    pub checkpoints: u64,
    /// Ticks skipped.
    pub skipped: u64,
    /// Length, seconds.
    pub seconds: f64,
    /// Checkpoints per second reached.
    pub rate: f64,
    /// Pauses, microseconds.
    pub pause_us: Pauses,
    /// Bytes in the recording.
    pub stored_bytes: u64,
    /// Bytes of the pages put into it.
    pub raw_bytes: u64,
    /// Pages found written.
    pub dirty_pages: u64,
    /// The comparison, when asked for.
    pub paranoid: Option<Paranoid>,
    /// CPU time of the recorder.
    pub recorder_cpu_seconds: f64,
    /// Most memory the recorder had.
    pub recorder_peak_bytes: u64,
    /// Why it ended.
    pub how: String,
}

/// Pauses, microseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Pauses {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// What `--paranoid` compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Paranoid {
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// Pages compared.
    pub pages_compared: u64,
    /// Pages that differed.
    pub differences: u64,
    /// The first of them, in words.
    #[serde(default)]
    pub described: Vec<String>,
}

impl Paranoid {
    /// Every checkpoint was compared, page by page, and nothing differed.
    ///
    /// # Errors
    /// With what did.
    pub fn holds(&self, checkpoints: u64) -> Result<()> {
        ensure!(
            self.differences == 0,
            "{} of {} pages differ over {} checkpoints: {}",
            self.differences,
            self.pages_compared,
            self.checkpoints,
            self.described
                .iter()
                .take(5)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ")
        );
        ensure!(
            self.checkpoints == checkpoints,
            "{} of {checkpoints} checkpoints were compared",
            self.checkpoints
        );
        ensure!(
            self.pages_compared > 0 || checkpoints == 0,
            "no page was compared"
        );
        Ok(())
    }
}

impl Summary {
    /// The comparison was made and held.
    ///
    /// # Errors
    /// With what differed.
    pub fn is_exact(&self) -> Result<&Paranoid> {
        let paranoid = self.paranoid.as_ref().context("no comparison was made")?;
        paranoid.holds(self.checkpoints)?;
        Ok(paranoid)
    }
}

/// `still` with arguments.
///
/// # Errors
/// If there is no binary.
pub fn still<S: AsRef<OsStr>>(args: &[S]) -> Result<Command> {
    Ok(command(place::still()?, args))
}

/// Starts `still record OPTIONS -o OUT -- CMD`.
///
/// # Errors
/// If it cannot be started.
pub fn record(dir: &Path, options: &[&str], out: &Path, cmd: &[OsString]) -> Result<Running> {
    let mut c = still(&["record", "--json"])?;
    c.args(options).arg("-o").arg(out).arg("--").args(cmd);
    Running::start(&mut c, dir)
}

/// Starts `still attach OPTIONS -o OUT PID`.
///
/// # Errors
/// If it cannot be started.
pub fn attach(dir: &Path, options: &[&str], out: &Path, pid: u32) -> Result<Running> {
    let mut c = still(&["attach", "--json"])?;
    c.args(options).arg("-o").arg(out).arg(pid.to_string());
    Running::start(&mut c, dir)
}

/// The summary in the output of a recorder, behind whatever a launched target printed.
///
/// # Errors
/// If there is none, or a part of it is missing.
pub fn summary(stdout: &str) -> Result<Summary> {
    let start = if stdout.starts_with('{') {
        Some(0)
    } else {
        None
    };
    let start = stdout.rfind("\n{").map(|i| i + 1).or(start);
    let text =
        &stdout[start.with_context(|| format!("no JSON summary in: {}", stdout.trim()))?..];
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    values
        .next()
        .context("an empty summary")?
        .with_context(|| format!("the summary: {text}"))
}

/// Runs `still ARGS` to its end: (status, stdout, stderr).
///
/// # Errors
/// If it cannot be started or does not end.
pub fn run<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Result<(ExitStatus, String, String)> {
    process::run(&mut still(args)?, dir)
}

/// Checks that a recorder ended with this exit code.
///
/// # Errors
/// With what it said instead.
pub fn ended_with(recorder: &mut Running, code: i32, patience: Duration) -> Result<()> {
    let status = recorder.wait(patience)?;
    ensure!(
        status.code() == Some(code),
        "still ended with {status}{} instead of {code}: {}",
        status
            .signal()
            .map(|s| format!(" (signal {s})"))
            .unwrap_or_default(),
        tail(&recorder.stderr())
    );
    Ok(())
}

/// The last lines of a text on one line.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" / ")
}

/// Checks that `still ARGS` fails with `code` and says one line on stderr; returns the line.
///
/// # Errors
/// If it does otherwise.
pub fn refused<S: AsRef<OsStr>>(dir: &Path, args: &[S], code: i32) -> Result<String> {
    one_line_failure(&mut still(args)?, dir, code)
}

/// As [`refused`], for a command made by the caller.
///
/// # Errors
/// If it does otherwise.
pub fn one_line_failure(command: &mut Command, dir: &Path, code: i32) -> Result<String> {
    let shown = format!("{command:?}");
    let (status, _, err) = process::run(command, dir)?;
    ensure!(
        status.code() == Some(code),
        "{shown}: ended with {status} instead of {code}: {}",
        tail(&err)
    );
    let lines: Vec<&str> = err.lines().collect();
    ensure!(
        lines.len() == 1,
        "{shown}: {} lines on stderr: {}",
        lines.len(),
        tail(&err)
    );
    Ok(lines[0].to_owned())
}

/// `still verify` must find the recording whole.
///
/// # Errors
/// With what it found.
pub fn verify(dir: &Path, recording: &Path) -> Result<()> {
    let mut c = still(&["verify"])?;
    let mut run = Running::start(c.arg(recording), dir)?;
    let status = run.wait(PATIENCE * 5)?;
    ensure!(
        status.code() == Some(0),
        "verify ended with {status}: {} {}",
        tail(&run.stdout()),
        tail(&run.stderr())
    );
    Ok(())
}

/// Opens a recording and checks that it has checkpoints with numbers from 0 on.
///
/// # Errors
/// If it cannot be opened or has none.
pub fn open(recording: &Path) -> Result<Recording> {
    let opened = Recording::open(recording).with_context(|| recording.display().to_string())?;
    ensure!(
        !opened.rows().is_empty(),
        "{} has no checkpoint",
        recording.display()
    );
    for (i, row) in opened.rows().iter().enumerate() {
        ensure!(
            row.id.0 == i as u64,
            "checkpoint {} is listed at position {i}",
            row.id
        );
    }
    Ok(opened)
}

/// `REC@MOMENT` as an argument.
pub fn moment(recording: &Path, moment: &str) -> OsString {
    let mut text = recording.as_os_str().to_owned();
    text.push("@");
    text.push(moment);
    text
}

/// A path that does not exist yet.
pub fn fresh(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"checkpoints":3,"skipped":0,"seconds":1.0,"rate":3.0,
        "pause_us":{"p50":1,"p99":2.5,"max":3},"stored_bytes":1,"raw_bytes":2,"dirty_pages":3,
        "paranoid":null,"recorder_cpu_seconds":0.1,"recorder_peak_bytes":1,"how":"count"}"#;

    #[test]
    fn a_summary_is_found_behind_the_targets_output() {
        for text in [TEXT.to_owned(), format!("ready 7\n{{odd\nok\n{TEXT}\n")] {
            assert_eq!(summary(&text).unwrap().checkpoints, 3);
        }
        assert!(summary("ready 7\n").is_err());
        assert!(summary("{}").is_err());
    }
}
