//! Reading and writing another process's memory, whatever its protection.
//!
//! Through /proc/PID/mem, where the kernel overrides protections for a tracer: a private page that
//! may not be written is copied first, as by a debugger that sets a breakpoint.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The memory of one process, as long as it does not exec.
#[derive(Debug)]
pub struct Door {
    pid: u32,
    file: File,
}

const PAGE: usize = stillframe_image::PAGE_SIZE;

/// Pages in one call: IOV_MAX is 1024.
const MOST: usize = 512;

const fn page(address: u64) -> libc::iovec {
    libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: PAGE,
    }
}

/// Opens /proc/PID/mem for both.
pub(crate) fn open(pid: u32) -> Result<File> {
    let path = format!("/proc/{pid}/mem");
    let file = File::options().read(true).write(true).open(&path);
    file.map_err(|e| Error::syscall("open", Target::Path(path), e))
}

impl Door {
    /// Opens that of a process, which must be traced by us to be written.
    ///
    /// # Errors
    /// If it is gone or not ours.
    pub fn open(pid: u32) -> Result<Self> {
        match open(pid) {
            Ok(file) => Ok(Self { pid, file }),
            Err(e) if e.errno() == Some(libc::ENOENT) => Err(Error::ProcessGone(pid)),
            Err(e) => Err(e),
        }
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// EIO where nothing is mapped, or what is cannot be read.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(into, address)
            .map_err(|e| self.error("read", address, e))
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// EIO where nothing is mapped, or what is cannot be written.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, address)
            .map_err(|e| self.error("write", address, e))
    }

    /// Reads whole pages at `addresses`, one after the other into `into`, with one call for many.
    /// Returns how many were read before one could not be.
    pub fn read_pages(&self, addresses: &[u64], into: &mut [u8]) -> usize {
        let mut done = 0;
        let parts = addresses.chunks(MOST).zip(into.chunks_mut(MOST * PAGE));
        for (addresses, into) in parts {
            let count = addresses.len().min(into.len() / PAGE);
            let local = libc::iovec {
                iov_base: into.as_mut_ptr().cast(),
                iov_len: count * PAGE,
            };
            let remote: Vec<libc::iovec> = addresses.iter().take(count).map(|a| page(*a)).collect();
            // SAFETY: the kernel writes at most `count` pages to `into`, which has room for them and
            // is borrowed for us alone; the remote parts are addresses of another process.
            let read = unsafe {
                libc::process_vm_readv(
                    self.pid.cast_signed(),
                    &raw const local,
                    1,
                    remote.as_ptr(),
                    remote.len() as libc::c_ulong,
                    0,
                )
            };
            let read = usize::try_from(read).unwrap_or(0) / PAGE;
            done += read;
            if read < count {
                break;
            }
        }
        done
    }

    /// Writes whole pages, with one call for many; those that may not be written by the process
    /// itself one by one.
    ///
    /// # Errors
    /// EIO where nothing is mapped, or what is cannot be written.
    pub fn write_pages(&self, pages: &[(u64, &[u8; PAGE])]) -> Result<()> {
        for part in pages.chunks(MOST) {
            let local: Vec<libc::iovec> = part
                .iter()
                .map(|(_, bytes)| libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: PAGE,
                })
                .collect();
            let remote: Vec<libc::iovec> = part.iter().map(|(a, _)| page(*a)).collect();
            // SAFETY: the kernel only reads the local parts, each of which is one page that is
            // borrowed; the remote parts are addresses of another process.
            let written = unsafe {
                libc::process_vm_writev(
                    self.pid.cast_signed(),
                    local.as_ptr(),
                    local.len() as libc::c_ulong,
                    remote.as_ptr(),
                    remote.len() as libc::c_ulong,
                    0,
                )
            };
            let written = usize::try_from(written).unwrap_or(0) / PAGE;
            for (address, bytes) in part.iter().skip(written) {
                self.write(*address, *bytes)?;
            }
        }
        Ok(())
    }

    fn error(&self, what: &'static str, address: u64, e: io::Error) -> Error {
        let target = Target::Path(format!("memory of process {} at {address:#x}", self.pid));
        Error::syscall(what, target, e)
    }
}
