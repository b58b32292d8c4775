//! Letting all members go.

use super::super::events::Mode;
use super::Family;
use crate::error::{Error, Result};
use crate::ptrace::{Running, Waited, wait_any_peek};
use std::time::{Duration, Instant};

impl Family {
    /// Detaches every thread of every member. They run on; signals about to be delivered are
    /// delivered; stopped jobs stay stopped; children just made run.
    ///
    /// # Errors
    /// If a thread cannot be stopped, and so not be detached, for two seconds. It is released when
    /// the calling thread ends.
    pub fn detach(mut self) -> Result<()> {
        self.detach_all(Duration::from_secs(2))
    }

    /// Kills every member, and waits until they have ended. What the first process's end was is not
    /// told.
    ///
    /// # Errors
    /// The kernel's, or as [`Family::detach`] for one that does not die.
    pub fn kill(mut self) -> Result<()> {
        for member in &self.members {
            if let Some(pid) = rustix::process::Pid::from_raw(member.pid.cast_signed())
                && !member.has_exited()
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let end = Instant::now() + Duration::from_secs(2);
        while !self.is_over() && Instant::now() < end {
            if let super::FamilyWake::Event { pid, event } = self.wait(Some(end), &[])?
                && event.is_urgent()
            {
                self.release(pid)?;
            }
        }
        self.detach_all(Duration::from_millis(500))
    }

    fn detach_all(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        self.leaving = true;
        let mut stuck = Ok(());
        loop {
            self.digest_all()?;
            // Each time anew: a guest, or a child told of meanwhile, may have been let go.
            for member in &self.members {
                member.interrupt_all()?;
            }
            self.poll_all(Mode::Stopping)?;
            self.consider_deaths()?;
            self.settle_births()?;
            let mut moving = None;
            for at in 0..self.members.len() {
                let member = self.member(at)?;
                // Whatever it is, it is held or over, and detaching suits it.
                member.queue.clear();
                if member.has_exited() || member.threads.is_empty() {
                    continue;
                }
                if member.tids.is_empty() {
                    // Past its exit stops. Its parent is told once we have been.
                    moving = member.threads.first().map(|t| (at, t.tid));
                    continue;
                }
                match member.first_moving() {
                    // Guests can go before their hosts have stopped, who may wait for them.
                    None if member.has_all_threads()? => member.detach_stopped()?,
                    None => {}
                    Some((tid, _)) => moving = Some((at, tid)),
                }
            }
            self.members
                .retain(|m| !m.has_exited() && !m.threads.is_empty());
            let Some((at, tid)) = moving else {
                if self.members.is_empty() {
                    break;
                }
                continue;
            };
            if Instant::now() >= end {
                let why = self
                    .members
                    .get(at)
                    .map_or_else(String::new, |m| m.why_not_stopped(tid));
                for member in &mut self.members {
                    member.detach_stopped()?;
                }
                stuck = Err(Error::StillAttached { tid, why });
                break;
            }
            self.bell.watch(tid)?;
        }
        self.bell.rest();
        self.detach_unknown(end)?;
        self.members.retain(|m| !m.threads.is_empty());
        stuck
    }

    /// Children whose maker was killed before it told of them.
    fn detach_unknown(&mut self, end: Instant) -> Result<()> {
        let mut strays: Vec<Running> = std::mem::take(&mut self.strays);
        while Instant::now() < end {
            match wait_any_peek()? {
                Some((tid, true)) if self.place_of_thread(tid).is_none() => {
                    strays.retain(|s| s.tid() != tid);
                    match Running::adopted(tid).try_wait() {
                        Ok(Waited::Stopped(s)) => s.detach(0)?,
                        Ok(_) => {}
                        Err(e) if e.is_gone() => {}
                        Err(e) => return Err(e),
                    }
                }
                _ => break,
            }
        }
        Ok(())
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if self
            .members
            .iter()
            .all(|m| m.threads.is_empty() || m.has_exited())
        {
            return;
        }
        if let Err(error) = self.detach_all(Duration::from_millis(500)) {
            tracing::warn!(pid = self.pid, %error, "could not detach");
        }
    }
}
