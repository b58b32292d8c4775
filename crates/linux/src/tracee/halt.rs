//! A process standing still.

use super::status;
use super::{NamedPoint, State, Tracee};
use crate::error::{Error, Result};
use crate::ptrace::{Resume, StopKind, Stopped, Waited};
use std::time::{Duration, Instant};
use stillframe_image::{Registers, RobustList, Rseq, SigInfo, Thread};

/// All threads of a process, stopped. Dropping it resumes them, those held for an event excepted.
#[derive(Debug)]
pub struct Halt<'a> {
    pub(super) tracee: &'a mut Tracee,
    stopped_at: Instant,
    resumed: bool,
}

impl<'a> Halt<'a> {
    pub(super) fn new(tracee: &'a mut Tracee) -> Self {
        Self {
            tracee,
            stopped_at: Instant::now(),
            resumed: false,
        }
    }

    /// One process of several that stand still together: not resumed when this goes.
    pub(super) const fn part(tracee: &'a mut Tracee, stopped_at: Instant) -> Self {
        Self {
            tracee,
            stopped_at,
            resumed: true,
        }
    }

    /// The process.
    pub const fn pid(&self) -> u32 {
        self.tracee.pid
    }

    /// Its threads, ascending.
    pub fn threads(&self) -> &[u32] {
        &self.tracee.tids
    }

    /// Kernel helpers inside the process, which are not stopped.
    pub fn kernel_workers(&self) -> &[u32] {
        &self.tracee.workers
    }

    /// Points that the process named since the last checkpoint, and those at which threads stand
    /// and wait for this one. Once it is taken, [`Tracee::points_taken`] is to be told; if it is
    /// not, the next will be given them again.
    pub fn points(&mut self) -> Vec<NamedPoint> {
        self.tracee.list_points()
    }

    /// When the last thread had stopped.
    pub const fn stopped_at(&self) -> Instant {
        self.stopped_at
    }

    /// When a thread was seen to have stopped.
    pub fn seen_stopped(&self, tid: u32) -> Option<Instant> {
        let thread = self.tracee.threads.get(self.tracee.find(tid)?)?;
        matches!(thread.state, State::Stopped(_)).then_some(thread.seen)
    }

    /// Resumes all threads, those held for an event excepted. How long each stood still is then
    /// told by [`Tracee::stalls`].
    ///
    /// # Errors
    /// The kernel's; all threads have been tried.
    pub fn resume(mut self) -> Result<()> {
        self.resumed = true;
        self.tracee.let_run()
    }

    /// Leaves all threads as they stand: the next stop finds them stopped, and they have not run an
    /// instruction until then.
    pub fn stay(mut self) {
        self.resumed = true;
    }

    /// One stopped thread.
    pub(crate) fn stopped(&self, tid: u32) -> Result<&Stopped> {
        let at = self.tracee.find(tid).ok_or(Error::ThreadGone(tid))?;
        match self.tracee.threads.get(at).map(|t| &t.state) {
            Some(State::Stopped(s)) => Ok(s),
            _ => Err(Error::ThreadGone(tid)),
        }
    }

    /// Changes the options of a thread: those it was seized with, and `extra`.
    pub(crate) fn set_extra_options(&self, tid: u32, extra: u32) -> Result<()> {
        self.stopped(tid)?.set_options(self.tracee.follow, extra)
    }

    /// General registers of a thread.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn registers(&self, tid: u32) -> Result<Registers> {
        self.stopped(tid)?.registers()
    }

    /// XSAVE area of a thread; the buffer is sized on first use and reused without allocation.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn xstate(&self, tid: u32, buffer: &mut Vec<u8>) -> Result<()> {
        self.stopped(tid)?.xstate(buffer)
    }

    /// Blocked signals of a thread, bit n-1 for signal n.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn blocked(&self, tid: u32) -> Result<u64> {
        self.stopped(tid)?.blocked()
    }

    /// Signals queued for a thread, oldest first, appended to `into`.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn pending(&self, tid: u32, into: &mut Vec<SigInfo>) -> Result<()> {
        self.stopped(tid)?.pending(into)
    }

    /// Signals queued for the process, oldest first, appended to `into`.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn shared_pending(&self, into: &mut Vec<SigInfo>) -> Result<()> {
        let tid = self.threads().first().copied().unwrap_or(self.tracee.pid);
        self.stopped(tid)?.shared_pending(into)
    }

    /// Restartable-sequence registration of a thread.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn rseq(&self, tid: u32) -> Result<Option<Rseq>> {
        self.stopped(tid)?.rseq()
    }

    /// Robust futex list of a thread.
    ///
    /// # Errors
    /// If it is gone.
    pub fn robust_list(&self, tid: u32) -> Result<Option<RobustList>> {
        self.stopped(tid)?.robust_list()
    }

    /// Name of a thread, without a terminator.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn name(&self, tid: u32) -> Result<Vec<u8>> {
        status::thread_name(self.tracee.pid, tid).ok_or(Error::ThreadGone(tid))
    }

    /// The signal a thread is held for, if it is about to be killed by one.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed by another.
    pub fn fatal_signal(&self, tid: u32) -> Result<Option<SigInfo>> {
        let stopped = self.stopped(tid)?;
        match stopped.kind() {
            StopKind::Signal(_) => stopped.siginfo().map(Some),
            _ => Ok(None),
        }
    }

    /// What of a thread changes from tick to tick: registers, vector state, signal mask, queue. The
    /// buffers in `into` are reused; its other fields are left as they are.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn thread_state(&self, tid: u32, into: &mut Thread) -> Result<()> {
        let stopped = self.stopped(tid)?;
        into.tid = tid;
        into.registers = stopped.registers()?;
        stopped.xstate(&mut into.xstate)?;
        into.blocked = stopped.blocked()?;
        into.pending.clear();
        stopped.pending(&mut into.pending)
    }

    /// What of a thread seldom changes and needs no call inside it: name, robust list, rseq
    /// registration, the signal it is held for. The alternate stack and the tid address come from
    /// [`Injector`](crate::inject::Injector).
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn thread_static(&self, tid: u32, into: &mut Thread) -> Result<()> {
        into.name = self.name(tid)?;
        into.robust_list = self.robust_list(tid)?;
        into.rseq = self.rseq(tid)?;
        into.signal = self.fatal_signal(tid)?;
        Ok(())
    }

    /// The number of the call that a thread goes on with by `restart_syscall` and that returns to
    /// `rip`, if it was seen before.
    pub(crate) fn restarted_call(&self, tid: u32, rip: u64) -> Option<u64> {
        let thread = self.tracee.threads.get(self.tracee.find(tid)?)?;
        thread.waits.restarted_call(rip)
    }

    /// Lets one thread run until it enters or leaves a system call.
    pub(crate) fn run_to_syscall(&mut self, tid: u32, limit: Duration) -> Result<()> {
        self.run_until(tid, Resume::Syscall, limit, |kind| {
            kind == StopKind::Syscall
        })
    }

    /// Lets one thread, which was asked to stop while stopped, go on to that stop.
    pub(crate) fn run_to_trap(&mut self, tid: u32, limit: Duration) -> Result<()> {
        let done = self.run_until(tid, Resume::Continue, limit, |kind| {
            matches!(kind, StopKind::Trap | StopKind::Group(_))
        });
        self.tracee.bell.rest();
        done
    }

    /// Ends the interruptions of our own system calls that waiting for a thread needs.
    pub(crate) fn rest(&self) {
        self.tracee.bell.rest();
    }

    pub(super) fn run_until(
        &mut self,
        tid: u32,
        how: Resume,
        limit: Duration,
        wanted: impl Fn(StopKind) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        let at = self.tracee.find(tid).ok_or(Error::ThreadGone(tid))?;
        let thread = self
            .tracee
            .threads
            .get_mut(at)
            .ok_or(Error::ThreadGone(tid))?;
        let mut signal = 0;
        loop {
            let running = match std::mem::replace(&mut thread.state, State::Moving) {
                State::Stopped(s) => s.resume(how, signal)?,
                State::Running(r) => r,
                other => {
                    thread.state = other;
                    return Err(Error::ThreadGone(tid));
                }
            };
            signal = 0;
            match running.try_wait() {
                Ok(Waited::Running(r)) => {
                    thread.state = State::Running(r);
                    if Instant::now() >= end {
                        return Err(Error::Stuck { tid });
                    }
                    self.tracee.bell.watch(tid)?;
                }
                Ok(Waited::Stopped(s)) => {
                    let kind = s.kind();
                    let raised = how == Resume::Syscall && is_raised(&s);
                    if kind == StopKind::Fork {
                        self.tracee.made = s.message().ok().and_then(|pid| pid.try_into().ok());
                    }
                    thread.state = State::Stopped(s);
                    match kind {
                        _ if wanted(kind) => return Ok(()),
                        StopKind::Signal(n) if raised => {
                            return Err(Error::Fault { tid, signal: n });
                        }
                        // Whatever is queued besides the injected call goes its way.
                        StopKind::Signal(n) => signal = n,
                        // Killed: for the next wait to report.
                        StopKind::Exit => return Err(Error::ThreadGone(tid)),
                        _ => {}
                    }
                }
                Ok(Waited::Ended(outcome)) => {
                    self.tracee.note_end(tid, outcome);
                    return Err(Error::ThreadGone(tid));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether a thread stopped for a signal that its own instruction raised.
fn is_raised(s: &Stopped) -> bool {
    matches!(
        s.kind(),
        StopKind::Signal(
            libc::SIGSEGV
                | libc::SIGBUS
                | libc::SIGILL
                | libc::SIGFPE
                | libc::SIGTRAP
                | libc::SIGSYS
        )
    ) && s.siginfo().is_ok_and(|info| info.code > 0)
}

impl Drop for Halt<'_> {
    fn drop(&mut self) {
        if !self.resumed
            && let Err(error) = self.tracee.let_run()
        {
            tracing::warn!(pid = self.tracee.pid, %error, "could not resume every thread");
        }
    }
}
