//! Threads that are made and ended in a stopped process, and a process that must not run without us.
//!
//! A process that is made equal to an earlier moment of itself passes through states in which it
//! must not run an instruction. So each of its threads is *held*: a SIGSTOP is queued for it alone,
//! which it takes before anything else once nobody traces it. If we die, it stops itself. Nobody is
//! told of such a signal before it is taken: a shell sees no stopped job as long as we live.

use super::{Halt, State};
use crate::error::{Error, Result, Target};
use crate::ptrace::{Resume, Running, StopKind, Waited};
use std::time::{Duration, Instant};

/// How long a thread may take from one stop to the next, or to end.
const LIMIT: Duration = Duration::from_secs(5);

impl Halt<'_> {
    /// Takes in the thread that the process was just made to begin, which the kernel has attached to
    /// us: it stands before its first instruction afterwards. Returns its number as we see it; the
    /// process may see another one, in a PID namespace of its own.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if there is none, or it was killed; else the kernel's.
    pub fn take_in_new(&mut self) -> Result<u32> {
        let listed = super::status::list_threads(self.tracee.pid)?;
        let known =
            |tid: &u32| self.tracee.find(*tid).is_some() || self.tracee.workers.contains(tid);
        let tid = listed
            .into_iter()
            .find(|tid| !known(tid) && self.tracee.is_ours(*tid))
            .ok_or(Error::ThreadGone(0))?;
        self.tracee.add(Running::adopted(tid));
        self.run_to_trap(tid, LIMIT)?;
        Ok(tid)
    }

    /// Sees out a thread that was made to call `exit` and stands in its exit stop. It is gone
    /// afterwards; the first thread of a process with others stays a zombie.
    ///
    /// # Errors
    /// [`Error::Stuck`] if it does not end in time; else the kernel's.
    pub fn see_out(&mut self, tid: u32) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let first = tid == self.tracee.pid;
        let Some(at) = self.tracee.find(tid) else {
            return Ok(());
        };
        let Some(thread) = self.tracee.threads.get_mut(at) else {
            return Ok(());
        };
        let mut running = match std::mem::replace(&mut thread.state, State::Moving) {
            State::Stopped(s) => s.resume(Resume::Continue, 0)?,
            State::Running(r) | State::Listening(r) | State::Ending(r) => r,
            State::Moving => Running::adopted(tid),
        };
        loop {
            let is_zombie = || {
                let status = super::status::Status::read_thread(self.tracee.pid, tid);
                status.ok().and_then(|s| s.state()) == Some('Z')
            };
            if first && is_zombie() {
                if let Some(thread) = self.tracee.threads.get_mut(at) {
                    thread.state = State::Ending(running);
                    thread.zombie = true;
                }
                self.tracee.list_tids();
                return Ok(());
            }
            running = match running.try_wait() {
                Ok(Waited::Running(r)) => r,
                Ok(Waited::Stopped(s)) => s.resume(Resume::Continue, 0)?,
                Ok(Waited::Ended(_)) => break,
                Err(e) if e.is_gone() => break,
                Err(e) => return Err(e),
            };
            if Instant::now() >= end {
                if let Some(thread) = self.tracee.threads.get_mut(at) {
                    thread.state = State::Ending(running);
                }
                return Err(Error::Stuck { tid });
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        self.tracee.remove(tid);
        Ok(())
    }

    /// Queues a SIGSTOP for one thread, which takes it before it runs an instruction once nobody
    /// traces it, unless [`Halt::let_go`] took it away before.
    ///
    /// # Errors
    /// If it is gone, or may not be signalled.
    pub fn hold(&self, tid: u32) -> Result<()> {
        let pid = self.tracee.pid;
        // SAFETY: no memory is passed.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGSTOP) };
        if sent == 0 {
            Ok(())
        } else {
            Err(Error::last("tgkill", Target::Thread(tid)))
        }
    }

    /// Takes the SIGSTOP of [`Halt::hold`] away again. No instruction runs. Whatever other signal is
    /// queued for the thread and not blocked is delivered on the way. What was known of it, and what
    /// it asked or was held for, is of another life and forgotten.
    ///
    /// # Errors
    /// If it is gone, or there was none.
    pub fn let_go(&mut self, tid: u32) -> Result<()> {
        self.run_until(tid, Resume::Continue, LIMIT, |kind| {
            kind == StopKind::Signal(libc::SIGSTOP)
        })?;
        self.stopped(tid)?.interrupt()?;
        self.run_to_trap(tid, LIMIT)?;
        if let Some(at) = self.tracee.find(tid)
            && let Some(thread) = self.tracee.threads.get_mut(at)
        {
            thread.waits = super::waits::Waits::default();
            thread.point = None;
            thread.held = false;
        }
        Ok(())
    }
}
