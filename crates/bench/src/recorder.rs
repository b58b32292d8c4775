//! `still attach` as a child, watched from outside.

use crate::load::PATIENCE;
use crate::process::{Running, cpu_seconds, file, status_bytes, tail, wait_for};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_store::Recording;

/// Checkpoints taken after the full first one was committed that must be there before a run counts.
/// The first of them carries the ticks skipped meanwhile.
const SETTLED: usize = 3;

/// A recorder at work.
#[derive(Debug)]
pub struct Recorder {
    running: Running,
    recording: PathBuf,
    said: PathBuf,
    errors: PathBuf,
    begun: Instant,
}

/// What the recorder cost while something ran.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// CPU time, seconds.
    pub cpu_seconds: f64,
    /// Resident bytes in the order of time, evenly spaced.
    pub resident: Vec<u64>,
    /// Most resident bytes since its start.
    pub peak: u64,
    /// Wall clock at the beginning and the end, nanoseconds since the epoch.
    pub window: (u64, u64),
}

/// Nanoseconds since the epoch.
pub fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_nanos() as u64)
}

impl Recorder {
    /// Starts `BINARY attach --hz HZ ARGS -o RECORDING PID`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        binary: &Path,
        pid: u32,
        hz: f64,
        args: &[String],
        recording: &Path,
    ) -> Result<Self> {
        let said = recording.with_extension("out");
        let errors = recording.with_extension("err");
        let mut command = Command::new(binary);
        command
            .args(["attach", "--json", "--hz", &hz.to_string()])
            .args(args)
            .arg("-o")
            .arg(recording)
            .arg(pid.to_string())
            .stdin(Stdio::null())
            .stdout(file(&said)?)
            .stderr(file(&errors)?);
        let running = Running::start(&mut command, "the recorder")?;
        Ok(Self {
            running,
            recording: recording.to_path_buf(),
            said,
            errors,
            begun: Instant::now(),
        })
    }

    /// Waits until the steady state is reached. Returns the seconds until the full first checkpoint
    /// was committed.
    ///
    /// # Errors
    /// If the recorder ends, or nothing comes.
    pub fn settle(&mut self) -> Result<f64> {
        let mut first = None;
        let begun = self.begun;
        let (running, recording, errors) = (&mut self.running, &self.recording, &self.errors);
        wait_for("the recorder's first checkpoints", PATIENCE, || {
            if let Some(status) = running.child().try_wait()? {
                bail!("the recorder ended with {status}: {}", tail(errors));
            }
            let opened = Recording::open(recording).ok();
            let rows = opened.as_ref().map_or(&[][..], |r| r.rows());
            if rows.is_empty() {
                return Ok(false);
            }
            let (_, seen) =
                *first.get_or_insert_with(|| (begun.elapsed().as_secs_f64(), wall_ns()));
            // Those taken while the first was being stored do not count, nor what was skipped then.
            let after = rows.iter().filter(|row| row.tick.wall_ns > seen).count();
            Ok(after >= SETTLED)
        })?;
        first
            .map(|(seconds, _)| seconds)
            .context("no first checkpoint")
    }

    /// Runs `work` and watches the recorder meanwhile.
    ///
    /// # Errors
    /// If the work fails, or the recorder has ended.
    pub fn watch<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Watched)> {
        let pid = self.running.pid();
        let done = AtomicBool::new(false);
        let resident = Mutex::new(Vec::new());
        let before = cpu_seconds(pid)?;
        let begun = wall_ns();
        let result = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Ok(mut resident) = resident.lock() {
                        resident.push(status_bytes(pid, "VmRSS"));
                    }
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            result
        });
        let ended = wall_ns();
        let result = result?;
        let watched = Watched {
            cpu_seconds: cpu_seconds(pid).with_context(|| {
                format!("the recorder ended during the run: {}", tail(&self.errors))
            })? - before,
            resident: resident.into_inner().unwrap_or_default(),
            peak: status_bytes(pid, "VmHWM"),
            window: (begun, ended),
        };
        Ok((result, watched))
    }

    /// Waits for its end, after the target's. Returns the summary it printed.
    ///
    /// # Errors
    /// If it failed.
    pub fn finish(mut self) -> Result<Value> {
        let status = self.running.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "the recorder ended with {status}: {}",
            tail(&self.errors)
        );
        let text = std::fs::read_to_string(&self.said)?;
        serde_json::from_str(&text).with_context(|| format!("the recorder's summary: {text:?}"))
    }
}
