//! Files in memory only (memfd_create).

use super::calls;
use crate::error::{Error, Result, Target};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use stillframe_image::objects::Memory;

/// Seals, F_SEAL_*.
///
/// # Errors
/// If it is no such file.
pub fn seals(fd: impl AsFd) -> Result<u32> {
    calls::fcntl(fd.as_fd(), "fcntl F_GET_SEALS", libc::F_GET_SEALS, 0).map(i32::cast_unsigned)
}

/// Adds seals.
///
/// # Errors
/// If it is sealed against that, or writable mappings forbid it.
pub fn seal(fd: impl AsFd, seals: u32) -> Result<()> {
    let seals = i64::from(seals);
    calls::fcntl(fd.as_fd(), "fcntl F_ADD_SEALS", libc::F_ADD_SEALS, seals).map(drop)
}

/// Its bytes up to `limit` bytes from the start, without the zeros at their end.
///
/// # Errors
/// The kernel's.
pub fn content(fd: OwnedFd, size: u64, limit: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(size.min(limit)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let file = File::from(fd);
    let mut at = 0;
    while at < length {
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::syscall("pread", Target::Us, e)),
        }
    }
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    bytes.truncate(used);
    Ok(bytes)
}

/// A new file of that name, size and content; not yet sealed, see [`seal`].
///
/// # Errors
/// The kernel's.
pub fn make(name: &[u8], wanted: &Memory) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    let fd = rustix::fs::memfd_create(
        name.as_c_str(),
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )
    .map_err(|e| Error::syscall("memfd_create", Target::Us, e))?;
    put(
        fd.try_clone()
            .map_err(|e| Error::syscall("dup", Target::Us, e))?,
        wanted,
    )?;
    Ok(fd)
}

/// Gives a file its size and, if that is known, its content.
///
/// # Errors
/// If it is sealed against that.
pub fn put(fd: OwnedFd, wanted: &Memory) -> Result<()> {
    let file = File::from(fd);
    let fail = |what| move |e| Error::syscall(what, Target::Us, e);
    let size = file.metadata().map_err(fail("fstat"))?.len();
    // It may be sealed against another size, and has the right one then.
    if size != wanted.size {
        file.set_len(wanted.size).map_err(fail("ftruncate"))?;
    }
    if let Some(content) = &wanted.content {
        file.write_all_at(content, 0).map_err(fail("pwrite"))?;
        // What lies beyond is zero.
        let end = content.len() as u64;
        if end < size.min(wanted.size) {
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, flags, end, size.min(wanted.size) - end)
                .map_err(|e| Error::syscall("fallocate", Target::Us, e))?;
        }
    }
    Ok(())
}
