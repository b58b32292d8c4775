//! /proc/PID/pagemap, entry by entry.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use stillframe_image::PAGE_SIZE;

/// One page's entry (Documentation/admin-guide/mm/pagemap.rst). The frame number is hidden from
/// ordinary users and not offered here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The page is in memory.
    pub const fn present(self) -> bool {
        self.0 >> 63 & 1 != 0
    }

    /// The page is in swap, or is a marker that says it was write-protected before it existed.
    pub const fn swapped(self) -> bool {
        self.0 >> 62 & 1 != 0
    }

    /// The page belongs to a file or to shared memory.
    pub const fn file_or_shared(self) -> bool {
        self.0 >> 61 & 1 != 0
    }

    /// The page is a guard (MADV_GUARD_INSTALL).
    pub const fn guard(self) -> bool {
        self.0 >> 58 & 1 != 0
    }

    /// The page is write-protected by userfaultfd.
    pub const fn write_protected(self) -> bool {
        self.0 >> 57 & 1 != 0
    }

    /// The page is mapped by this process alone. Never said of the shared page of zeroes.
    pub const fn exclusive(self) -> bool {
        self.0 >> 56 & 1 != 0
    }

    /// The page is soft-dirty. Always set on kernels without CONFIG_MEM_SOFT_DIRTY.
    pub const fn soft_dirty(self) -> bool {
        self.0 >> 55 & 1 != 0
    }
}

/// An open /proc/PID/pagemap.
#[derive(Debug)]
pub struct Entries {
    pid: u32,
    file: File,
    raw: Vec<u8>,
}

impl Entries {
    /// Opens the table of process `pid`.
    ///
    /// # Errors
    /// If it is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        let file = File::open(format!("/proc/{pid}/pagemap"))
            .map_err(|e| Error::syscall("open pagemap", Target::Process(pid), e))?;
        Ok(Self {
            pid,
            file,
            raw: Vec::new(),
        })
    }

    /// Reads the entries of all pages of `range` into `out`, which is cleared first. Where the
    /// address space ends, so does `out`.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        out.clear();
        let page = PAGE_SIZE as u64;
        let (mut at, end) = (range.start / page * 8, range.end.div_ceil(page) * 8);
        self.raw.resize(64 * 1024, 0);
        while at < end {
            let want = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(self.raw.len());
            let got = match self.file.read_at(&mut self.raw[..want], at) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(Error::syscall("read pagemap", Target::Process(self.pid), e));
                }
            };
            let (entries, _) = self.raw[..got].as_chunks::<8>();
            out.extend(
                entries
                    .iter()
                    .map(|bytes| Entry(u64::from_ne_bytes(*bytes))),
            );
            at += got as u64;
        }
        Ok(())
    }
}
