//! Timers and counters that are descriptors.

use super::calls::{ioctl, made};
use crate::error::{Error, Result, Target};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use stillframe_image::objects::detail::TimerFd;

const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;

/// A timerfd as `wanted`, armed with what is left.
///
/// # Errors
/// If the clock is not to be had, or expirations that were not read cannot be put back.
pub fn make(wanted: &TimerFd) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::timerfd_create(wanted.clock, libc::TFD_CLOEXEC) };
    let fd = made("timerfd_create", result.into())?;
    set(&fd, wanted)?;
    Ok(fd)
}

/// Arms a timerfd with what is left.
///
/// # Errors
/// The kernel's.
pub fn set(fd: impl AsFd, wanted: &TimerFd) -> Result<()> {
    let spec = |ns: u64| libc::timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (ns % 1_000_000_000) as i64,
    };
    // A periodic timer that expired starts its next period when it is read; until then nothing is left.
    let waits = wanted.value_ns == 0 && wanted.ticks > 0;
    let left = if waits {
        wanted.interval_ns
    } else {
        wanted.value_ns
    };
    let times = libc::itimerspec {
        it_interval: spec(wanted.interval_ns),
        it_value: spec(left),
    };
    // Always what is left: fdinfo tells that also of timers that were set to an absolute time.
    // SAFETY: reads one itimerspec; no old value is asked for.
    let result = unsafe {
        libc::timerfd_settime(
            fd.as_fd().as_raw_fd(),
            0,
            &raw const times,
            std::ptr::null_mut(),
        )
    };
    if result < 0 {
        return Err(Error::last("timerfd_settime", Target::Us));
    }
    if wanted.ticks > 0 {
        let mut ticks = wanted.ticks.to_ne_bytes();
        // SAFETY: it reads one u64.
        unsafe {
            ioctl(
                fd.as_fd(),
                "ioctl TFD_IOC_SET_TICKS",
                TFD_IOC_SET_TICKS,
                &mut ticks,
            )?
        };
    }
    Ok(())
}

/// A signalfd for a set of signals, bit n-1 for signal n; of `existing` if there is one.
///
/// # Errors
/// The kernel's.
pub fn signalfd(existing: Option<&OwnedFd>, mask: u64) -> Result<()> {
    match existing {
        Some(fd) => signals(fd.as_raw_fd(), mask).map(drop),
        None => Ok(()),
    }
}

/// A new signalfd for a set of signals, bit n-1 for signal n.
///
/// # Errors
/// The kernel's.
pub fn new_signalfd(mask: u64) -> Result<OwnedFd> {
    made("signalfd4", signals(-1, mask)?)
}

fn signals(fd: i32, mask: u64) -> Result<i64> {
    let flags = if fd < 0 { libc::SFD_CLOEXEC } else { 0 };
    // SAFETY: reads the eight bytes of the set.
    let result = unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            fd,
            &raw const mask,
            size_of::<u64>(),
            flags,
        )
    };
    if result < 0 {
        return Err(Error::last("signalfd4", Target::Us));
    }
    Ok(result)
}
