//! Waits that a stop would end early.
//!
//! Linux restarts most interrupted calls by itself once a thread goes on. `epoll_wait` is not among
//! them: any stop, even one without a signal, ends it with EINTR (signal(7)). A recorder stops its
//! target all the time, and a program that simply calls again with its whole timeout would never
//! see it expire. So where nothing but our stop ended the wait, the thread is put back in front of
//! the call, with the time that is left.
//!
//! When a wait began is not known when it is first met; it is taken to have begun then. A timeout
//! that spans stops is therefore late by at most the time between two of them.
//!
//! Left as Linux has it: `epoll_pwait` with a signal mask, where a signal that arrives while the
//! thread is stopped must end the call; calls whose timeout lies in memory (`semtimedop`,
//! `sigtimedwait`, `epoll_pwait2`) or with a socket (SO_RCVTIMEO), unless they wait for ever.

use super::{State, Tracee};
use crate::error::Result;
use crate::ptrace::{StopKind, Stopped};
use std::time::{Duration, Instant};
use stillframe_image::{Registers, SigInfo};

/// A wait that was put back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Where the call returns to.
    rip: u64,
    /// The timeout it was put back with, milliseconds.
    timeout: i32,
    /// When it must be over.
    deadline: Instant,
}

/// What a call waits for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// With a timeout in r10, milliseconds, forever if negative.
    Epoll(i32),
    /// Forever.
    Forever,
}

impl Tracee {
    /// Puts stopped threads back into waits that only our stop has ended.
    pub(super) fn resume_waits(&mut self) -> Result<()> {
        for thread in &mut self.threads {
            if let State::Stopped(stopped) = &thread.state
                && !thread.held
                && stopped.kind() == StopKind::Trap
            {
                put_back(stopped, &mut thread.wait)?;
            }
        }
        Ok(())
    }

    /// The same for the thread at `at`, which has reported `stopped`.
    pub(super) fn resume_wait(&mut self, at: usize, stopped: &Stopped) -> Result<()> {
        match self.threads.get_mut(at) {
            Some(thread) if stopped.kind() == StopKind::Trap => {
                put_back(stopped, &mut thread.wait)
            }
            _ => Ok(()),
        }
    }
}

/// Puts one thread back, if it is in such a wait. `known`: the wait it was last put back into.
fn put_back(stopped: &Stopped, known: &mut Option<Wait>) -> Result<()> {
    match try_put_back(stopped, known) {
        // Killed meanwhile: its end will be reported.
        Err(e) if e.is_gone() => Ok(()),
        result => result,
    }
}

fn try_put_back(stopped: &Stopped, known: &mut Option<Wait>) -> Result<()> {
    let registers = stopped.registers()?;
    let Some(call) = ended_by_a_stop(&registers) else { return Ok(()) };
    if signal_is_due(stopped)? {
        return Ok(());
    }
    let mut back = Registers {
        rax: registers.orig_rax,
        rip: registers.rip.wrapping_sub(2),
        ..registers
    };
    let timeout = match call {
        Call::Epoll(timeout) if timeout >= 0 => timeout,
        Call::Epoll(_) | Call::Forever => return stopped.set_registers(&back),
    };
    let now = Instant::now();
    let same = known.filter(|w| w.rip == registers.rip && w.timeout == timeout);
    let whole = Duration::from_millis(u64::from(timeout.unsigned_abs()));
    let deadline = same.map_or(now + whole, |w| w.deadline);
    let left = deadline.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
    let left = i32::try_from(left).unwrap_or(timeout).min(timeout);
    back.r10 = u64::from(left.cast_unsigned());
    stopped.set_registers(&back)?;
    *known = Some(Wait { rip: registers.rip, timeout: left, deadline });
    Ok(())
}

/// The call that these registers show to have ended with EINTR, if it may be put back.
fn ended_by_a_stop(r: &Registers) -> Option<Call> {
    if r.rax.cast_signed() != i64::from(-libc::EINTR) {
        return None;
    }
    // The register is 64 bits wide, the parameter an int.
    let timeout = i32::from_le_bytes((r.r10 & 0xffff_ffff).to_le_bytes()[..4].try_into().ok()?);
    match r.orig_rax.cast_signed() {
        libc::SYS_epoll_wait => Some(Call::Epoll(timeout)),
        libc::SYS_epoll_pwait if r.r8 == 0 => Some(Call::Epoll(timeout)),
        libc::SYS_epoll_pwait2 if r.r8 == 0 && r.r10 == 0 => Some(Call::Forever),
        libc::SYS_semop => Some(Call::Forever),
        libc::SYS_semtimedop if r.r10 == 0 => Some(Call::Forever),
        libc::SYS_rt_sigtimedwait if r.rdx == 0 => Some(Call::Forever),
        _ => None,
    }
}

/// Whether a signal waits to be delivered to the thread: it, then, has ended the call.
fn signal_is_due(stopped: &Stopped) -> Result<bool> {
    let mut pending: Vec<SigInfo> = Vec::new();
    stopped.pending(&mut pending)?;
    stopped.shared_pending(&mut pending)?;
    if pending.is_empty() {
        return Ok(false);
    }
    let blocked = stopped.blocked()?;
    Ok(pending
        .iter()
        .any(|s| blocked & super::status::bit(s.signal) == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(call: i64, r10: u64, r8: u64) -> Registers {
        Registers {
            rax: (-4i64).cast_unsigned(),
            orig_rax: call.cast_unsigned(),
            r10,
            r8,
            rdx: 1,
            ..Registers::default()
        }
    }

    #[test]
    fn waits_are_told_apart() {
        let is = |call, r10, r8| ended_by_a_stop(&ended(call, r10, r8));
        assert_eq!(is(libc::SYS_epoll_wait, 33, 77), Some(Call::Epoll(33)));
        assert_eq!(
            is(libc::SYS_epoll_wait, 0xffff_ffff, 0),
            Some(Call::Epoll(-1))
        );
        assert_eq!(is(libc::SYS_epoll_pwait, 5, 0), Some(Call::Epoll(5)));
        assert_eq!(is(libc::SYS_epoll_pwait, 5, 0x1000), None);
        assert_eq!(is(libc::SYS_semtimedop, 0, 9), Some(Call::Forever));
        assert_eq!(is(libc::SYS_semtimedop, 0x1000, 9), None);
        assert_eq!(is(libc::SYS_read, 0, 0), None);
        let done = Registers {
            rax: 1,
            ..ended(libc::SYS_epoll_wait, 5, 0)
        };
        assert_eq!(ended_by_a_stop(&done), None);
    }
}
