//! State that only the process itself can ask for.

use super::{Injector, failed, place, safety};
use crate::error::{Error, Result};
use crate::tracee::Halt;
use stillframe_image::{AltStack, IntervalTimer, SignalAction};

const PR_GET_TID_ADDRESS: u64 = 40;
const SS_ONSTACK: u32 = 1;

impl Injector {
    /// The action of a signal; `handler` 0 and 1 are default and ignored.
    ///
    /// # Errors
    /// As [`Injector::syscall`]; [`Error::Injected`] for a signal that does not exist.
    pub fn sigaction(&mut self, halt: &mut Halt<'_>, signal: u32) -> Result<SignalAction> {
        let at = self.place.results;
        let args = [u64::from(signal), 0, at, 8, 0, 0];
        let [handler, flags, restorer, mask] =
            self.ask(halt, "rt_sigaction", libc::SYS_rt_sigaction, args)?;
        Ok(SignalAction {
            signal,
            handler,
            flags,
            restorer,
            mask,
        })
    }

    /// The alternate signal stack of a thread.
    ///
    /// # Errors
    /// As [`Injector::syscall`].
    pub fn sigaltstack(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<AltStack> {
        let args = [0, self.place.results, 0, 0, 0, 0];
        let [base, flags, size] =
            self.ask_thread(halt, tid, "sigaltstack", libc::SYS_sigaltstack, args)?;
        let mut flags = u32::try_from(flags & 0xffff_ffff).unwrap_or(0);
        // The call looked at our stack pointer. This is the kernel's rule with the thread's own.
        let sp = halt.registers(tid)?.rsp;
        if size != 0 {
            flags &= !SS_ONSTACK;
            if sp > base && sp - base <= size {
                flags |= SS_ONSTACK;
            }
        }
        Ok(AltStack { base, flags, size })
    }

    /// An interval timer: 0 real, 1 virtual, 2 profiling.
    ///
    /// # Errors
    /// As [`Injector::syscall`].
    pub fn getitimer(&mut self, halt: &mut Halt<'_>, which: u32) -> Result<IntervalTimer> {
        let args = [u64::from(which), self.place.results, 0, 0, 0, 0];
        let [is, iu, vs, vu] = self.ask(halt, "getitimer", libc::SYS_getitimer, args)?;
        let us = |s: u64, u: u64| s.saturating_mul(1_000_000).saturating_add(u);
        Ok(IntervalTimer {
            interval_us: us(is, iu),
            value_us: us(vs, vu),
        })
    }

    /// A POSIX timer, by the kernel's id: (interval, until next expiry), nanoseconds.
    ///
    /// # Errors
    /// As [`Injector::syscall`]; [`Error::Injected`] if there is no such timer.
    pub fn timer_gettime(&mut self, halt: &mut Halt<'_>, id: u32) -> Result<(u64, u64)> {
        let args = [u64::from(id), self.place.results, 0, 0, 0, 0];
        let [is, in_, vs, vn] = self.ask(halt, "timer_gettime", libc::SYS_timer_gettime, args)?;
        let ns = |s: u64, n: u64| s.saturating_mul(1_000_000_000).saturating_add(n);
        Ok((ns(is, in_), ns(vs, vn)))
    }

    /// The address that the kernel clears when the thread ends.
    ///
    /// # Errors
    /// As [`Injector::syscall`]; [`Error::Injected`] if the kernel is built without the call.
    pub fn tid_address(&mut self, halt: &mut Halt<'_>, tid: u32) -> Result<u64> {
        let args = [PR_GET_TID_ADDRESS, self.place.results, 0, 0, 0, 0];
        let [address] = self.ask_thread(halt, tid, "prctl", libc::SYS_prctl, args)?;
        Ok(address)
    }

    /// The program break.
    ///
    /// # Errors
    /// As [`Injector::syscall`].
    pub fn brk(&mut self, halt: &mut Halt<'_>) -> Result<u64> {
        let tid = safety::pick(halt, &self.memory)?;
        self.syscall(halt, tid, libc::SYS_brk, [0; 6])
            .map(i64::cast_unsigned)
    }

    /// A call as by [`Injector::syscall`] in the thread that suits best.
    ///
    /// # Errors
    /// As there.
    pub fn call_any(&mut self, halt: &mut Halt<'_>, number: i64, args: [u64; 6]) -> Result<i64> {
        let tid = safety::pick(halt, &self.memory)?;
        self.syscall(halt, tid, number, args)
    }

    /// A call in any thread that writes `N` words to the place for results.
    fn ask<const N: usize>(
        &mut self,
        halt: &mut Halt<'_>,
        call: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<[u64; N]> {
        let tid = safety::pick(halt, &self.memory)?;
        self.ask_thread(halt, tid, call, number, args)
    }

    fn ask_thread<const N: usize>(
        &mut self,
        halt: &mut Halt<'_>,
        tid: u32,
        call: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<[u64; N]> {
        const { assert!(N * 8 <= place::RESULTS) };
        let result = self.syscall(halt, tid, number, args)?;
        if result < 0 {
            return Err(failed(call, tid, result));
        }
        let mut bytes = [0u8; place::RESULTS];
        let bytes = bytes.get_mut(..N * 8).unwrap_or_default();
        self.read("results", self.place.results, bytes)?;
        let mut words = [0u64; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    /// Whether an error only means that the call was refused, by a kernel or a thread that cannot
    /// do it: what was asked for is then not known, and everything else is.
    pub fn is_refusal(error: &Error) -> bool {
        matches!(error, Error::Injected { .. } | Error::NoSafeThread { .. })
    }
}
