//! Waiting for what happens next to any member.

use super::super::bell::Rung;
use super::super::events::{Mode, poll_stray};
use super::super::wait::SLICE;
use super::super::{Event, Wake};
use super::{Family, earlier};
use crate::error::Result;
use crate::ptrace::{Running, wait_any_peek};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Why a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyWake {
    /// The time has come.
    Deadline,
    /// This descriptor, by its position, is readable or hung up.
    Descriptor(usize),
    /// Something happened to this process.
    Event {
        /// Which.
        pid: u32,
        /// What.
        event: Event,
    },
}

impl Family {
    /// Lets all members run until something happens that their recorder may want to know, as
    /// [`Tracee::wait`](crate::tracee::Tracee::wait) does for one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(
        &mut self,
        deadline: Option<Instant>,
        wake: &[BorrowedFd<'_>],
    ) -> Result<FamilyWake> {
        if let Some(only) = self.single() {
            let pid = only.pid;
            let woken = only.wait(deadline, wake)?;
            return Ok(match woken {
                Wake::Deadline => FamilyWake::Deadline,
                Wake::Descriptor(index) => FamilyWake::Descriptor(index),
                Wake::Event(event) => {
                    if let Event::Ended(outcome) = event {
                        self.outcome = Some(outcome);
                        self.members.clear();
                    }
                    FamilyWake::Event { pid, event }
                }
            });
        }
        loop {
            if let Some((pid, event)) = self.next_event() {
                return Ok(FamilyWake::Event { pid, event });
            }
            self.bell.hush();
            let slice = Instant::now() + SLICE;
            self.sweep(Mode::Running, deadline.map_or(slice, |d| d.min(slice)))?;
            if self.members.iter().any(|m| !m.queue.is_empty()) {
                continue;
            }
            let look = self.members.iter().filter_map(|m| m.next_look()).min();
            let until = earlier(earlier(deadline, look), self.next_birth());
            if let Rung::Descriptor(index) = self.bell.sleep_with(until, wake)? {
                return Ok(FamilyWake::Descriptor(index));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(FamilyWake::Deadline);
            }
        }
    }

    /// Takes reports until there are none, or until `until`.
    fn sweep(&mut self, mode: Mode, until: Instant) -> Result<()> {
        self.digest_all()?;
        while let Some((tid, is_tracee)) = wait_any_peek()? {
            if self.members.iter().any(|m| m.holds_a_signal()) {
                // Its report is not taken before it is delivered, and may hide those of others.
                self.meet_unknown(tid, is_tracee)?;
                self.poll_all(mode)?;
                break;
            }
            let taken = if let Some(at) = self.place_of_thread(tid) {
                self.poll(at, tid, mode)?
            } else if self.strays.iter().any(|s| s.tid() == tid) {
                poll_stray(&mut self.strays, tid)?
            } else if is_tracee {
                // A new thread or process, whose maker's report has not been taken yet.
                self.meet(tid)?;
                true
            } else {
                // The end of a child that has nothing to do with this, and hides what is behind it.
                // It is left for whoever made it; ours are asked one by one.
                self.poll_all(mode)?;
                break;
            };
            if !taken || Instant::now() >= until {
                break;
            }
        }
        self.consider_deaths()?;
        self.settle_births()
    }

    fn meet_unknown(&mut self, tid: u32, is_tracee: bool) -> Result<()> {
        let known = self.place_of_thread(tid).is_some()
            || self.strays.iter().map(Running::tid).any(|s| s == tid);
        if is_tracee && !known {
            self.meet(tid)?;
        }
        Ok(())
    }
}
