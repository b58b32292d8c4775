//! Inserts into a SQLite database through its shell.

use super::{Load, PATIENCE};
use crate::process::{Running, file, program, tail, wait_for};
use crate::targets::Outcome;
use crate::targets::rng::mix;
use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Instant;

/// Rows in a unit of work, which is one transaction.
const UNIT: u64 = 100;

/// Why it cannot run here.
pub fn missing() -> Option<String> {
    program("sqlite3")
        .is_none()
        .then(|| "sqlite3 is not installed".to_owned())
}

/// The shell, with its input open.
#[derive(Debug)]
pub struct Sqlite {
    shell: Running,
    input: Option<ChildStdin>,
    dir: PathBuf,
    rows: u64,
    runs: u64,
}

impl Sqlite {
    /// Starts it on a new database with two indexes.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new(program("sqlite3").context("sqlite3 is not installed")?);
        command
            .args(["-batch", "-bail", "bench.db"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file(&dir.join("sqlite.err"))?);
        let mut shell = Running::start(&mut command, "sqlite3")?;
        let input = shell.child().stdin.take();
        let mut sqlite = Self {
            shell,
            input,
            dir: dir.to_path_buf(),
            rows: 0,
            runs: 0,
        };
        // The disk is not what is measured. The cache makes it a process with some memory.
        sqlite.finish(
            "pragma journal_mode=wal; pragma synchronous=off; pragma cache_size=-65536;
             create table t(id integer primary key, a integer, b text, c text);
             create index ta on t(a); create index tb on t(b);\n"
                .to_owned(),
        )?;
        let first = sqlite.statements(200);
        sqlite.finish(first)?;
        Ok(sqlite)
    }

    fn statements(&mut self, units: u64) -> String {
        let mut text = String::new();
        for _ in 0..units {
            text.push_str("begin;\n");
            for _ in 0..UNIT {
                let i = self.rows;
                self.rows += 1;
                let x = mix(i);
                // Writing to a String does not fail.
                let _ = writeln!(
                    text,
                    "insert into t values({i},{},'customer-{:06}','order of {} pieces, on account, rev {}');",
                    x % 1_000_003,
                    (x >> 20) % 50_000,
                    x >> 56,
                    i % 97
                );
            }
            text.push_str("commit;\n");
        }
        text
    }

    /// Feeds it and waits until it has done all of it.
    fn finish(&mut self, mut text: String) -> Result<()> {
        self.runs += 1;
        let marker = self.dir.join(format!("done.{}", self.runs));
        // The shell closes the file after this statement, so that its content is there at once.
        let _ = writeln!(text, ".once {}\nselect 'done';", marker.display());
        let errors = self.dir.join("sqlite.err");
        let input = self.input.as_mut().context("it has been ended")?;
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .with_context(|| format!("sqlite3 ended by itself: {}", tail(&errors)))?;
        let shell = &mut self.shell;
        wait_for("sqlite3 has done its statements", PATIENCE, || {
            if let Some(status) = shell.child().try_wait()? {
                bail!("sqlite3 ended with {status}: {}", tail(&errors));
            }
            Ok(marker.metadata().is_ok_and(|m| m.len() > 0))
        })
    }
}

impl Load for Sqlite {
    fn pid(&self) -> u32 {
        self.shell.pid()
    }

    fn run(&mut self, units: u64) -> Result<Outcome> {
        let text = self.statements(units);
        let begun = Instant::now();
        self.finish(text)?;
        Ok(Outcome {
            seconds: begun.elapsed().as_secs_f64(),
            units,
            ..Outcome::default()
        })
    }

    fn end(&mut self) -> Result<()> {
        self.input = None;
        let status = self.shell.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "sqlite3 ended with {status}: {}",
            tail(&self.dir.join("sqlite.err"))
        );
        Ok(())
    }
}
