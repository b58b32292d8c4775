//! What a search does besides searching: print what it finds at once, show how far it is, and end
//! when it is told to.

use crate::exit::Code;
use crate::output;
use crate::progress::Progress;
use serde::Serialize;
use std::io::{BufWriter, IsTerminal as _, StdoutLock, Write as _};
use std::time::{Duration, Instant};
use stillframe_linux::signals::Interrupts;

/// How often signals are looked for, in calls.
const OFTEN: u32 = 16;
/// How long output may wait in the buffer.
const WAIT: Duration = Duration::from_millis(100);

/// Output and interruption of one search.
pub struct Control {
    interrupts: Interrupts,
    progress: Progress,
    out: BufWriter<StdoutLock<'static>>,
    terminal: bool,
    flushed: Instant,
    calls: u32,
    printed: u64,
    limit: u64,
    interrupted: bool,
    failed: Option<std::io::Error>,
}

impl Control {
    /// Catches Ctrl-C from here on.
    pub fn new(doing: &'static str, limit: Option<u64>) -> anyhow::Result<Self> {
        Ok(Self {
            interrupts: Interrupts::new()?,
            progress: Progress::new(doing),
            out: output::stdout(),
            terminal: std::io::stdout().is_terminal(),
            flushed: Instant::now(),
            calls: 0,
            printed: 0,
            limit: limit.unwrap_or(u64::MAX),
            interrupted: false,
            failed: None,
        })
    }

    /// Whether to go on; shows how far it is.
    pub fn go_on(&mut self, done: u64, all: u64, things: &str) -> bool {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(OFTEN) {
            self.interrupted |= self.interrupts.take().is_some();
            self.progress.show_count(done, all, things);
            if self.flushed.elapsed() >= WAIT {
                self.flush();
            }
        }
        !self.interrupted && self.failed.is_none()
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if let Err(error) = self.out.flush() {
            self.failed.get_or_insert(error);
        }
    }

    /// Prints a line that is no result.
    pub fn head(&mut self, line: &str) -> bool {
        self.progress.clear();
        if let Err(error) = writeln!(self.out, "{line}") {
            self.failed.get_or_insert(error);
        }
        if self.terminal {
            self.flush();
        }
        self.failed.is_none()
    }

    /// Prints a result; whether there may be more.
    pub fn line(&mut self, line: &str) -> bool {
        self.printed += 1;
        self.head(line) && self.printed < self.limit
    }

    /// Prints a result as JSON; whether there may be more.
    pub fn json(&mut self, value: &impl Serialize) -> bool {
        match serde_json::to_string(value) {
            Ok(line) => self.line(&line),
            Err(error) => {
                self.failed.get_or_insert(error.into());
                false
            }
        }
    }

    /// How many results were printed.
    pub const fn printed(&self) -> u64 {
        self.printed
    }

    /// Ends it; the exit status.
    pub fn finish(mut self) -> anyhow::Result<u8> {
        self.progress.clear();
        self.flush();
        match self.failed {
            Some(error) => Err(error.into()),
            None if self.interrupted => Ok(Code::Interrupted as u8),
            None => Ok(0),
        }
    }
}
