//! A program that was launched and is no longer recorded: still our child.

use crate::error::{Error, Result, Target};
use crate::signals::Interrupts;
use crate::tracee::Outcome;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use std::os::fd::AsFd;

/// Kills a launched program. Nothing is reported: it may be gone already.
pub fn kill(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

/// Sends a signal to a process of ours. Nothing is reported: it may be gone already.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends SIGKILL. Nothing is reported: it may be gone already.
pub fn end(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Waits for a launched program to end, passing on the signals that are sent to us, as any wrapper
/// does; those that the terminal sends reach it without us.
///
/// # Errors
/// If it is not a child of ours.
pub fn wait(pid: u32, interrupts: &Interrupts) -> Result<Outcome> {
    let fail = |what| move |e: rustix::io::Errno| Error::syscall(what, Target::Process(pid), e);
    let child = Pid::from_raw(pid.cast_signed()).ok_or(Error::ProcessGone(pid))?;
    let ended = pidfd_open(child, PidfdFlags::empty()).map_err(fail("pidfd_open"))?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(interrupts.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fail("poll")(e)),
        }
        while let Some(interrupt) = interrupts.take() {
            if !interrupt.from_terminal {
                interrupt.pass_on(pid);
            }
        }
        if let Some((_, status)) =
            waitpid(Some(child), WaitOptions::NOHANG).map_err(fail("waitpid"))?
        {
            if let Some(code) = status.exit_status() {
                return Ok(Outcome::Exited(code));
            }
            if let Some(signal) = status.terminating_signal() {
                let core = status.as_raw() & 0x80 != 0;
                return Ok(Outcome::Killed { signal, core });
            }
        }
    }
}
