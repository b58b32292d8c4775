//! Stopping all threads.

use super::events::Mode;
use super::halt::Halt;
use super::status::{self, Status};
use super::{Event, Stall, State, Tracee};
use crate::error::{Error, Result};
use crate::ptrace::{Resume, StopKind};
use std::time::{Duration, Instant};

/// What came of stopping.
#[derive(Debug)]
pub enum Stop<'a> {
    /// Every thread is stopped.
    All(Halt<'a>),
    /// A thread did not stop in time. All others run again.
    TimedOut {
        /// Which.
        tid: u32,
        /// What it does instead, for people.
        why: String,
    },
    /// Something happened that needs attention first. What it holds is held, all other threads run
    /// again.
    Event(Event),
}

/// How often threads other than the one waited for are looked at.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(2);

/// How a thread that is not stopped will come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    /// It will report something.
    ToReport,
    /// It becomes a zombie that waits for other threads, and nobody is told.
    WithoutReport,
}

pub(super) enum Brought {
    All,
    /// There is an urgent event in the queue.
    Event,
    TimedOut {
        tid: u32,
        why: String,
    },
}

impl Tracee {
    /// Stops all threads. Signals that arrive meanwhile are delivered first (their handlers do not
    /// run yet), so that every signal is either queued or delivered.
    ///
    /// Threads held for an event count as stopped.
    ///
    /// # Errors
    /// [`Error::ProcessGone`] if it has ended; else the kernel's.
    pub fn stop(&mut self, limit: Duration) -> Result<Stop<'_>> {
        let brought = match self.bring_to_halt(Instant::now() + limit) {
            Ok(brought) => brought,
            Err(e) => {
                self.let_run()?;
                return Err(e);
            }
        };
        match brought {
            Brought::All => Ok(Stop::All(Halt::new(self))),
            Brought::TimedOut { tid, why } => {
                self.let_run()?;
                Ok(Stop::TimedOut { tid, why })
            }
            Brought::Event => {
                self.let_run()?;
                let at = self.queue.iter().position(Event::is_urgent);
                match at.and_then(|at| self.queue.remove(at)) {
                    Some(event) => Ok(Stop::Event(event)),
                    None => Err(Error::ProcessGone(self.pid)),
                }
            }
        }
    }

    pub(super) fn bring_to_halt(&mut self, end: Instant) -> Result<Brought> {
        if self.queue.iter().any(Event::is_urgent) {
            return Ok(Brought::Event);
        }
        if self.has_exited() {
            return Err(Error::ProcessGone(self.pid));
        }
        self.interrupt_all()?;
        let brought = self.gather(end);
        self.bell.rest();
        brought
    }

    /// Waits for the threads interrupted, one after the other: while it waits for one, others stop.
    fn gather(&mut self, end: Instant) -> Result<Brought> {
        let mut last_look = Instant::now();
        loop {
            self.consider_death()?;
            if self.queue.iter().any(Event::is_urgent) {
                return Ok(Brought::Event);
            }
            let Some((tid, at)) = self.first_moving() else {
                if self.tids.is_empty() {
                    return Err(Error::ProcessGone(self.pid));
                }
                if self.has_all_threads()? {
                    return Ok(Brought::All);
                }
                continue;
            };
            if self.poll(tid, Mode::Stopping)? {
                continue;
            }
            let now = Instant::now();
            if now >= end {
                let why = self.why_not_stopped(tid);
                return Ok(Brought::TimedOut { tid, why });
            }
            if now - last_look >= LOOK_AROUND {
                last_look = now;
                if self.poll_all(Mode::Stopping)? {
                    continue;
                }
            }
            if at == Moving::WithoutReport {
                std::thread::sleep(Duration::from_micros(100));
            } else {
                self.bell.watch(tid)?;
            }
        }
    }

    /// A thread that can still touch memory. One past its exit stop can, until it is reaped: the
    /// kernel clears its tid address and marks its robust futexes then. The first thread is not
    /// reaped before the others, so it is looked at.
    pub(super) fn first_moving(&mut self) -> Option<(u32, Moving)> {
        let pid = self.pid;
        self.threads.iter_mut().find_map(|t| match t.state {
            State::Stopped(_) => None,
            State::Running(_) | State::Listening(_) | State::Moving => {
                Some((t.tid, Moving::ToReport))
            }
            State::Ending(_) => {
                if t.tid == pid && !t.zombie {
                    let state = Status::read_thread(pid, pid).ok().and_then(|s| s.state());
                    t.zombie = state.is_none_or(|s| matches!(s, 'Z' | 'X'));
                }
                let how = if t.tid == pid {
                    Moving::WithoutReport
                } else {
                    Moving::ToReport
                };
                (!t.zombie).then_some((t.tid, how))
            }
        })
    }

    pub(super) fn interrupt_all(&self) -> Result<()> {
        for thread in &self.threads {
            if let State::Running(r) | State::Listening(r) = &thread.state {
                match r.interrupt() {
                    Err(e) if !e.is_gone() => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Compares the number of threads with those we have. If it differs, seizes what is missing.
    pub(super) fn has_all_threads(&mut self) -> Result<bool> {
        let expected = self.threads.len() + self.workers.len();
        if status::count_threads(&self.task_dir).is_none_or(|n| n == expected) {
            return Ok(true);
        }
        let before = self.threads.len();
        self.seize_all()?;
        if self.threads.len() == before {
            // Helpers of the kernel, or threads that have ended and are not reaped yet.
            return Ok(true);
        }
        self.interrupt_all()?;
        Ok(false)
    }

    /// Resumes every stopped thread that is not held.
    pub(super) fn let_run(&mut self) -> Result<()> {
        let mut failed = None;
        self.stalls.clear();
        for thread in &mut self.threads {
            if thread.held {
                continue;
            }
            let next = match std::mem::replace(&mut thread.state, State::Moving) {
                State::Stopped(s) => {
                    let next = match s.kind() {
                        StopKind::Group(_) => s.listen().map(State::Listening),
                        StopKind::Signal(n) => s.resume(Resume::Continue, n).map(State::Running),
                        StopKind::Exit => s.resume(Resume::Continue, 0).map(State::Ending),
                        _ => s.resume(Resume::Continue, 0).map(State::Running),
                    };
                    self.stalls.push(Stall {
                        tid: thread.tid,
                        stopped: thread.seen,
                        resumed: Instant::now(),
                    });
                    next
                }
                other => Ok(other),
            };
            match next {
                Ok(state) => thread.state = state,
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    pub(super) fn why_not_stopped(&self, tid: u32) -> String {
        const FORK_LIKE: [i64; 3] = [56, 58, 435];
        let state = Status::read_thread(self.pid, tid)
            .ok()
            .and_then(|s| s.state());
        match (state, status::blocked_in(self.pid, tid)) {
            (Some('D'), Some(nr)) if FORK_LIKE.contains(&nr) => {
                "it waits for a child made by vfork to exec or exit".into()
            }
            (_, Some(58)) => "it waits for a child made by vfork to exec or exit".into(),
            (Some('D'), Some(nr)) => {
                format!("it is in an uninterruptible wait in system call {nr}")
            }
            (Some('D'), None) => "it is in an uninterruptible wait".into(),
            (Some('R'), _) => "it is running but did not stop in time; the machine is busy".into(),
            (Some(state), _) => format!("it did not stop in time (state {state})"),
            (None, _) => "it did not stop in time".into(),
        }
    }
}
