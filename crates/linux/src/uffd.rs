//! Asynchronous write protection by userfaultfd.
//!
//! A userfaultfd belongs to the address space of the process that made it, whoever holds the
//! descriptor. The recorder lets the target make one (by an injected call), takes it with
//! `pidfd_getfd` and closes it in the target: when our copy closes too, even because we were
//! killed, the kernel takes back every protection. With `WP_ASYNC` the kernel resolves the faults
//! itself and only remembers that the page was written, so nothing ever waits for us. That is why
//! [`Userfaultfd::handshake`] refuses to go on without it: a synchronous one would leave the
//! target hanging in its first write.

use crate::error::{Error, Result, Target};
use linux_raw_sys::{general as uapi, ioctl};
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Features of userfaultfd (UFFD_FEATURE_*), a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// Write-protect faults are reported.
    pub const PAGEFAULT_FLAG_WP: Self = Self(uapi::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64);
    /// Write protection works on shared memory and hugetlb too.
    pub const WP_HUGETLBFS_SHMEM: Self = Self(uapi::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64);
    /// Write protection covers anonymous pages that do not exist yet.
    pub const WP_UNPOPULATED: Self = Self(uapi::UFFD_FEATURE_WP_UNPOPULATED as u64);
    /// The kernel resolves write-protect faults by itself.
    pub const WP_ASYNC: Self = Self(uapi::UFFD_FEATURE_WP_ASYNC as u64);
    /// What tracking needs.
    pub const TRACKING: Self = Self(
        Self::PAGEFAULT_FLAG_WP.0
            | Self::WP_HUGETLBFS_SHMEM.0
            | Self::WP_UNPOPULATED.0
            | Self::WP_ASYNC.0,
    );

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Features {
    /// The kernel's names of those that tracking needs, separated by `|`; `none` for an empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::PAGEFAULT_FLAG_WP, "PAGEFAULT_FLAG_WP"),
            (Self::WP_HUGETLBFS_SHMEM, "WP_HUGETLBFS_SHMEM"),
            (Self::WP_UNPOPULATED, "WP_UNPOPULATED"),
            (Self::WP_ASYNC, "WP_ASYNC"),
        ];
        let mut separator = "";
        for (bit, name) in names {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = "|";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// UFFDIO_WRITEPROTECT_MODE_WP, which linux-raw-sys lacks.
const WRITEPROTECT_MODE_WP: u64 = 1;

/// What became of a request to register a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Registration {
    /// Writes to it are tracked from now on, once it has been protected by a scan.
    Registered,
    /// This sort of memory cannot be tracked, or there is none there (EINVAL).
    NotSupported,
    /// Memory the target may never write, e.g. shared from a read-only descriptor (EPERM).
    Forbidden,
    /// The target has its own userfaultfd on (a part of) it (EBUSY).
    Busy,
    /// The address space is gone: the target exited or called `exec` (ENOENT, ESRCH, ENOMEM).
    Gone,
}

/// A userfaultfd that tracks writes asynchronously.
#[derive(Debug)]
pub struct Userfaultfd {
    fd: OwnedFd,
    supported: Features,
}

/// Makes a userfaultfd of ourselves, without a handshake.
///
/// # Errors
/// If the kernel has none or forbids it.
fn create() -> Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | uapi::UFFD_USER_MODE_ONLY.cast_signed();
    // SAFETY: the call takes one integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::last("userfaultfd", Target::Us)),
    }
}

/// Makes a call on a userfaultfd.
///
/// # Safety
/// `arg` is the structure that `request` reads and writes. What the call does to the memory that it
/// is about must keep the meaning of loads and stores, should that memory be ours.
pub(crate) unsafe fn control<T>(fd: BorrowedFd<'_>, request: u32, arg: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; `arg` lives for the duration of the call, which keeps no
    // pointer to it.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), std::ptr::from_mut(arg)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a userfaultfd could not do.
pub(crate) fn failed(fd: BorrowedFd<'_>, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let target = Target::Descriptor(fd.as_raw_fd());
    move |e| Error::syscall(what, target, e)
}

/// UFFDIO_API. Gives what the kernel supports; what is asked for is then enabled.
pub(crate) fn api(fd: BorrowedFd<'_>, features: Features) -> io::Result<Features> {
    let mut arg = uapi::uffdio_api {
        api: u64::from(uapi::UFFD_API),
        features: features.0,
        ioctls: 0,
    };
    // SAFETY: UFFDIO_API reads and writes one `uffdio_api`, which `arg` is, and touches no memory.
    unsafe { control(fd, ioctl::UFFDIO_API, &mut arg) }?;
    Ok(Features(arg.features))
}

impl Userfaultfd {
    /// Flags the injected `userfaultfd` call should be made with.
    pub const CREATE_FLAGS: u32 =
        (libc::O_CLOEXEC | libc::O_NONBLOCK) as u32 | uapi::UFFD_USER_MODE_ONLY;

    /// What this kernel's userfaultfd supports.
    ///
    /// # Errors
    /// If we may not make one at all.
    pub fn supported_features() -> Result<Features> {
        let fd = create()?;
        api(fd.as_fd(), Features::default())
            .map_err(|e| Error::syscall("UFFDIO_API", Target::Us, e))
    }

    /// One over our own memory, for tests and probes.
    ///
    /// # Errors
    /// As [`Userfaultfd::handshake`], or if we may not make one.
    pub fn for_self() -> Result<Self> {
        Self::handshake(create()?)
    }

    /// Takes over a new userfaultfd, made with [`Userfaultfd::CREATE_FLAGS`], and enables
    /// [`Features::TRACKING`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the kernel lacks a feature; the failed call otherwise, e.g. if
    /// `fd` is not a userfaultfd or has had its handshake.
    pub fn handshake(fd: OwnedFd) -> Result<Self> {
        match api(fd.as_fd(), Features::TRACKING) {
            Ok(supported) => Ok(Self { fd, supported }),
            Err(e) => {
                let missing = Self::supported_features()
                    .map_or(Features::default(), |has| Features::TRACKING.without(has));
                if missing == Features::default() {
                    return Err(failed(fd.as_fd(), "UFFDIO_API")(e));
                }
                Err(Error::Unsupported {
                    what: if missing.contains(Features::WP_ASYNC) {
                        "userfaultfd WP_ASYNC"
                    } else if missing.contains(Features::WP_UNPOPULATED) {
                        "userfaultfd WP_UNPOPULATED"
                    } else {
                        "userfaultfd write protection of shared memory"
                    },
                    advice: "use Linux 6.7 or later, built with CONFIG_USERFAULTFD and \
                             CONFIG_PTE_MARKER_UFFD_WP",
                })
            }
        }
    }

    /// What the kernel supports, [`Features::TRACKING`] at least; only that is enabled.
    pub fn supported(&self) -> Features {
        self.supported
    }

    /// Registers `range`, page-aligned, for tracking. It may span several mappings and holes; then
    /// the outcome is that of the whole, and nothing is registered unless all can be. Registering
    /// what we have registered is allowed and changes nothing.
    ///
    /// # Errors
    /// Only for a failure that [`Registration`] has no word for.
    pub fn register(&self, range: Range<u64>) -> Result<Registration> {
        let mut arg = uapi::uffdio_register {
            range: wire(&range),
            mode: u64::from(uapi::UFFDIO_REGISTER_MODE_WP),
            ioctls: 0,
        };
        // SAFETY: UFFDIO_REGISTER reads and writes one `uffdio_register`, which `arg` is. What it does
        // to the range cannot break memory safety, even if it is ours: with WP_ASYNC, loads and
        // stores keep their meaning.
        let Err(error) = (unsafe { control(self.as_fd(), ioctl::UFFDIO_REGISTER, &mut arg) })
        else {
            return Ok(Registration::Registered);
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) => Ok(Registration::NotSupported),
            Some(libc::EPERM) => Ok(Registration::Forbidden),
            Some(libc::EBUSY) => Ok(Registration::Busy),
            Some(libc::ENOENT | libc::ESRCH | libc::ENOMEM) => Ok(Registration::Gone),
            _ => Err(failed(self.as_fd(), "UFFDIO_REGISTER")(error)),
        }
    }

    /// Takes `range` out of tracking and drops its protection.
    ///
    /// # Errors
    /// The failed call: EINVAL if nothing there could have been registered, ENOMEM if the address
    /// space is gone.
    pub fn unregister(&self, range: Range<u64>) -> Result<()> {
        let mut arg = wire(&range);
        // SAFETY: UFFDIO_UNREGISTER reads one `uffdio_range`, which `arg` is. It only drops
        // protections.
        unsafe { control(self.as_fd(), ioctl::UFFDIO_UNREGISTER, &mut arg) }
            .map_err(failed(self.as_fd(), "UFFDIO_UNREGISTER"))
    }

    /// Protects `range`, so that its next write is noticed, or drops the protection, which makes
    /// its pages count as written. Below about 500 pages per GiB of address space this is cheaper
    /// than a scan (0.45-0.69 us a page, measured with the target stopped).
    ///
    /// # Errors
    /// The failed call: ENOENT if a part of `range` is not registered, ESRCH if the address space
    /// is gone, EAGAIN if mappings are changing at this moment.
    pub fn write_protect(&self, range: Range<u64>, on: bool) -> Result<()> {
        let mode = if on { WRITEPROTECT_MODE_WP } else { 0 };
        let mut arg = uapi::uffdio_writeprotect {
            range: wire(&range),
            mode,
        };
        // SAFETY: UFFDIO_WRITEPROTECT reads one `uffdio_writeprotect`, which `arg` is. With
        // WP_ASYNC, stores to protected pages keep their meaning.
        unsafe { control(self.as_fd(), ioctl::UFFDIO_WRITEPROTECT, &mut arg) }
            .map_err(failed(self.as_fd(), "UFFDIO_WRITEPROTECT"))
    }
}

impl AsFd for Userfaultfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel's form of a range.
pub(crate) fn wire(range: &Range<u64>) -> uapi::uffdio_range {
    uapi::uffdio_range {
        start: range.start,
        len: range.end.saturating_sub(range.start),
    }
}
