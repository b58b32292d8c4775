//! The calls that need `unsafe`.

use crate::error::{Error, Result, Target};
use std::cmp::Ordering;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use stillframe_image::objects::Owner;

/// `F_OWNER_*`'s structure.
#[repr(C)]
struct OwnerEx {
    kind: libc::c_int,
    pid: libc::pid_t,
}

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

/// The result of a call, or the error that `errno` tells.
pub(super) fn check(what: &'static str, result: i64) -> Result<i32> {
    if result < 0 {
        return Err(Error::last(what, Target::Us));
    }
    Ok(i32::try_from(result).unwrap_or(i32::MAX))
}

pub(super) fn kcmp_file(a: (u32, u32), b: (u32, u32)) -> Result<Ordering> {
    const KCMP_FILE: i64 = 0;
    // SAFETY: kcmp takes numbers only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            i64::from(a.0),
            i64::from(b.0),
            KCMP_FILE,
            i64::from(a.1),
            i64::from(b.1),
        )
    };
    match result {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 | 3 => Ok(Ordering::Greater),
        _ => Err(Error::last("kcmp", Target::Process(a.0))),
    }
}

pub(super) fn fcntl(fd: BorrowedFd<'_>, what: &'static str, call: i32, arg: i64) -> Result<i32> {
    // SAFETY: the calls made by this module's users take a number, no address.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), call, arg) };
    check(what, result.into())
}

pub(super) fn owner(fd: BorrowedFd<'_>) -> Result<Owner> {
    let mut ex = OwnerEx { kind: 0, pid: 0 };
    // SAFETY: F_GETOWN_EX writes one such structure.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, &raw mut ex) };
    check("fcntl F_GETOWN_EX", result.into())?;
    Ok(Owner {
        kind: ex.kind,
        id: ex.pid,
        signal: fcntl(fd, "fcntl F_GETSIG", F_GETSIG, 0)?,
    })
}

pub(super) fn set_owner(fd: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    let ex = OwnerEx {
        kind: owner.kind,
        pid: owner.id,
    };
    // SAFETY: F_SETOWN_EX reads one such structure.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, &raw const ex) };
    check("fcntl F_SETOWN_EX", result.into())?;
    fcntl(fd, "fcntl F_SETSIG", F_SETSIG, owner.signal.into()).map(drop)
}

pub(super) fn ofd_lock(fd: BorrowedFd<'_>, kind: i32, start: u64, end: Option<u64>) -> Result<()> {
    let length = end.map_or(0, |end| end.saturating_sub(start).saturating_add(1));
    let lock = libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: i64::try_from(start).unwrap_or(i64::MAX),
        l_len: i64::try_from(length).unwrap_or(0),
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK reads one such structure.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    check("fcntl F_OFD_SETLK", result.into()).map(drop)
}

/// An ioctl that reads or writes `bytes`, which must be at least as long as its structure.
///
/// # Safety
/// `request` must not touch more than `bytes.len()` bytes at its argument.
pub(super) unsafe fn ioctl(
    fd: BorrowedFd<'_>,
    what: &'static str,
    request: u64,
    bytes: &mut [u8],
) -> Result<i32> {
    // SAFETY: the caller's promise.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, bytes.as_mut_ptr()) };
    check(what, result.into())
}

/// A descriptor that a call has just made.
pub(super) fn made(what: &'static str, result: i64) -> Result<OwnedFd> {
    let number = check(what, result)?;
    // SAFETY: the call returned it as new, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

pub(super) fn getsockopt(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: writes at most `length` bytes to `value`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    check("getsockopt", result.into())?;
    Ok((length as usize).min(value.len()))
}

pub(super) fn setsockopt(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: reads `length` bytes of `value`. Options that hold an address (filters) are never
    // passed: callers pass plain values only.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast::<c_void>(),
            length,
        )
    };
    check("setsockopt", result.into()).map(drop)
}

/// Which address of a socket.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Own,
    Peer,
}

pub(super) fn address(fd: BorrowedFd<'_>, which: Which) -> Result<Vec<u8>> {
    let mut buffer = [0u64; 16];
    let mut length = size_of_val(&buffer) as libc::socklen_t;
    let at = buffer.as_mut_ptr().cast::<libc::sockaddr>();
    // SAFETY: both write at most `length` bytes to `buffer`, which has as many and is aligned.
    let (what, result) = unsafe {
        match which {
            Which::Own => (
                "getsockname",
                libc::getsockname(fd.as_raw_fd(), at, &raw mut length),
            ),
            Which::Peer => (
                "getpeername",
                libc::getpeername(fd.as_raw_fd(), at, &raw mut length),
            ),
        }
    };
    check(what, result.into())?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|w| w.to_ne_bytes()).collect();
    Ok(bytes[..(length as usize).min(bytes.len())].to_vec())
}

/// A raw address, aligned and with its length.
fn aligned(address: &[u8]) -> ([u64; 16], libc::socklen_t) {
    let mut buffer = [0u64; 16];
    let length = address.len().min(128);
    for (at, chunk) in address[..length].chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        buffer[at] = u64::from_ne_bytes(word);
    }
    (buffer, length as libc::socklen_t)
}

pub(super) fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    let (buffer, length) = aligned(address);
    // SAFETY: reads `length` bytes of `buffer`, which has as many.
    let result = unsafe { libc::bind(fd.as_raw_fd(), buffer.as_ptr().cast(), length) };
    check("bind", result.into()).map(drop)
}

pub(super) fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    let (buffer, length) = aligned(address);
    // SAFETY: reads `length` bytes of `buffer`, which has as many.
    let result = unsafe { libc::connect(fd.as_raw_fd(), buffer.as_ptr().cast(), length) };
    check("connect", result.into()).map(drop)
}

pub(super) fn socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    made("socket", result.into())
}

pub(super) fn pair(domain: i32, kind: i32, protocol: i32) -> Result<[OwnedFd; 2]> {
    let mut both = [-1; 2];
    // SAFETY: writes two numbers.
    let result = unsafe {
        libc::socketpair(
            domain,
            kind | libc::SOCK_CLOEXEC,
            protocol,
            both.as_mut_ptr(),
        )
    };
    check("socketpair", result.into())?;
    let [a, b] = both;
    Ok([made("socketpair", a.into())?, made("socketpair", b.into())?])
}

pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::listen(fd.as_raw_fd(), i32::try_from(backlog).unwrap_or(4096)) };
    check("listen", result.into()).map(drop)
}

pub(super) fn accept(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: no address is asked for.
    let result = unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    };
    made("accept", result.into())
}

pub(super) fn shutdown(fd: BorrowedFd<'_>, how: i32) -> Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::shutdown(fd.as_raw_fd(), how) };
    check("shutdown", result.into()).map(drop)
}

/// Sends without waiting and without SIGPIPE. How much went.
pub(super) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: reads `bytes`.
    let result = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    check("send", result as i64).map(|n| n.cast_unsigned() as usize)
}

/// What a look into a socket's queue shows.
pub(super) struct Seen {
    /// Bytes there; of a datagram perhaps more than were copied.
    pub(super) length: usize,
    /// Bytes of the sender's address.
    pub(super) from: Vec<u8>,
    /// Whether descriptors or credentials came with it.
    pub(super) ancillary: bool,
}

/// Looks at, or takes (`peek` false), what waits first, without waiting. `None` if nothing does, or
/// the other end has closed.
pub(super) fn receive(fd: BorrowedFd<'_>, into: &mut [u8], peek: bool) -> Result<Option<Seen>> {
    let mut name = [0u64; 16];
    let mut vector = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of_val(&name) as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    let mut flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    if peek {
        flags |= libc::MSG_PEEK;
    }
    // SAFETY: `message` points to a buffer for the name and one for the bytes, both with their
    // lengths. There is no room for ancillary data, so no descriptor is received.
    let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOTCONN | libc::EINVAL) => Ok(None),
            _ => Err(Error::syscall("recvmsg", Target::Us, error)),
        };
    }
    let bytes: Vec<u8> = name.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let length = (message.msg_namelen as usize).min(bytes.len());
    Ok(Some(Seen {
        length: result.cast_unsigned(),
        from: bytes[..length].to_vec(),
        ancillary: message.msg_flags & libc::MSG_CTRUNC != 0,
    }))
}

/// Opens what a file handle names, on the file system of `mount`.
pub(super) fn open_handle(mount: BorrowedFd<'_>, kind: i32, handle: &[u8]) -> Result<OwnedFd> {
    const LONGEST: usize = 128;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; LONGEST],
    }
    let mut full = Handle {
        bytes: handle.len().min(LONGEST) as u32,
        kind,
        data: [0; LONGEST],
    };
    let length = handle.len().min(LONGEST);
    full.data[..length].copy_from_slice(&handle[..length]);
    // SAFETY: reads a header and `bytes` bytes after it, which are there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut full,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    made("open_by_handle_at", result)
}

/// Runs `f` with SIGTTOU blocked in this thread.
pub(super) fn without_sigttou<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: an all-zero set is valid storage, and `sigemptyset` makes it a set.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut blocked = before;
    // SAFETY: both are sets of our own; the mask is this thread's only.
    let changed = unsafe {
        libc::sigemptyset(&raw mut blocked);
        libc::sigaddset(&raw mut blocked, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) == 0
    };
    let result = f();
    if changed {
        // SAFETY: `before` was written by the call above.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut())
        };
    }
    result
}
