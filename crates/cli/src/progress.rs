//! Progress of long work: a line on stderr, if that is a terminal, renewed ten times a second.

use crate::units;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The line.
pub struct Progress {
    doing: &'static str,
    last: Option<Instant>,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Not shown yet.
    pub fn new(doing: &'static str) -> Self {
        Self {
            doing,
            last: None,
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Shows how far it is, bytes.
    pub fn show(&mut self, done: u64, all: u64) {
        self.line(done, all, || units::show_size(all));
    }

    /// Shows how far it is, things of some sort.
    pub fn show_count(&mut self, done: u64, all: u64, things: &str) {
        self.line(done, all, || format!("{all} {things}"));
    }

    fn line(&mut self, done: u64, all: u64, amount: impl FnOnce() -> String) {
        let due = self
            .last
            .is_none_or(|last| last.elapsed() >= Duration::from_millis(100));
        if !self.terminal || !due {
            return;
        }
        self.last = Some(Instant::now());
        self.shown = true;
        let percent = done
            .saturating_mul(100)
            .checked_div(all)
            .unwrap_or(0)
            .min(100);
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{}: {percent} % of {}",
            self.doing,
            amount()
        );
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }
}
