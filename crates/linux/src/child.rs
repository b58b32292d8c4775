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

/// Takes leave of a child that has ended. Nothing is reported: it may be somebody else's.
pub fn forget(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
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

/// As [`wait`], for a process that is a child of `warden`, the first process of its PID namespace and a
/// child of ours, which tells its end in `told` ([`crate::blank::first`]).
///
/// # Errors
/// The kernel's.
pub fn wait_told(
    pid: u32,
    warden: u32,
    mut told: std::fs::File,
    interrupts: &Interrupts,
) -> Result<Outcome> {
    use std::io::Read as _;
    let fail = |what| move |e: rustix::io::Errno| Error::syscall(what, Target::Process(pid), e);
    loop {
        let mut fds = [
            PollFd::new(&told, PollFlags::IN),
            PollFd::from_borrowed_fd(interrupts.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fail("poll")(e)),
        }
        let ended = !fds[0].revents().is_empty();
        while let Some(interrupt) = interrupts.take() {
            if !interrupt.from_terminal {
                interrupt.pass_on(pid);
            }
        }
        if ended {
            break;
        }
    }
    let mut word = [0; 4];
    let whole = told.read_exact(&mut word).is_ok();
    // It ends with the last of the others; if that was this one, now.
    forget(warden);
    let status = i32::from_ne_bytes(word);
    Ok(match status & 0x7f {
        // Nobody was left to tell.
        _ if !whole => Outcome::Killed {
            signal: 9,
            core: false,
        },
        0 => Outcome::Exited(status >> 8 & 0xff),
        signal => Outcome::Killed {
            signal,
            core: status & 0x80 != 0,
        },
    })
}
