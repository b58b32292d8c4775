//! Someone who decides what becomes of a process that ails.
//!
//! The session takes the checkpoint of that instant, asks, and does as it is told; when and how far
//! to go back, and when to give up, is none of its business.

use super::{Goals, PATIENT_LIMIT, Session, Verdict};
use crate::Error;
use crate::engine::{Happened, Outcome};
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, Marks, SigInfo};
use stillframe_linux::sockets;
use stillframe_restore::rollback::ahead::Ahead;
use stillframe_restore::rollback::ask::{Request, Summary};
use stillframe_restore::rollback::{Error as Failed, FilesToo};
use stillframe_store::Row;

/// How long a sick process may go unnoticed.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Attempts at a checkpoint of the instant.
const TRIES: u32 = 16;

/// What ails a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// A signal is about to end it.
    Signal {
        /// The thread it is for.
        tid: u32,
        /// The signal.
        number: i32,
        /// Where the thread stands.
        at: u64,
    },
    /// Whoever looks after it found it sick, for this reason.
    Health(String),
}

/// A process that ails, and its past.
#[derive(Debug)]
pub struct Case<'a> {
    /// The process.
    pub pid: u32,
    /// What ails it.
    pub ailment: &'a Ailment,
    /// The checkpoint of this instant.
    pub present: CheckpointId,
    /// All checkpoints, in ascending order, the present one last.
    pub rows: &'a [Row],
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: it goes its way.
    Leave,
    /// Back to a checkpoint. `break_input`: the connection that data last came in by is broken in its
    /// second life.
    GoBack {
        /// Which.
        to: CheckpointId,
        /// See above.
        break_input: bool,
        /// What is done with files that it writes.
        files: FilesToo,
    },
    /// It is killed.
    Kill,
}

/// Decides.
pub trait Keeper {
    /// Whether the process ails without a signal. Asked some twenty times a second.
    fn look(&mut self, pid: u32) -> Option<String>;
    /// What is to be done about it.
    fn judge(&mut self, case: &Case<'_>) -> Remedy;
    /// It was done: the process is back, or why it is not.
    fn told(&mut self, outcome: Result<(&Summary, Duration), String>);
}

impl Session<'_> {
    /// A process is about to be killed by a signal. `true`: it is back, and lives.
    pub(super) fn save(
        &mut self,
        pid: u32,
        crash: &(u32, SigInfo),
        goals: &mut Goals,
        others: &mut Vec<Happened>,
    ) -> Result<bool, Error> {
        if self.keeper.is_none() {
            return Ok(false);
        }
        let begun = Instant::now();
        if !self.stand_still(Marks::CRASH, Some(crash), others)? {
            return Ok(false);
        }
        let (family, _) = self.engine.parts();
        let at = family.instruction(pid, crash.0).unwrap_or(0);
        let ailment = Ailment::Signal {
            tid: crash.0,
            number: crash.1.signal,
            at,
        };
        self.treat(pid, &ailment, begun, goals)
    }

    /// Asks whether the process ails though no signal says so.
    pub(super) fn look_after(&mut self, goals: &mut Goals) -> Result<Option<Verdict>, Error> {
        let pid = self.engine.parts().0.pid();
        let Some(why) = self.keeper.as_mut().and_then(|k| k.look(pid)) else {
            return Ok(None);
        };
        let begun = Instant::now();
        let mut others = Vec::new();
        if self.stand_still(Marks::default(), None, &mut others)? {
            self.treat(pid, &Ailment::Health(why), begun, goals)?;
        }
        self.events(others, goals)
    }

    /// The checkpoint of this instant, after which all stands still.
    fn stand_still(
        &mut self,
        marks: Marks,
        crash: Option<&(u32, SigInfo)>,
        others: &mut Vec<Happened>,
    ) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let taken = self.engine.taken();
            match self.engine.stand(marks, crash, PATIENT_LIMIT)? {
                Outcome::Taken => return Ok(true),
                Outcome::Event(other) => {
                    others.push(other);
                    if self.engine.taken() > taken {
                        return Ok(true);
                    }
                }
                Outcome::NotStopped(why) => {
                    tracing::warn!("the sick process could not be stopped: {why}");
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Asks for the remedy and applies it; whether the process is back.
    fn treat(
        &mut self,
        pid: u32,
        ailment: &Ailment,
        begun: Instant,
        goals: &mut Goals,
    ) -> Result<bool, Error> {
        let present = CheckpointId(self.engine.taken().saturating_sub(1));
        let remedy = match self.read_rows() {
            Ok(rows) => {
                let case = Case {
                    pid,
                    ailment,
                    present,
                    rows: &rows,
                };
                self.keeper
                    .as_mut()
                    .map_or(Remedy::Leave, |k| k.judge(&case))
            }
            Err(error) => {
                tracing::warn!("the recording cannot be read: {error}");
                Remedy::Leave
            }
        };
        let back = match remedy {
            Remedy::Leave => false,
            Remedy::Kill => {
                stillframe_linux::child::end(pid);
                false
            }
            Remedy::GoBack {
                to,
                break_input,
                files,
            } => {
                let request = Request {
                    pid,
                    to: to.0,
                    paranoid: self.options.paranoid,
                    stay: false,
                    files,
                };
                let broken = match break_input {
                    true => sockets::last_to_receive(pid).into_iter().collect(),
                    false => Vec::new(),
                };
                let result = self.go_back(&request, broken, &mut Ahead::default(), goals)?;
                if let Some(keeper) = &mut self.keeper {
                    match &result {
                        Ok(summary) => keeper.told(Ok((summary, begun.elapsed()))),
                        Err(error) => keeper.told(Err(error.to_string())),
                    }
                }
                if let Err(Failed::PutBack(_) | Failed::Mixed { .. }) = &result {
                    // It stands where nobody will look for it. All that was is in the recording.
                    stillframe_linux::child::end(pid);
                }
                return Ok(result.is_ok());
            }
        };
        // Whatever is held for its signal is released by whoever asked; all others go on.
        self.go_on()?;
        Ok(back)
    }
}
