//! Recordings of the programs with a planted history (targets/planted.*), with the truth about them.

use crate::process::{PATIENCE, Running, command};
use crate::truth::{Known, Log, Truth, plain};
use crate::{Length, place, still};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use stillframe_store::Recording;
use tempfile::TempDir;

/// Checkpoints of the long form.
const LONG: u64 = 10_000;
/// And of the short one.
const SHORT: u64 = 400;

/// A recording of a program whose history is known.
#[derive(Debug)]
pub struct Planted {
    dir: TempDir,
    /// The recording.
    pub recording: PathBuf,
    /// The same, opened.
    pub opened: Recording,
    /// The program.
    pub exe: PathBuf,
    /// What was true when.
    pub truth: Truth,
    said: String,
}

impl Planted {
    /// Runs `targets/NAME` and records it as often as can be.
    ///
    /// # Errors
    /// If the program or the recorder fails, or the counters in the recording do not agree with the
    /// clock.
    pub fn record(name: &str, length: &Length) -> Result<Self> {
        let dir = place::scratch()?;
        let exe = place::target(name)?;
        let log = dir.path().join("changes.log");
        let mut c = command(&exe, &["--seed", "7", "--log"]);
        let mut target = Running::start(c.arg(&log), dir.path())?;
        let pid = target.ready()?;
        let recording = still::fresh(dir.path(), "run.still");
        let count = if length.full {
            length.checkpoints.max(LONG)
        } else {
            SHORT
        };
        let options = ["--hz", "1000", "--count", &count.to_string()];
        let mut recorder = still::attach(dir.path(), &options, &recording, pid)?;
        still::ended_with(&mut recorder, 0, PATIENCE * 10)?;
        target.finish()?;
        let opened = still::open(&recording)?;
        ensure!(
            opened.rows().len() as u64 == count,
            "{} of {count} checkpoints",
            opened.rows().len()
        );
        let truth = Truth::of(&opened, Log::read(&log)?, target.address("planted")?)?;
        ensure!(
            truth.changes() as u64 > count / 2,
            "only {} changes in {count} checkpoints",
            truth.changes()
        );
        Ok(Self {
            dir,
            recording,
            opened,
            exe,
            truth,
            said: target.stdout(),
        })
    }

    /// The scratch directory.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// The address that the program printed.
    ///
    /// # Errors
    /// If it printed none.
    pub fn address(&self, name: &str) -> Result<u64> {
        let prefix = format!("addr {name} ");
        let line = self.said.lines().find_map(|l| l.strip_prefix(&prefix));
        Ok(u64::from_str_radix(
            line.with_context(|| prefix.clone())?.trim(),
            16,
        )?)
    }

    /// What a name is at every checkpoint, in plain words.
    ///
    /// # Errors
    /// If the program never told of it.
    pub fn plain_truth(&self, name: &str) -> Result<Vec<Known>> {
        let known = self.truth.of_expression(name)?;
        let each = known.into_iter().map(|k| Known {
            value: plain(&k.value),
            or: k.or.as_deref().map(plain),
        });
        Ok(each.collect())
    }

    /// For the line of the result.
    pub fn figures(&self) -> String {
        format!(
            "checkpoints {}, changes {}",
            self.truth.len(),
            self.truth.changes()
        )
    }
}
