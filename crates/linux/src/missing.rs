//! Memory that arrives when it is touched: userfaultfd for missing pages.
//!
//! The target makes the descriptor and registers nothing itself; we take it and answer its faults. A
//! page that is asked for is copied in, and only then does the thread that touched it go on. So the
//! one who answers must live until every page is there: when its descriptor closes, the kernel gives
//! zeros to everyone who waits. Whoever uses this makes sure that the target dies with it.
//!
//! Calls that change the address space (munmap, mremap, MADV_DONTNEED, fork) wait until their event
//! has been read, and what they took away must not be filled any more: a page that was thrown away is
//! zero from then on.

use crate::error::Result;
use crate::uffd::{Features, api, control, failed, wire};
use linux_raw_sys::{general as uapi, ioctl};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Something that happened to registered memory.
#[derive(Debug)]
pub enum Happened {
    /// A thread waits for the page of this address.
    Fault(u64),
    /// These pages were thrown away: they are zero from now on.
    Removed(Range<u64>),
    /// These addresses were unmapped.
    Unmapped(Range<u64>),
    /// This range went to another address.
    Moved(Range<u64>, u64),
    /// The process forked: the child's memory is in the same state, and is served through this.
    Forked(Missing),
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The pages are there.
    Done,
    /// Some are there already, or their memory is gone: this many bytes were copied before.
    Partly(u64),
    /// The address space is changing: read what happens, then try again; so many bytes were copied.
    Again(u64),
    /// The process is gone.
    Gone,
}

/// A userfaultfd for missing pages.
#[derive(Debug)]
pub struct Missing {
    fd: OwnedFd,
}

impl Missing {
    /// Flags for the call that makes one. Faults inside system calls are served, too, which takes
    /// CAP_SYS_PTRACE in the process that makes it, or `vm.unprivileged_userfaultfd`.
    pub const CREATE_FLAGS: u32 = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u32;

    /// Takes over a new userfaultfd.
    ///
    /// # Errors
    /// EPERM if following forks takes a privilege we lack; EINVAL if the kernel has no such events.
    pub fn handshake(fd: OwnedFd) -> Result<Self> {
        let events = Features(u64::from(
            uapi::UFFD_FEATURE_EVENT_FORK
                | uapi::UFFD_FEATURE_EVENT_REMAP
                | uapi::UFFD_FEATURE_EVENT_REMOVE
                | uapi::UFFD_FEATURE_EVENT_UNMAP,
        ));
        match api(fd.as_fd(), events) {
            Ok(_) => Ok(Self { fd }),
            Err(e) => Err(failed(fd.as_fd(), "UFFDIO_API")(e)),
        }
    }

    /// Registers page-aligned addresses: their missing pages are ours to bring.
    ///
    /// # Errors
    /// The kernel's: EINVAL for memory of another sort.
    pub fn register(&self, range: &Range<u64>) -> Result<()> {
        let mut arg = uapi::uffdio_register {
            range: wire(range),
            mode: u64::from(uapi::UFFDIO_REGISTER_MODE_MISSING),
            ioctls: 0,
        };
        // SAFETY: UFFDIO_REGISTER reads and writes one `uffdio_register`, which `arg` is. The memory it
        // is about belongs to a process made for that.
        unsafe { control(self.as_fd(), ioctl::UFFDIO_REGISTER, &mut arg) }
            .map_err(failed(self.as_fd(), "UFFDIO_REGISTER"))
    }

    /// Gives addresses back: their missing pages are zero again.
    ///
    /// # Errors
    /// The kernel's; ENOMEM if the process is gone.
    pub fn unregister(&self, range: &Range<u64>) -> Result<()> {
        let mut arg = wire(range);
        // SAFETY: UFFDIO_UNREGISTER reads one `uffdio_range`, which `arg` is. It only ends what
        // registering began.
        unsafe { control(self.as_fd(), ioctl::UFFDIO_UNREGISTER, &mut arg) }
            .map_err(failed(self.as_fd(), "UFFDIO_UNREGISTER"))
    }

    /// Brings pages: `bytes` (whole pages) to `to`, and wakes who waits for them. Pages that are
    /// there are left alone.
    ///
    /// # Errors
    /// The kernel's, other than those that [`Copied`] has words for.
    pub fn copy(&self, to: u64, bytes: &[u8]) -> Result<Copied> {
        let mut arg = uapi::uffdio_copy {
            dst: to,
            src: bytes.as_ptr().addr() as u64,
            len: bytes.len() as u64,
            mode: 0,
            copy: 0,
        };
        // SAFETY: UFFDIO_COPY reads one `uffdio_copy` and `len` bytes at `src`, which `bytes` is, and
        // writes how many it copied into `arg`. The memory it fills belongs to a process made for
        // that.
        let done = unsafe { control(self.as_fd(), ioctl::UFFDIO_COPY, &mut arg) };
        self.copied("UFFDIO_COPY", done, arg.copy)
    }

    /// A page of zeros.
    ///
    /// # Errors
    /// As [`Missing::copy`].
    pub fn zero(&self, at: u64, length: u64) -> Result<Copied> {
        let mut arg = uapi::uffdio_zeropage {
            range: wire(&(at..at + length)),
            mode: 0,
            zeropage: 0,
        };
        // SAFETY: UFFDIO_ZEROPAGE reads one `uffdio_zeropage` and writes how many bytes it made into
        // it; `arg` is one. The memory it fills belongs to a process made for that.
        let done = unsafe { control(self.as_fd(), ioctl::UFFDIO_ZEROPAGE, &mut arg) };
        self.copied("UFFDIO_ZEROPAGE", done, arg.zeropage)
    }

    /// What became of bringing pages; `before`: bytes that were, or a negative error.
    fn copied(&self, what: &'static str, done: io::Result<()>, before: i64) -> Result<Copied> {
        let Err(error) = done else {
            return Ok(Copied::Done);
        };
        let before = u64::try_from(before).unwrap_or(0);
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(Copied::Again(before)),
            Some(libc::EEXIST | libc::ENOENT) => Ok(Copied::Partly(before)),
            Some(libc::ESRCH) => Ok(Copied::Gone),
            _ => Err(failed(self.as_fd(), what)(error)),
        }
    }

    /// Lets those go who wait for a page that is there by now.
    pub fn wake(&self, range: &Range<u64>) {
        let mut arg = wire(range);
        // SAFETY: UFFDIO_WAKE reads one `uffdio_range`, which `arg` is, and changes no memory.
        let _woken = unsafe { control(self.as_fd(), ioctl::UFFDIO_WAKE, &mut arg) };
        // It can fail for memory that is gone, and then nobody waits.
    }

    /// Takes one report; `None` if there is none now. Does not wait.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&self) -> Result<Option<Happened>> {
        // struct uffd_msg: event u8, 7 reserved, then three words.
        let mut message = [0u8; 32];
        match rustix::io::read(&self.fd, &mut message) {
            Ok(32) => {}
            Ok(_) => return Ok(None),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(e) => return Err(failed(self.as_fd(), "read")(e.into())),
        }
        let word = |at: usize| {
            let bytes = message.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        Ok(match u32::from(message[0]) {
            // flags, address.
            uapi::UFFD_EVENT_PAGEFAULT => Some(Happened::Fault(word(16))),
            uapi::UFFD_EVENT_REMOVE => Some(Happened::Removed(word(8)..word(16))),
            uapi::UFFD_EVENT_UNMAP => Some(Happened::Unmapped(word(8)..word(16))),
            uapi::UFFD_EVENT_REMAP => {
                let (from, to, length) = (word(8), word(16), word(24));
                Some(Happened::Moved(from..from.wrapping_add(length), to))
            }
            uapi::UFFD_EVENT_FORK => {
                let fd = i32::try_from(word(8) & 0xffff_ffff).unwrap_or(-1);
                // SAFETY: the kernel installed this descriptor for us with the report just read;
                // nobody else knows of it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Some(Happened::Forked(Self { fd }))
            }
            _ => None,
        })
    }
}

impl AsFd for Missing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
