//! The peer: what one does without us. A core of each checkpoint, GDB started on it in batch, one
//! value printed. A few are done and timed; the rest is multiplication, and said to be.

use super::Subject;
use super::ours::command;
use crate::process::program;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use stillframe_store::Recording;

/// GDB on exported cores.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scan {
    /// Its version, in its own words.
    pub version: String,
    /// Cores looked at.
    pub cores: u32,
    /// Milliseconds to write one: median.
    pub export_ms: f64,
    /// Milliseconds from GDB's start to its end on one: median.
    pub gdb_ms: f64,
    /// Both for each checkpoint of the recording, hours. Computed.
    pub all_hours: f64,
    /// The same if the cores were there already, hours. Computed.
    pub all_gdb_hours: f64,
}

/// Exports `cores` checkpoints, spread over the recording, and asks GDB for the variable.
///
/// # Errors
/// If one of them cannot be exported, or GDB does not answer as the recording does.
pub fn scan(subject: &Subject, cores: u32, dir: &Path) -> Result<Scan> {
    let gdb = program("gdb").context("gdb is not installed")?;
    let version = Command::new(&gdb).args(["-nx", "--version"]).output()?;
    let version = String::from_utf8_lossy(&version.stdout);
    let recording = Recording::open(&subject.recording)?;
    let rows = recording.rows();
    let core = dir.join("sample.core");
    let (mut exports, mut asked) = (Vec::new(), Vec::new());
    for i in 0..cores as usize {
        let row = rows
            .get((2 * i + 1) * rows.len() / (2 * cores as usize))
            .context("no such checkpoint")?;
        let moment = format!("{}@{}", subject.recording.display(), row.id);
        let core_path = core.to_string_lossy();
        let (_, took, _) = command(
            &["export", "--core", &moment, "--force", "-o", &core_path],
            dir,
        )?;
        exports.push(took);
        let begun = Instant::now();
        let out = Command::new(&gdb)
            .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
            .args(["-ex", "print alone.value"])
            .arg(&subject.program)
            .arg(&core)
            .stdin(Stdio::null())
            .output()?;
        asked.push(begun.elapsed().as_secs_f64() * 1e3);
        let mut bytes = [0; 8];
        let memory = recording.memory(row.id, stillframe_image::SpaceId(0))?;
        memory.read(subject.alone, &mut bytes)?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let wanted = format!("$1 = {}", i64::from_le_bytes(bytes));
        ensure!(
            said.lines().any(|l| l == wanted),
            "GDB says {said:?} of checkpoint {} instead of {wanted:?}",
            row.id
        );
    }
    let median = |values: &[f64]| crate::stats::median(values).unwrap_or(0.0);
    let (export_ms, gdb_ms) = (median(&exports), median(&asked));
    let hours = |each: f64| each * rows.len() as f64 / 3.6e6;
    Ok(Scan {
        version: version.lines().next().unwrap_or_default().to_owned(),
        cores,
        export_ms,
        gdb_ms,
        all_hours: hours(export_ms + gdb_ms),
        all_gdb_hours: hours(gdb_ms),
    })
}
