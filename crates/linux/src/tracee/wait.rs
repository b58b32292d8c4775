//! Waiting for what happens next.

use super::bell::Rung;
use super::events::Mode;
use super::{Event, Tracee};
use crate::error::Result;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Why a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The time has come.
    Deadline,
    /// This descriptor, by its position, is readable or hung up.
    Descriptor(usize),
    /// Something happened.
    Event(Event),
}

/// How long reports are taken in a row before the clock and the descriptors are looked at.
pub(super) const SLICE: Duration = Duration::from_millis(10);

impl Tracee {
    /// Lets the process run until something happens that its recorder may want to know. What needs
    /// no decision is done here: signals are passed on, new threads taken in, ended ones reaped.
    ///
    /// The process runs only as well as this is called: a thread that reports a signal waits for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self, deadline: Option<Instant>, wake: &[BorrowedFd<'_>]) -> Result<Wake> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Wake::Event(event));
            }
            self.bell.hush();
            let slice = Instant::now() + SLICE;
            self.sweep(Mode::Running, deadline.map_or(slice, |d| d.min(slice)))?;
            if !self.queue.is_empty() {
                continue;
            }
            let until = [deadline, self.next_look()].into_iter().flatten().min();
            if let Rung::Descriptor(index) = self.bell.sleep_with(until, wake)? {
                return Ok(Wake::Descriptor(index));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(Wake::Deadline);
            }
        }
    }
}
