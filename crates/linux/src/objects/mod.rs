//! What stands behind descriptors: looking at it, and making it.
//!
//! A description is looked at through a copy of the descriptor ([`Door::take`]). Such a copy counts as a
//! reader or a writer of a pipe and as a holder of a socket, so it is held only while the process
//! stands still, and closed before it goes on. Nothing is consumed: a pipe is duplicated with
//! tee(2), a socket's queue is peeked at.

mod calls;
pub mod memory;
pub mod pipe;
pub mod socket;
pub mod terminal;
pub mod timer;
pub mod watch;

use crate::error::{Error, Result, Target};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::cmp::Ordering;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use stillframe_image::objects::Owner;

/// The way to the descriptors of one process.
#[derive(Debug)]
pub struct Door {
    pid: u32,
    pidfd: OwnedFd,
}

impl Door {
    /// To the descriptors of process `pid`.
    ///
    /// # Errors
    /// If it is gone.
    pub fn open(pid: u32) -> Result<Self> {
        let process = Pid::from_raw(pid.cast_signed()).ok_or(Error::ProcessGone(pid))?;
        let pidfd = pidfd_open(process, PidfdFlags::empty())
            .map_err(|e| Error::syscall("pidfd_open", Target::Process(pid), e))?;
        Ok(Self { pid, pidfd })
    }

    /// The process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// A copy of a descriptor: the same description.
    ///
    /// # Errors
    /// If it is not open, or the process may not be looked at.
    pub fn take(&self, fd: u32) -> Result<OwnedFd> {
        pidfd_getfd(&self.pidfd, fd.cast_signed(), PidfdGetfdFlags::empty()).map_err(|e| {
            let target = Target::Path(format!("/proc/{}/fd/{fd}", self.pid));
            Error::syscall("pidfd_getfd", target, e)
        })
    }
}

/// Whether two descriptors, each a process and a number, refer to one description: then `Equal`.
/// Otherwise the kernel puts them in an order that holds until it is started anew.
///
/// # Errors
/// If one is not open, or the kernel has no kcmp(2), or forbids it.
pub fn compare(a: (u32, u32), b: (u32, u32)) -> Result<Ordering> {
    calls::kcmp_file(a, b)
}

/// Bytes that wait to be read (FIONREAD).
///
/// # Errors
/// If such a descriptor cannot tell.
pub fn waiting(fd: impl AsFd) -> Result<u64> {
    rustix::io::ioctl_fionread(fd).map_err(|e| Error::syscall("ioctl FIONREAD", Target::Us, e))
}

/// Status flags, O_CLOEXEC excluded: that is the number's, not the description's.
///
/// # Errors
/// The kernel's.
pub fn flags(fd: impl AsFd) -> Result<u32> {
    calls::fcntl(fd.as_fd(), "fcntl F_GETFL", libc::F_GETFL, 0).map(i32::cast_unsigned)
}

/// Status flags that fcntl can change.
pub const SETTABLE: u32 =
    (libc::O_APPEND | libc::O_ASYNC | libc::O_DIRECT | libc::O_NOATIME | libc::O_NONBLOCK) as u32;

/// Sets those of `flags` that can be changed later ([`SETTABLE`]).
///
/// # Errors
/// The kernel's.
pub fn set_flags(fd: impl AsFd, flags: u32) -> Result<()> {
    let flags = i64::from(flags & SETTABLE);
    calls::fcntl(fd.as_fd(), "fcntl F_SETFL", libc::F_SETFL, flags).map(drop)
}

/// Who gets SIGIO.
///
/// # Errors
/// The kernel's.
pub fn owner(fd: impl AsFd) -> Result<Owner> {
    calls::owner(fd.as_fd())
}

/// Sets who gets SIGIO; ids are as we see them.
///
/// # Errors
/// The kernel's.
pub fn set_owner(fd: impl AsFd, owner: Owner) -> Result<()> {
    calls::set_owner(fd.as_fd(), owner)
}

/// Takes flock(2)'s lock for the description, without waiting.
///
/// # Errors
/// If another has it.
pub fn flock(fd: impl AsFd, exclusive: bool) -> Result<()> {
    use rustix::fs::FlockOperation as Op;
    let operation = if exclusive {
        Op::NonBlockingLockExclusive
    } else {
        Op::NonBlockingLockShared
    };
    rustix::fs::flock(fd, operation).map_err(|e| Error::syscall("flock", Target::Us, e))
}

/// Releases flock(2)'s lock of the description.
///
/// # Errors
/// The kernel's.
pub fn unflock(fd: impl AsFd) -> Result<()> {
    rustix::fs::flock(fd, rustix::fs::FlockOperation::NonBlockingUnlock)
        .map_err(|e| Error::syscall("flock", Target::Us, e))
}

/// Takes a lock of a range for the description (F_OFD_SETLK), without waiting. `end` is the last byte.
///
/// # Errors
/// If another has it.
pub fn lock_range(fd: impl AsFd, exclusive: bool, start: u64, end: Option<u64>) -> Result<()> {
    let kind = if exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    calls::ofd_lock(fd.as_fd(), kind, start, end)
}

/// Makes another description of what `fd` refers to, through /proc.
///
/// # Errors
/// If it cannot be opened in that way.
pub fn reopen(fd: impl AsFd, flags: u32) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = rustix::fs::OFlags::from_bits_retain(flags) | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::syscall("open", Target::Path(path), e))
}

#[cfg(test)]
mod tests;
