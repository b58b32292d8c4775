//! What follows from something that happens to a recorded process.

use super::{Goals, PATIENT_LIMIT, Session, Verdict};
use crate::Error;
use crate::engine::{Happened, Outcome};
use std::time::Instant;
use stillframe_image::Marks;
use stillframe_linux::tracee::Event;

/// Attempts at a last checkpoint: each gives way to something that happens to another process.
const LAST_TRIES: u32 = 64;

impl Session<'_> {
    /// Deals with an event of a process. Gives the verdict if it ends the recording.
    pub(super) fn event(
        &mut self,
        pid: u32,
        event: Event,
        goals: &mut Goals,
    ) -> Result<Option<Verdict>, Error> {
        tracing::debug!(pid, ?event, "target");
        let root = pid == self.engine.parts().0.pid();
        match event {
            Event::ThreadsChanged
            | Event::JobStopped
            | Event::JobContinued
            // It becomes a process of its own when it execs.
            | Event::Born {
                shares_memory: true,
                ..
            } => {}
            // The thread stands there until `step` has taken a checkpoint, or told it so.
            Event::Point { tid, wish } => self.engine.point(pid, tid, wish)?,
            Event::Born { parent, .. } => {
                let made = self.engine.born(pid, parent);
                self.joined(pid, made)?;
                goals.marks = goals.marks.with(Marks::FORK);
            }
            Event::Exec if root => {
                self.engine.replaced(pid)?;
                // The next tick, at once, is the first checkpoint of the new program, which is held
                // until then.
                goals.marks = goals.marks.with(Marks::FULL.with(Marks::EXEC));
                goals.held.push(pid);
                goals.due = Instant::now();
            }
            Event::Exec => {
                let made = self.engine.replaced(pid);
                self.joined(pid, made)?;
                goals.marks = goals.marks.with(Marks::EXEC);
            }
            Event::Fatal { tid, siginfo } if root && self.keeper.is_some() => {
                let mut others = Vec::new();
                let crash = (tid, siginfo);
                if !self.save(pid, &crash, goals, &mut others)? {
                    self.crashed |= root;
                    self.engine.parts().0.release(pid)?;
                }
                return self.events(others, goals);
            }
            Event::Fatal { tid, siginfo } => {
                let others = self.last_words(Marks::CRASH, Some((tid, siginfo)));
                self.crashed |= root;
                self.engine.parts().0.release(pid)?;
                return self.events(others, goals);
            }
            Event::Exiting { .. } => {
                let others = if root && !self.crashed {
                    self.last_words(Marks::EXIT, None)
                } else {
                    Vec::new()
                };
                self.engine.parts().0.release(pid)?;
                return self.events(others, goals);
            }
            Event::Ended(ended) => {
                self.engine.ended(pid);
                let family = self.engine.parts().0;
                if family.is_over() {
                    let outcome = family.outcome().unwrap_or(ended);
                    return Ok(Some(Verdict::Ended(outcome)));
                }
            }
        }
        Ok(None)
    }

    /// Deals with what happened while something else was being dealt with.
    pub(super) fn events(
        &mut self,
        events: Vec<Happened>,
        goals: &mut Goals,
    ) -> Result<Option<Verdict>, Error> {
        for (pid, event) in events {
            if let Some(verdict) = self.event(pid, event, goals)? {
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    }

    /// A process of the tree begins, with memory of its own. It runs even if it cannot be recorded.
    fn joined(&mut self, pid: u32, made: Result<(), Error>) -> Result<(), Error> {
        match made {
            Ok(()) => {}
            Err(Error::Kernel(error) | Error::Setup { source: error, .. }) if error.is_gone() => {}
            Err(error) => tracing::warn!("process {pid} is not recorded: {error}"),
        }
        Ok(self.engine.parts().0.release(pid)?)
    }

    /// The last checkpoint of a process. If it fails the recording still ends as it should. Returns
    /// what happened to others meanwhile.
    fn last_words(
        &mut self,
        marks: Marks,
        crash: Option<(u32, stillframe_image::SigInfo)>,
    ) -> Vec<Happened> {
        let mut others = Vec::new();
        for _ in 0..LAST_TRIES {
            let taken = self.engine.taken();
            match self.engine.checkpoint(marks, crash.as_ref(), PATIENT_LIMIT) {
                Ok(Outcome::Event(other)) => {
                    others.push(other);
                    if self.engine.taken() > taken {
                        return others;
                    }
                }
                Ok(Outcome::Taken) => return others,
                Ok(Outcome::NotStopped(why)) => {
                    tracing::warn!("no last checkpoint could be taken: {why}");
                    return others;
                }
                Err(error) => {
                    tracing::warn!("no last checkpoint could be taken: {error}");
                    return others;
                }
            }
        }
        tracing::warn!("no last checkpoint could be taken: too much happened to other processes");
        others
    }
}
