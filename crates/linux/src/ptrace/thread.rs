//! A thread, running or stopped.

use super::raw::{self, Found, SIGINFO};
use super::{Dispatch, Outcome, StopKind, SyscallInfo};
use crate::error::{Error, Result};
use stillframe_image::{Registers, RobustList, Rseq, SigInfo};

/// Signals read from a queue at most. The kernel bounds queues by RLIMIT_SIGPENDING, which root can
/// set to anything.
const QUEUE_LIMIT: usize = 65_536;

/// A thread that we trace and that is not stopped, as far as we have been told.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    tid: u32,
}

/// A thread that has reported a stop and has not been resumed.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    tid: u32,
    kind: StopKind,
}

/// What became of a running thread.
#[derive(Debug)]
pub enum Waited {
    /// No report yet.
    Running(Running),
    /// It stopped.
    Stopped(Stopped),
    /// It ended and is reaped.
    Ended(Outcome),
}

/// How to let a stopped thread go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Until something happens.
    Continue,
    /// Until something happens or a system call is entered or left.
    Syscall,
}

impl Running {
    /// Seizes a thread with [`OPTIONS`](super::OPTIONS), and with [`FOLLOW`](super::FOLLOW) if its
    /// children are to be ours. It is not stopped by that.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or the kernel's refusal (EPERM).
    pub fn seize(tid: u32, follow: bool) -> Result<Self> {
        raw::seize(tid, options(follow)).map(|()| Self { tid })
    }

    /// A thread that the kernel attached to us because a tracee made it.
    pub(crate) const fn adopted(tid: u32) -> Self {
        Self { tid }
    }

    /// Its id.
    pub const fn tid(&self) -> u32 {
        self.tid
    }

    /// Asks it to stop. It does so soon, unless it is in an uninterruptible wait; the first stop it
    /// reports may be another one, for another reason.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn interrupt(&self) -> Result<()> {
        raw::interrupt(self.tid)
    }

    /// Takes its report if there is one. Does not wait.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it is not a tracee of this thread (any more): its process execed
    /// from another thread, or it was reaped.
    pub fn try_wait(self) -> Result<Waited> {
        Ok(match raw::wait(self.tid)? {
            Found::Nothing => Waited::Running(self),
            Found::Stop(kind) => Waited::Stopped(Stopped {
                tid: self.tid,
                kind,
            }),
            Found::End(outcome) => Waited::Ended(outcome),
        })
    }
}

impl Stopped {
    /// Its id.
    pub const fn tid(&self) -> u32 {
        self.tid
    }

    /// Why it stopped.
    pub const fn kind(&self) -> StopKind {
        self.kind
    }

    /// Lets it run, delivering `signal` (0 for none). A signal is delivered with the siginfo it came
    /// with if it is the one the thread stopped for.
    ///
    /// A thread that was killed while stopped cannot be resumed, and need not be: it counts as
    /// running, to its end.
    ///
    /// # Errors
    /// An unknown signal number.
    pub fn resume(self, how: Resume, signal: i32) -> Result<Running> {
        let done = match how {
            Resume::Continue => raw::cont(self.tid, signal),
            Resume::Syscall => raw::syscall(self.tid, signal),
        };
        self.went(done)
    }

    /// Leaves a thread in its group stop, but able to report what comes: SIGCONT, or our interrupt.
    ///
    /// # Errors
    /// If it is not in a group stop or trap.
    pub fn listen(self) -> Result<Running> {
        let done = raw::listen(self.tid);
        self.went(done)
    }

    /// It was killed out of its stop.
    pub(crate) fn into_running(self) -> Running {
        Running { tid: self.tid }
    }

    fn went(self, done: Result<()>) -> Result<Running> {
        match done {
            Ok(()) | Err(Error::ThreadGone(_)) => Ok(Running { tid: self.tid }),
            Err(e) => Err(e),
        }
    }

    /// Lets it go for good, delivering `signal` (0 for none). A thread of a stopped job stays
    /// stopped.
    ///
    /// # Errors
    /// An unknown signal number.
    pub fn detach(self, signal: i32) -> Result<()> {
        match raw::detach(self.tid, signal) {
            Err(Error::ThreadGone(_)) => Ok(()),
            other => other,
        }
    }

    /// Makes it stop again as soon as it is resumed, before it runs an instruction.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn interrupt(&self) -> Result<()> {
        raw::interrupt(self.tid)
    }

    /// General registers.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or a thread that is not 64-bit.
    pub fn registers(&self) -> Result<Registers> {
        raw::get_words(self.tid).map(|words| Registers::from_words(&words))
    }

    /// Sets the general registers, all at once.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or values the kernel refuses.
    pub(crate) fn set_registers(&self, registers: &Registers) -> Result<()> {
        raw::set_words(self.tid, &registers.to_words())
    }

    /// The XSAVE area, standard format. The buffer is given the machine's size on first use and
    /// never allocates after that.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or no XSAVE.
    pub fn xstate(&self, buffer: &mut Vec<u8>) -> Result<()> {
        raw::get_xstate(self.tid, buffer)
    }

    /// Sets the XSAVE area.
    pub(crate) fn set_xstate(&self, bytes: &[u8]) -> Result<()> {
        raw::set_xstate(self.tid, bytes)
    }

    /// Whether a user shadow stack is active.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn has_shadow_stack(&self) -> Result<bool> {
        raw::has_shadow_stack(self.tid)
    }

    /// Blocked signals, bit n-1 for signal n. In a call with a temporary mask (`ppoll`,
    /// `sigsuspend`), the mask that holds after it.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn blocked(&self) -> Result<u64> {
        raw::get_mask(self.tid)
    }

    /// Sets the blocked signals.
    pub(crate) fn set_blocked(&self, mask: u64) -> Result<()> {
        raw::set_mask(self.tid, mask)
    }

    /// Signals queued for this thread, oldest first, appended to `into`.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn pending(&self, into: &mut Vec<SigInfo>) -> Result<()> {
        self.queue(false, into)
    }

    /// Signals queued for the whole process, oldest first, appended to `into`.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn shared_pending(&self, into: &mut Vec<SigInfo>) -> Result<()> {
        self.queue(true, into)
    }

    fn queue(&self, shared: bool, into: &mut Vec<SigInfo>) -> Result<()> {
        let mut chunk = [0u8; 8 * SIGINFO];
        let mut position = 0usize;
        while position < QUEUE_LIMIT {
            let got = raw::peek_siginfo(self.tid, shared, position as u64, &mut chunk)?;
            into.extend(
                chunk
                    .as_chunks::<SIGINFO>()
                    .0
                    .iter()
                    .take(got)
                    .map(parse_siginfo),
            );
            if got < chunk.len() / SIGINFO {
                break;
            }
            position += got;
        }
        Ok(())
    }

    /// The signal it stopped for.
    ///
    /// # Errors
    /// [`Error::ThreadGone`]; EINVAL in a group stop, which has none.
    pub fn siginfo(&self) -> Result<SigInfo> {
        raw::get_siginfo(self.tid).map(|raw| parse_siginfo(&raw))
    }

    /// What the event it stopped for carries: a new thread's id, an exit status.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn message(&self) -> Result<u64> {
        raw::get_message(self.tid)
    }

    /// Restartable-sequence registration; none if the thread or the kernel has none.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn rseq(&self) -> Result<Option<Rseq>> {
        match raw::get_rseq(self.tid) {
            Ok(c) => Ok((c.address != 0).then_some(Rseq {
                address: c.address,
                size: c.size,
                signature: c.signature,
                flags: c.flags,
            })),
            Err(Error::Syscall { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Syscall user dispatch settings.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn dispatch(&self) -> Result<Dispatch> {
        raw::get_dispatch(self.tid)
    }

    /// Where in a system call it stopped.
    ///
    /// # Errors
    /// [`Error::ThreadGone`].
    pub fn syscall_info(&self) -> Result<SyscallInfo> {
        raw::get_syscall_info(self.tid)
    }

    /// Robust futex list; none if it never set one.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn robust_list(&self) -> Result<Option<RobustList>> {
        let (head, length) = raw::robust_list(self.tid)?;
        Ok((head != 0).then_some(RobustList { head, length }))
    }

    /// Changes the options of this tracee: those it is seized with, and `extra`.
    pub(crate) fn set_options(&self, follow: bool, extra: u32) -> Result<()> {
        raw::set_options(self.tid, options(follow) | extra)
    }
}

const fn options(follow: bool) -> u32 {
    raw::OPTIONS | if follow { raw::FOLLOW } else { 0 }
}

fn parse_siginfo(raw: &[u8; SIGINFO]) -> SigInfo {
    let word = |at: usize| {
        raw.get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, i32::from_ne_bytes)
    };
    SigInfo {
        signal: word(0),
        errno: word(4),
        code: word(8),
        raw: raw.to_vec(),
    }
}
