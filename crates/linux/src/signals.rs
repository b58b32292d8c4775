//! Signals to the recorder itself, as a descriptor to wait for.

use crate::error::{Error, Result, Target};
use crate::tracee;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A signal that was sent to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub signal: i32,
    /// Sent by the terminal (Ctrl-C, hang-up) and so to every process of the foreground group, not
    /// by a process to us alone.
    pub from_terminal: bool,
}

impl Interrupt {
    /// Sends the same signal to a process. Nothing is reported: it may have ended.
    pub fn pass_on(self, pid: u32) {
        let signal = rustix::process::Signal::from_named_raw(self.signal);
        if let (Some(pid), Some(signal)) =
            (rustix::process::Pid::from_raw(pid.cast_signed()), signal)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// The signals that ask a program to end: SIGINT, SIGTERM, SIGHUP and SIGQUIT, blocked and made
/// readable.
///
/// A recorder must not die of them at once: it has a recording to end and a target to let go.
#[derive(Debug)]
pub struct Interrupts {
    fd: OwnedFd,
}

const ASKED: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

impl Interrupts {
    /// Blocks them in the calling thread, and ignores SIGPIPE and SIGXFSZ in the process, so that a
    /// closed terminal or a file-size limit is an error and not the end. Also does what
    /// [`tracee::prepare`] does.
    ///
    /// Call it before other threads are started. Programs launched later start with the mask that
    /// this process started with, and with default actions.
    ///
    /// # Errors
    /// The kernel's, if it has no descriptor left.
    pub fn new() -> Result<Self> {
        tracee::prepare()?;
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            // SAFETY: ignoring a signal installs no code.
            if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(Error::last("signal", Target::Us));
            }
        }
        // What is ignored when we start (`nohup`) stays ignored: it is not ours to change.
        tracee::block(&ASKED)?;
        Ok(Self {
            fd: tracee::signal_fd(&ASKED)?,
        })
    }

    /// Takes one signal that has come, if any. Does not wait.
    pub fn take(&self) -> Option<Interrupt> {
        tracee::take_signal(self.fd.as_fd())
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
