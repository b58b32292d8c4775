//! Programs that speak the protocol of [`crate::targets`].

use super::{Load, PATIENCE};
use crate::args::TargetName;
use crate::process::{Running, file, tail};
use crate::targets::Outcome;
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

/// Such a program.
#[derive(Debug)]
pub struct Served {
    running: Running,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: PathBuf,
    what: String,
}

impl Served {
    /// `still bench target NAME --threads N MORE..`.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn ours(name: TargetName, threads: u8, more: Vec<String>, dir: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("our own executable")?);
        command.args([
            "bench",
            "target",
            name.as_str(),
            "--threads",
            &threads.to_string(),
        ]);
        command.args(more);
        Self::start(command, name.as_str(), dir)
    }

    /// Any program that speaks the protocol.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub fn start(mut command: Command, what: &str, dir: &Path) -> Result<Self> {
        let errors = dir.join("target.err");
        command
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file(&errors)?);
        let mut running = Running::start(&mut command, what)?;
        let input = running.child().stdin.take();
        let output = running.child().stdout.take().context("no output")?;
        let (sender, lines) = channel();
        // Ends with the program's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let served = Self {
            running,
            input,
            lines,
            errors,
            what: what.to_owned(),
        };
        let ready = served.line()?;
        ensure!(
            ready.starts_with("ready "),
            "{what} said {ready:?} instead of being ready"
        );
        Ok(served)
    }

    fn line(&self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("{} hangs", self.what),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{} ended by itself: {}", self.what, tail(&self.errors))
            }
        }
    }
}

impl Load for Served {
    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn run(&mut self, units: u64) -> Result<Outcome> {
        let input = self.input.as_mut().context("it has been ended")?;
        writeln!(input, "go {units}")?;
        input.flush()?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.what))
    }

    fn end(&mut self) -> Result<()> {
        self.input = None;
        let status = self.running.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "{} ended with {status}: {}",
            self.what,
            tail(&self.errors)
        );
        Ok(())
    }
}
