//! Stopping all members at one instant.

use super::super::events::Mode;
use super::super::stop::{Brought, LOOK_AROUND, Moving};
use super::super::{Birth, Event, Halt, State, Stop, Tracee};
use super::Family;
use crate::error::{Error, Result};
use std::time::{Duration, Instant};

/// What came of stopping.
#[derive(Debug)]
pub enum FamilyStop<'a> {
    /// Every thread of every member is stopped.
    All(FamilyHalt<'a>),
    /// A thread did not stop in time. All others run again.
    TimedOut {
        /// Its process.
        pid: u32,
        /// Which.
        tid: u32,
        /// What it does instead, for people.
        why: String,
    },
    /// Something happened that needs attention first. What it holds is held, all other threads run
    /// again.
    Event {
        /// To whom.
        pid: u32,
        /// What.
        event: Event,
    },
}

/// All members of a family, stopped. Dropping it resumes them, threads held for an event excepted.
#[derive(Debug)]
pub struct FamilyHalt<'a> {
    family: &'a mut Family,
    stopped_at: Instant,
    resumed: bool,
}

impl FamilyHalt<'_> {
    /// The processes, in the order in which they became known.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.family
            .members
            .iter()
            .filter(|m| takes_part(m))
            .map(Tracee::pid)
    }

    /// One process. It is resumed with all others, not when this goes; [`Halt::resume`] would let it
    /// run alone.
    pub fn process(&mut self, pid: u32) -> Option<Halt<'_>> {
        let stopped_at = self.stopped_at;
        let member = self
            .family
            .members
            .iter_mut()
            .find(|m| m.pid == pid && takes_part(m))?;
        Some(Halt::part(member, stopped_at))
    }

    /// Every process, as [`FamilyHalt::process`].
    pub fn processes(&mut self) -> impl Iterator<Item = Halt<'_>> {
        let stopped_at = self.stopped_at;
        self.family
            .members
            .iter_mut()
            .filter(|m| takes_part(m))
            .map(move |m| Halt::part(m, stopped_at))
    }

    /// When the last thread had stopped.
    pub const fn stopped_at(&self) -> Instant {
        self.stopped_at
    }

    /// Leaves all threads as they stand: the next [`Family::stop_all`] finds them stopped, and they
    /// have not run an instruction until then.
    pub fn stay(mut self) {
        self.resumed = true;
    }

    /// Resumes all threads, those held for an event excepted. How long each stood still is then told
    /// by [`Family::stalls`].
    ///
    /// # Errors
    /// The kernel's; all threads have been tried.
    pub fn resume(mut self) -> Result<()> {
        self.resumed = true;
        self.family.let_run()
    }
}

impl Drop for FamilyHalt<'_> {
    fn drop(&mut self) {
        if !self.resumed
            && let Err(error) = self.family.let_run()
        {
            tracing::warn!(pid = self.family.pid, %error, "could not resume every thread");
        }
    }
}

/// Whether a stopped member is a process of its own, and not past its last instruction.
fn takes_part(member: &Tracee) -> bool {
    member.counts() && !member.has_exited() && !member.tids.is_empty()
}

/// What came of bringing all to a halt.
enum Gathered {
    All,
    Event,
    TimedOut { pid: u32, tid: u32, why: String },
}

impl Family {
    /// Stops all threads of all members, as [`Tracee::stop`] does for one process. All are asked
    /// before any is waited for.
    ///
    /// # Errors
    /// [`Error::ProcessGone`] if no member is left; else the kernel's.
    pub fn stop_all(&mut self, limit: Duration) -> Result<FamilyStop<'_>> {
        let gathered = match self.gather_all(Instant::now() + limit) {
            Ok(gathered) => gathered,
            Err(e) => {
                self.let_run()?;
                return Err(e);
            }
        };
        match gathered {
            Gathered::All => Ok(FamilyStop::All(FamilyHalt {
                family: self,
                stopped_at: Instant::now(),
                resumed: false,
            })),
            Gathered::TimedOut { pid, tid, why } => {
                self.let_run()?;
                Ok(FamilyStop::TimedOut { pid, tid, why })
            }
            Gathered::Event => {
                self.let_run()?;
                match self.next_event() {
                    Some((pid, event)) => Ok(FamilyStop::Event { pid, event }),
                    None => Err(Error::ProcessGone(self.pid)),
                }
            }
        }
    }

    /// Stops one member alone, to set it up, say.
    ///
    /// # Errors
    /// [`Error::ProcessGone`] if it is not there; else as [`Tracee::stop`].
    pub fn stop_one(&mut self, pid: u32, limit: Duration) -> Result<Stop<'_>> {
        if self.place(pid).is_none() {
            return Err(Error::ProcessGone(pid));
        }
        self.alone = Some(pid);
        let gathered = self.gather_all(Instant::now() + limit);
        self.alone = None;
        let at = self.place(pid).ok_or(Error::ProcessGone(pid));
        let member = self.member(at?)?;
        match gathered {
            Ok(Gathered::All) => Ok(Stop::All(Halt::new(member))),
            Ok(Gathered::TimedOut { tid, why, .. }) => {
                member.let_run()?;
                Ok(Stop::TimedOut { tid, why })
            }
            Ok(Gathered::Event) => {
                member.let_run()?;
                match member.queue.pop_front() {
                    Some(event) => Ok(Stop::Event(event)),
                    None => Err(Error::ProcessGone(pid)),
                }
            }
            Err(e) => {
                member.let_run()?;
                Err(e)
            }
        }
    }

    fn gather_all(&mut self, end: Instant) -> Result<Gathered> {
        if let Some(only) = self.single() {
            let pid = only.pid;
            return Ok(match only.bring_to_halt(end)? {
                Brought::All => Gathered::All,
                Brought::Event => Gathered::Event,
                Brought::TimedOut { tid, why } => Gathered::TimedOut { pid, tid, why },
            });
        }
        self.digest_all()?;
        if self.has_urgent_event() {
            return Ok(Gathered::Event);
        }
        for member in self.members.iter().filter(|m| self.is_wanted(m)) {
            member.interrupt_all()?;
        }
        let gathered = self.gather(end);
        self.bell.rest();
        gathered
    }

    /// Waits for the threads interrupted, one after the other: while it waits for one, others stop.
    fn gather(&mut self, end: Instant) -> Result<Gathered> {
        let mut last_look = Instant::now();
        let mut at = 0;
        loop {
            self.consider_deaths()?;
            if self.has_urgent_event() {
                return Ok(Gathered::Event);
            }
            let Some(member) = self.members.get(at) else {
                if self.is_complete()? {
                    return Ok(Gathered::All);
                }
                if let Some(late) = self.wait_for_birth(end)? {
                    return Ok(late);
                }
                at = 0;
                continue;
            };
            if !self.is_wanted(member) || member.has_exited() {
                at += 1;
                continue;
            }
            let pid = member.pid;
            let member = self.member(at)?;
            let Some((tid, how)) = member.first_moving() else {
                at += 1;
                continue;
            };
            if self.poll(at, tid, Mode::Stopping)? {
                continue;
            }
            let now = Instant::now();
            if now >= end {
                let why = self.member(at)?.why_not_stopped(tid);
                return Ok(Gathered::TimedOut { pid, tid, why });
            }
            if now - last_look >= LOOK_AROUND {
                last_look = now;
                self.settle_births()?;
                if self.poll_all(Mode::Stopping)? {
                    continue;
                }
            }
            if how == Moving::WithoutReport {
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            match self.awaited_by(pid) {
                // Its guest has to get on, or it never stops.
                Some(guest) if self.poll_member_of(guest)? => {}
                Some(guest) => self.bell.watch(guest)?,
                None => self.bell.watch(tid)?,
            }
        }
    }

    /// Whether all that is stopped is all there is. If not, what is new has been asked to stop.
    fn is_complete(&mut self) -> Result<bool> {
        let (mut complete, mut any) = (true, false);
        for at in 0..self.members.len() {
            let wanted = self.members.get(at).is_some_and(|m| self.is_wanted(m));
            let member = self.member(at)?;
            if !wanted || member.has_exited() {
                continue;
            }
            // A child that is not told of yet will be, by an event, unless it is dead already.
            complete &= member.first_moving().is_none()
                && (member.tids.is_empty()
                    || member.birth == Birth::Over && member.has_all_threads()?);
            any |= takes_part(member);
        }
        if complete && !any {
            return Err(Error::ProcessGone(self.alone.unwrap_or(self.pid)));
        }
        Ok(complete)
    }

    /// If a child is there and its maker has not told of it, waits a little.
    fn wait_for_birth(&mut self, end: Instant) -> Result<Option<Gathered>> {
        let unborn = |m: &&Tracee| m.birth != Birth::Over && !m.tids.is_empty();
        let Some(pid) = self.members.iter().find(unborn).map(Tracee::pid) else {
            return Ok(None);
        };
        if Instant::now() >= end {
            let why = "it was just made, by a process that was killed".into();
            return Ok(Some(Gathered::TimedOut { pid, tid: pid, why }));
        }
        self.settle_births()?;
        if !self.poll_all(Mode::Stopping)? {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(None)
    }

    /// Whether something must be dealt with before those that are to stop have a halt.
    fn has_urgent_event(&self) -> bool {
        self.members
            .iter()
            .any(|m| self.alone.is_none_or(|p| p == m.pid) && m.has_urgent_event())
    }

    /// A thread of a guest that a thread of this process waits for.
    fn awaited_by(&self, host: u32) -> Option<u32> {
        self.members
            .iter()
            .filter(|m| m.guest.is_some_and(|g| g.awaited && g.host == host))
            .flat_map(|m| m.threads.iter())
            .find(|t| !matches!(t.state, State::Stopped(_)))
            .map(|t| t.tid)
    }

    fn poll_member_of(&mut self, tid: u32) -> Result<bool> {
        match self.place_of_thread(tid) {
            Some(at) => self.poll(at, tid, Mode::Stopping),
            None => Ok(true),
        }
    }

    /// Resumes every stopped thread that is not held.
    pub(super) fn let_run(&mut self) -> Result<()> {
        let mut done = Ok(());
        for member in &mut self.members {
            let result = member.let_run();
            if done.is_ok() {
                done = result;
            }
        }
        done
    }
}
