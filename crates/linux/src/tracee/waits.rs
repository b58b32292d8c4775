//! System calls that our stops interrupt.
//!
//! Most calls are restarted by the kernel once their thread goes on. A few are not, even if no
//! handler ran, and end with EINTR (signal(7), "Interruption of system calls by stop signals"). A
//! program may never have seen that happen; worse, one that simply calls again with its whole
//! timeout would never see it expire while it is stopped a hundred times a second. So where our
//! stop, and nothing else, has ended such a call, its result is replaced by the code of calls that
//! are restarted unless a handler runs. The kernel then decides, with whatever signal comes until
//! the thread goes on.
//!
//! A timeout in a register (`epoll_wait`, `epoll_pwait`) is replaced by what is left of it. When a
//! wait began is not known when it is first met; it is taken to have begun then, so that a timeout
//! is late by at most the time between two stops. Whether a wait that is met is one that was met
//! before is seen by a mark beside the timeout, in the half of the register that the kernel ignores. One in memory (`semtimedop`, `sigtimedwait`,
//! `epoll_pwait2`) or with a socket (SO_RCVTIMEO) cannot be replaced and would start anew at each
//! stop: those calls keep their EINTR, which SIGSTOP and SIGCONT would cause as well.

use crate::error::Result;
use crate::ptrace::Stopped;
use std::time::{Duration, Instant};
use stillframe_image::Registers;

const EINTR: i64 = -4;
/// Restarted unless a handler runs.
const RESTART_NO_HANDLER: u64 = (-514i64).cast_unsigned();
/// Restarted as `restart_syscall`.
const RESTART_BLOCK: i64 = -516;
/// Beside every timeout that was replaced. The parameter is an int, and the register has 64 bits.
const MARK: u64 = 0x5354_494c << 32;

/// What is known of the calls of one thread that were interrupted.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The last call seen to be of the sort that the kernel goes on with as `restart_syscall`:
    /// where it returns to, and its number, which is not to be seen any more once that has been
    /// interrupted in turn.
    restarts: Option<(u64, u64)>,
    timed: Option<Timed>,
}

/// A wait whose timeout was replaced.
#[derive(Clone, Copy, Debug)]
struct Timed {
    /// Where the call returns to.
    rip: u64,
    /// What the register was replaced by: [`MARK`], and milliseconds.
    left: u64,
    /// When it must be over.
    deadline: Instant,
}

/// A timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeout {
    None,
    /// In r10, milliseconds; and all of r10.
    Register(u64, u64),
}

impl Waits {
    /// The number of the call that returns to `rip`, if it was seen to be one that the kernel goes
    /// on with as `restart_syscall`.
    pub(super) fn restarted_call(&self, rip: u64) -> Option<u64> {
        self.restarts
            .filter(|(to, _)| *to == rip)
            .map(|(_, number)| number)
    }

    /// Looks at a thread that our interruption, or a signal that does nothing, has stopped, and
    /// makes the kernel restart the call it was in if it would not by itself.
    pub(super) fn hide_interruption(&mut self, s: &Stopped) -> Result<()> {
        match self.try_hide(s) {
            // Killed meanwhile: its end will be reported.
            Err(e) if e.is_gone() => Ok(()),
            result => result,
        }
    }

    fn try_hide(&mut self, s: &Stopped) -> Result<()> {
        let registers = s.registers()?;
        let result = registers.rax.cast_signed();
        let call = registers.orig_rax.cast_signed();
        if result == RESTART_BLOCK && call >= 0 && call != libc::SYS_restart_syscall {
            self.restarts = Some((registers.rip, registers.orig_rax));
            return Ok(());
        }
        if result != EINTR {
            return Ok(());
        }
        let Some(timeout) = timeout(&registers) else {
            return Ok(());
        };
        let mut restarted = Registers {
            rax: RESTART_NO_HANDLER,
            ..registers
        };
        if let Timeout::Register(whole, register) = timeout {
            restarted.r10 = self.left(registers.rip, whole, register, Instant::now());
        }
        s.set_registers(&restarted)
    }

    /// What replaces the timeout of a wait: [`MARK`], and what is left of it, milliseconds, rounded up.
    fn left(&mut self, rip: u64, timeout: u64, register: u64, now: Instant) -> u64 {
        let same = self.timed.filter(|w| w.rip == rip && w.left == register);
        let deadline = same.map_or(now + Duration::from_millis(timeout), |w| w.deadline);
        let left = deadline
            .saturating_duration_since(now)
            .as_nanos()
            .div_ceil(1_000_000);
        let left = MARK | u64::try_from(left).unwrap_or(timeout).min(timeout);
        self.timed = Some(Timed {
            rip,
            left,
            deadline,
        });
        left
    }
}

/// The timeout of a call that the kernel would end with EINTR; `None` if it is no such call, or its
/// timeout cannot be replaced.
fn timeout(r: &Registers) -> Option<Timeout> {
    const EXT_ARG: u64 = 8;
    const SYS_IO_PGETEVENTS: i64 = 333;
    let forever = |is: bool| is.then_some(Timeout::None);
    match r.orig_rax.cast_signed() {
        // The register is 64 bits wide, the parameter an int.
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => Some(match r.r10 & 0xffff_ffff {
            negative if negative > i32::MAX.cast_unsigned().into() => Timeout::None,
            milliseconds => Timeout::Register(milliseconds, r.r10),
        }),
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => forever(r.r10 == 0),
        libc::SYS_semop => Some(Timeout::None),
        libc::SYS_rt_sigtimedwait => forever(r.rdx == 0),
        libc::SYS_io_getevents | SYS_IO_PGETEVENTS => forever(r.r8 == 0),
        libc::SYS_io_uring_enter => forever(r.r10 & EXT_ARG == 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        let of = |call: i64, r10: u64| {
            let orig_rax = call.cast_unsigned();
            timeout(&Registers {
                orig_rax,
                r10,
                rdx: 1,
                r8: 1,
                ..Registers::default()
            })
        };
        let some = |ms, register| Some(Timeout::Register(ms, register));
        assert_eq!(of(libc::SYS_epoll_wait, 33), some(33, 33));
        assert_eq!(of(libc::SYS_epoll_wait, MARK | 33), some(33, MARK | 33));
        assert_eq!(of(libc::SYS_epoll_wait, 0xffff_ffff), Some(Timeout::None));
        assert_eq!(of(libc::SYS_epoll_pwait, u64::MAX), Some(Timeout::None));
        assert_eq!(of(libc::SYS_semtimedop, 0), Some(Timeout::None));
        assert_eq!(of(libc::SYS_semtimedop, 0x1000), None);
        assert_eq!(of(libc::SYS_rt_sigtimedwait, 0), None);
        assert_eq!(of(libc::SYS_read, 0), None);
    }

    #[test]
    fn a_timeout_runs_down_over_stops_and_another_wait_has_its_own() {
        let mut waits = Waits::default();
        let now = Instant::now();
        let mut met = |rip, register: u64, ms| {
            let at = now + Duration::from_millis(ms);
            let left = waits.left(rip, register & 0xffff_ffff, register, at);
            assert_eq!(left & !0xffff_ffff, MARK);
            left & 0xffff_ffff
        };
        assert_eq!(met(100, 50, 0), 50);
        assert_eq!(met(100, MARK | 50, 20), 30);
        assert_eq!(met(100, MARK | 30, 40), 10);
        assert_eq!(met(100, MARK | 10, 60), 0);
        assert_eq!(met(100, 50, 70), 50);
        assert_eq!(met(200, 50, 80), 50);
        // Met once only, and called again with the same timeout.
        assert_eq!(met(200, 50, 125), 50);
        assert_eq!(met(200, MARK | 50, 130), 45);
    }
}
