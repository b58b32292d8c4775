//! How long threads stood still.
//!
//! The pause of a boundary is one figure; what each thread lost by it is another: the first to stop
//! waits for the last, and the last to be resumed for the first.

use super::Tracee;
use std::time::{Duration, Instant};

/// What one stop cost one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The thread.
    pub tid: u32,
    /// When it was seen to have stopped. It had by then.
    pub stopped: Instant,
    /// When it had been resumed. It may have run a little before.
    pub resumed: Instant,
}

impl Stall {
    /// How long it stood still, as far as we could see.
    pub fn duration(&self) -> Duration {
        self.resumed.saturating_duration_since(self.stopped)
    }
}

impl Tracee {
    /// The threads resumed at the end of the last stop, in ascending order. Those held for an event
    /// are not among them.
    pub fn stalls(&self) -> &[Stall] {
        &self.stalls
    }
}
