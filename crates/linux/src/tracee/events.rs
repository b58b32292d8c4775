//! What each report means, and what is done about it.

use super::status;
use super::{Birth, Child, DYING_LIMIT, Dying, Event, State, Tracee, WONDER_LIMIT};
use crate::error::{Error, Result};
use crate::ptrace::{Outcome, Resume, Running, StopKind, Stopped, Waited, wait_any_peek};
use std::time::{Duration, Instant};

/// What is to become of threads that report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They run on.
    Running,
    /// They stay stopped, or stop again as soon as what they reported has been seen to.
    Stopping,
}

const SYS_EXIT: u64 = 60;
const SYS_EXIT_GROUP: u64 = 231;
const SYS_EXECVE: i64 = 59;
const SYS_EXECVEAT: i64 = 322;

impl Tracee {
    /// Takes reports until there are none, or until `until`. Returns whether there was any.
    pub(super) fn sweep(&mut self, mode: Mode, until: Instant) -> Result<bool> {
        let mut any = false;
        while let Some((tid, is_tracee)) = wait_any_peek()? {
            if self.holds_a_signal() {
                // Its report is not taken before it is delivered, and may hide those of others.
                any |= self.poll_all(mode)?;
                break;
            }
            let taken = if self.find(tid).is_some() {
                self.poll(tid, mode)?
            } else if self.strays.iter().any(|s| s.tid() == tid) {
                poll_stray(&mut self.strays, tid)?
            } else if is_tracee {
                // A new thread, whose maker's report has not been taken yet.
                self.adopt(tid, StopKind::Clone);
                true
            } else {
                // The end of a child that has nothing to do with this, and hides what is behind it.
                // It is left for whoever made it; ours are asked one by one.
                any |= self.poll_all(mode)?;
                break;
            };
            any |= taken;
            if !taken || Instant::now() >= until {
                break;
            }
        }
        self.consider_death()?;
        Ok(any)
    }

    /// Whether a thread is held before a signal is delivered to it.
    pub(super) fn holds_a_signal(&self) -> bool {
        self.threads.iter().any(|t| match &t.state {
            State::Stopped(s) => matches!(s.kind(), StopKind::Signal(_)),
            _ => false,
        })
    }

    /// Asks every thread that is not stopped. Returns whether any had a report.
    pub(super) fn poll_all(&mut self, mode: Mode) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        // Threads come and go meanwhile, so the next is found by id.
        while let Some(thread) = self.threads.get(at) {
            let tid = thread.tid;
            if !matches!(thread.state, State::Stopped(_)) {
                any |= self.poll(tid, mode)?;
            }
            at = self.threads.partition_point(|t| t.tid <= tid);
        }
        for tid in self.strays.iter().map(Running::tid).collect::<Vec<_>>() {
            any |= poll_stray(&mut self.strays, tid)?;
        }
        Ok(any)
    }

    /// Asks one thread. Returns whether it had a report.
    pub(super) fn poll(&mut self, tid: u32, mode: Mode) -> Result<bool> {
        let Some(at) = self.find(tid) else {
            return Ok(false);
        };
        let Some(thread) = self.threads.get_mut(at) else {
            return Ok(false);
        };
        let (running, listening, ending) = match std::mem::replace(&mut thread.state, State::Moving)
        {
            State::Running(r) => (r, false, false),
            State::Listening(r) => (r, true, false),
            State::Ending(r) => (r, false, true),
            // It has a report though stopped: it was killed out of that stop.
            State::Stopped(s) => (s.into_running(), false, false),
            State::Moving => (Running::adopted(tid), false, false),
        };
        match running.try_wait() {
            Ok(Waited::Running(r)) => {
                thread.state = match (listening, ending) {
                    (true, _) => State::Listening(r),
                    (_, true) => State::Ending(r),
                    _ => State::Running(r),
                };
                Ok(false)
            }
            Ok(Waited::Stopped(stopped)) => {
                thread.held = false;
                self.handle(at, stopped, listening, mode)?;
                Ok(true)
            }
            Ok(Waited::Ended(outcome)) => {
                self.note_end(tid, outcome);
                Ok(true)
            }
            // Its id went to another: it, not the first thread, called `exec`.
            Err(e) if e.is_gone() => {
                self.remove(tid);
                self.tell_change();
                if self.find(self.pid).is_none() && self.is_ours(self.pid) {
                    self.add(Running::adopted(self.pid));
                }
                if self.threads.is_empty() && self.outcome.is_none() {
                    return Err(Error::ProcessGone(self.pid));
                }
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    /// A thread is gone. The end of the first one is that of the process and is reported last; if
    /// that had ended before we came, it is not ours to be told of, and the last other one counts.
    pub(super) fn note_end(&mut self, tid: u32, outcome: Outcome) {
        self.remove(tid);
        if tid == self.pid || self.threads.is_empty() {
            self.threads.clear();
            self.list_tids();
            self.outcome = Some(outcome);
            if self.birth == Birth::Over {
                self.queue.push_back(Event::Ended(outcome));
            }
        } else {
            self.tell_change();
        }
    }

    /// Takes in what the kernel attached: a thread, or a process. A process is left to the family,
    /// or else let go at its first stop.
    fn adopt(&mut self, tid: u32, how: StopKind) {
        if self.find(tid).is_some() || self.strays.iter().any(|s| s.tid() == tid) {
            return;
        }
        if status::is_thread_of(self.pid, tid) {
            self.add(Running::adopted(tid));
            self.tell_change();
        } else if self.follow {
            self.children.push(Child { pid: tid, how });
        } else {
            self.strays.push(Running::adopted(tid));
        }
    }

    /// Deals with a stop of the thread at `at`, whose state is being replaced.
    fn handle(&mut self, at: usize, s: Stopped, listening: bool, mode: Mode) -> Result<()> {
        let tid = s.tid();
        let state = match s.kind() {
            StopKind::Trap | StopKind::Group(_)
                if self.threads.get(at).is_some_and(|t| t.newborn) =>
            {
                self.note_job(s.kind(), listening);
                if let Some(thread) = self.threads.get_mut(at) {
                    thread.newborn = false;
                    thread.held = true;
                }
                self.put(tid, State::Stopped(s));
                return self.tell_birth();
            }
            StopKind::Trap | StopKind::Group(_)
                if self.threads.get(at).is_some_and(|t| t.execed) =>
            {
                self.note_job(s.kind(), listening);
                if let Some(thread) = self.threads.get_mut(at) {
                    thread.execed = false;
                    thread.held = true;
                }
                self.queue.push_back(Event::Exec);
                State::Stopped(s)
            }
            kind @ (StopKind::Trap | StopKind::Group(_)) if self.stands_at_point(at) => {
                self.note_job(kind, listening);
                State::Stopped(s)
            }
            kind @ (StopKind::Trap | StopKind::Group(_)) => {
                self.note_job(kind, listening);
                if let Some(thread) = self.threads.get_mut(at) {
                    thread.waits.hide_interruption(&s)?;
                }
                match (mode, kind) {
                    (Mode::Stopping, _) => State::Stopped(s),
                    (Mode::Running, StopKind::Group(_)) => State::Listening(s.listen()?),
                    (Mode::Running, _) => State::Running(s.resume(Resume::Continue, 0)?),
                }
            }
            StopKind::Signal(signal) => {
                if signal == libc::SIGURG
                    && let Some(waits) = self.take_request(at, &s)
                {
                    let mode = if waits { Mode::Stopping } else { mode };
                    State::Running(go_on(s, 0, mode)?)
                } else if self.is_fatal(signal) {
                    let siginfo = s.siginfo()?;
                    if let Some(thread) = self.threads.get_mut(at) {
                        thread.held = true;
                    }
                    self.queue.push_back(Event::Fatal { tid, siginfo });
                    State::Stopped(s)
                } else {
                    if !self.has_handler(signal)
                        && let Some(thread) = self.threads.get_mut(at)
                    {
                        thread.waits.hide_interruption(&s)?;
                    }
                    State::Running(go_on(s, signal, mode)?)
                }
            }
            how @ (StopKind::Clone | StopKind::Fork | StopKind::Vfork) => {
                let child = s.message();
                let state = State::Running(go_on(s, 0, mode)?);
                match child {
                    Ok(child) => {
                        self.put(tid, state);
                        self.adopt(u32::try_from(child).unwrap_or(0), how);
                        return Ok(());
                    }
                    Err(e) if e.is_gone() => state,
                    Err(e) => return Err(e),
                }
            }
            StopKind::Exec => {
                // Every other thread is gone, whoever called it.
                self.threads.retain(|t| t.tid == tid);
                self.dying = None;
                self.guest = None;
                self.tell_change();
                // In this stop the call has not returned. The next one comes before the program's
                // first instruction, and is one in which registers are what they will be.
                let running = go_on(s, 0, Mode::Stopping)?;
                if let Some(thread) = self.threads.first_mut() {
                    thread.execed = true;
                    thread.zombie = false;
                    thread.held = false;
                    thread.newborn = false;
                    thread.point = None;
                    thread.state = State::Running(running);
                }
                self.list_tids();
                return Ok(());
            }
            StopKind::Exit => {
                // Whatever it asked, there is nobody left to answer.
                if let Some(thread) = self.threads.get_mut(at) {
                    thread.point = None;
                }
                self.handle_exit(at, s)?
            }
            StopKind::Syscall | StopKind::Other(_) => State::Running(go_on(s, 0, mode)?),
        };
        self.put(tid, state);
        Ok(())
    }

    fn put(&mut self, tid: u32, state: State) {
        let ending = matches!(state, State::Ending(_));
        let stopped = matches!(state, State::Stopped(_));
        if let Some(thread) = self.find(tid).and_then(|at| self.threads.get_mut(at)) {
            thread.state = state;
            if stopped {
                thread.seen = Instant::now();
            }
        }
        if ending {
            self.list_tids();
        }
    }

    /// Tells of a birth once the child has stopped and its parent is known. One that shares memory
    /// is let go.
    pub(super) fn tell_birth(&mut self) -> Result<()> {
        let waits = self.threads.iter().any(|t| t.newborn);
        let Birth::Expected { parent } = self.birth else {
            return Ok(());
        };
        if waits || self.has_exited() {
            return Ok(());
        }
        self.birth = Birth::Over;
        let shares_memory = self.guest.is_some();
        self.queue.push_back(Event::Born {
            parent,
            shares_memory,
        });
        if shares_memory {
            self.release()
        } else {
            Ok(())
        }
    }

    fn note_job(&mut self, kind: StopKind, listening: bool) {
        match kind {
            StopKind::Group(_) if !self.job_stopped => {
                self.job_stopped = true;
                self.queue.push_back(Event::JobStopped);
            }
            StopKind::Trap if listening && self.job_stopped => {
                self.job_stopped = false;
                self.queue.push_back(Event::JobContinued);
            }
            _ => {}
        }
    }

    /// Whether the signal about to be delivered ends the process.
    fn is_fatal(&mut self, signal: i32) -> bool {
        if !status::kills_by_default(signal) {
            return false;
        }
        if self.status.refill(&self.status_file).is_err() {
            return false;
        }
        let handled =
            self.status.mask("SigCgt").unwrap_or(0) | self.status.mask("SigIgn").unwrap_or(0);
        handled & status::bit(signal) == 0
    }

    /// Whether a handler will run for a signal just looked at by [`Tracee::is_fatal`], or may.
    fn has_handler(&mut self, signal: i32) -> bool {
        let known =
            status::kills_by_default(signal) || self.status.refill(&self.status_file).is_ok();
        !known || self.status.mask("SigCgt").unwrap_or(u64::MAX) & status::bit(signal) != 0
    }

    fn handle_exit(&mut self, at: usize, s: Stopped) -> Result<State> {
        // Who was never told to be born does not die either.
        if self.doomed || self.birth != Birth::Over {
            return Ok(State::Ending(s.resume(Resume::Continue, 0)?));
        }
        let (message, registers) = match (s.message(), s.registers()) {
            (Ok(m), Ok(r)) => (m, r),
            // Killed out of this very stop.
            (Err(e), _) | (_, Err(e)) if e.is_gone() => return Ok(State::Ending(s.into_running())),
            (Err(e), _) | (_, Err(e)) => return Err(e),
        };
        let status = i32::try_from(message & 0xffff).unwrap_or(0);
        let alone = self
            .threads
            .iter()
            .enumerate()
            .all(|(i, t)| i == at || is_leaving(&t.state));
        let by_itself = registers.orig_rax == SYS_EXIT && status & 0x7f == 0;
        if by_itself && !alone && self.dying.as_ref().is_none_or(|d| !d.certain) {
            self.tell_change();
            return Ok(State::Ending(s.resume(Resume::Continue, 0)?));
        }
        let certain = alone || registers.orig_rax == SYS_EXIT_GROUP || status != 0;
        let tid = s.tid();
        match &mut self.dying {
            Some(dying) if dying.certain || !certain => {}
            Some(dying) => {
                (dying.tid, dying.status, dying.certain) = (tid, status, true);
            }
            none => {
                let since = Instant::now();
                *none = Some(Dying {
                    since,
                    tid,
                    status,
                    certain,
                    reported: false,
                });
            }
        }
        if let Some(thread) = self.threads.get_mut(at) {
            thread.held = true;
        }
        Ok(State::Stopped(s))
    }

    /// Decides what the exit stops seen so far mean: an exit of the process, which is reported, or
    /// an `exec` in another thread, which must not be kept waiting.
    pub(super) fn consider_death(&mut self) -> Result<()> {
        let Some(dying) = &self.dying else {
            return Ok(());
        };
        if dying.reported {
            return Ok(());
        }
        let (since, certain) = (dying.since.elapsed(), dying.certain);
        let all = self.threads.iter().all(|t| is_leaving(&t.state));
        if all || certain && since >= DYING_LIMIT {
            if let Some(dying) = &mut self.dying {
                dying.reported = true;
                let event = Event::Exiting {
                    tid: dying.tid,
                    status: dying.status,
                };
                self.queue.push_back(event);
            }
            return Ok(());
        }
        if certain {
            return Ok(());
        }
        let execs = self
            .threads
            .iter()
            .filter(|t| !is_leaving(&t.state))
            .any(|t| {
                matches!(
                    status::blocked_in(self.pid, t.tid),
                    Some(SYS_EXECVE | SYS_EXECVEAT)
                )
            });
        if execs || since >= WONDER_LIMIT {
            self.dying = None;
            for thread in &mut self.threads {
                thread.state = match std::mem::replace(&mut thread.state, State::Moving) {
                    State::Stopped(s) if s.kind() == StopKind::Exit => {
                        thread.held = false;
                        State::Ending(s.resume(Resume::Continue, 0)?)
                    }
                    other => other,
                };
            }
            self.tell_change();
            self.list_tids();
        }
        Ok(())
    }

    /// When to look again though nothing was reported.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let dying = self.dying.as_ref().filter(|d| !d.reported)?;
        if dying.certain {
            Some(dying.since + DYING_LIMIT)
        } else {
            Some(Instant::now() + Duration::from_millis(2))
        }
    }
}

/// Asks one stray, which is let go when it has stopped. Returns whether it had a report.
pub(super) fn poll_stray(strays: &mut Vec<Running>, tid: u32) -> Result<bool> {
    let Some(at) = strays.iter().position(|s| s.tid() == tid) else {
        return Ok(false);
    };
    match strays.swap_remove(at).try_wait() {
        Ok(Waited::Running(r)) => {
            strays.push(r);
            Ok(false)
        }
        Ok(Waited::Stopped(s)) => {
            let signal = match s.kind() {
                StopKind::Signal(n) => n,
                _ => 0,
            };
            s.detach(signal).map(|()| true)
        }
        Ok(Waited::Ended(_)) => Ok(true),
        Err(e) if e.is_gone() => Ok(true),
        Err(e) => Err(e),
    }
}

/// Ended, ending, or in its exit stop.
fn is_leaving(state: &State) -> bool {
    match state {
        State::Ending(_) => true,
        State::Stopped(s) => s.kind() == StopKind::Exit,
        _ => false,
    }
}

/// Resumes a thread from a stop in which it cannot stay; when stopping, it stops again before it
/// runs an instruction, but with the signal delivered or the call done. So no checkpoint is made
/// while a signal is neither queued nor delivered.
fn go_on(s: Stopped, signal: i32, mode: Mode) -> Result<Running> {
    if mode == Mode::Stopping {
        match s.interrupt() {
            Err(e) if !e.is_gone() => return Err(e),
            _ => {}
        }
    }
    s.resume(Resume::Continue, signal)
}
