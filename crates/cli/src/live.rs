//! The line on a terminal while a recording runs, and the user's wish to end it.

use crate::units::{show_ns, show_size};
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};
use stillframe_capture::{Observer, Stats};
use stillframe_linux::signals::Interrupts;

/// How often the line is drawn again.
const REDRAW: Duration = Duration::from_millis(200);

/// Watches a recording for the user.
pub struct Live {
    interrupts: Interrupts,
    terminal: bool,
    /// The target was started by us: signals that are not from the terminal are passed on to it,
    /// and the first one does not end the recording, so that the target's own end is recorded.
    launched: bool,
    asked: u32,
    drawn: Option<Instant>,
}

impl Live {
    /// `launched`: the target was started by us.
    pub fn new(interrupts: Interrupts, launched: bool, quiet: bool) -> Self {
        let terminal = !quiet && std::io::stderr().is_terminal();
        Self {
            interrupts,
            terminal,
            launched,
            asked: 0,
            drawn: None,
        }
    }

    /// The user's signals.
    pub const fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if self.terminal && self.drawn.take().is_some() {
            // A terminal that is gone needs no line.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Observer for Live {
    fn progress(&mut self, stats: &Stats, elapsed: Duration, lag: bool) {
        if !self.terminal || self.drawn.is_some_and(|at| at.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = format!(
            "{:.1}s  {} checkpoints  {:.1}/s  pause p50 {} p99 {} max {}  dirty {}  written {}{}{}",
            elapsed.as_secs_f64(),
            stats.checkpoints,
            stats.rate(elapsed),
            show_ns(stats.pauses.quantile(0.5)),
            show_ns(stats.pauses.quantile(0.99)),
            show_ns(stats.pauses.max()),
            stats.last.dirty_pages,
            show_size(stats.stored_bytes),
            if stats.skipped > 0 {
                format!("  skipped {}", stats.skipped)
            } else {
                String::new()
            },
            if lag { "  lagging" } else { "" },
        );
        // Cut to the terminal's width would need asking for it; a long line merely wraps.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    }

    fn wish(&self) -> BorrowedFd<'_> {
        self.interrupts.as_fd()
    }

    fn shall_stop(&mut self, pid: u32) -> bool {
        let Some(interrupt) = self.interrupts.take() else {
            return false;
        };
        self.asked += 1;
        if !self.launched {
            return true;
        }
        // The terminal has sent it to the whole foreground group, the target included.
        if !interrupt.from_terminal {
            interrupt.pass_on(pid);
        }
        self.asked > 1
    }
}
