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

    fn error(&self, what: &'static str, address: u64, e: io::Error) -> Error {
        let target = Target::Path(format!("memory of process {} at {address:#x}", self.pid));
        Error::syscall(what, target, e)
    }
}
