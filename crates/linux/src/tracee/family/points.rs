//! What the processes of a family ask of their recorder.

use super::Family;
use crate::error::Result;
use std::time::Duration;

impl Family {
    /// Whether every named point is taken as asking for a checkpoint. Holds for the members there
    /// are.
    pub fn hold_at_points(&mut self, hold: bool) {
        for member in &mut self.members {
            member.hold_at_points(hold);
        }
    }

    /// Whether a thread waits for a checkpoint.
    pub fn is_asked(&self) -> bool {
        self.members.iter().any(|m| m.is_asked())
    }

    /// As [`Tracee::points_taken`](super::Tracee::points_taken), for one process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn points_taken(&mut self, pid: u32, number: u64) -> Result<()> {
        match self.place(pid) {
            Some(at) => self.member(at)?.points_taken(number),
            None => Ok(()),
        }
    }

    /// As [`Tracee::answer`](super::Tracee::answer), for a thread of one process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer(&mut self, pid: u32, tid: u32, checkpoints: u64) -> Result<()> {
        match self.place(pid) {
            Some(at) => self.member(at)?.answer(tid, checkpoints),
            None => Ok(()),
        }
    }

    /// Tells threads that have waited this long that there will be no checkpoint; those of one
    /// process, or of all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn decline_points(&mut self, of: Option<u32>, after: Duration) -> Result<()> {
        for member in &mut self.members {
            if of.is_none_or(|pid| pid == member.pid) {
                member.decline_points(after)?;
            }
        }
        Ok(())
    }
}
