//! Copying scattered pages out of a process.
//!
//! One `process_vm_readv` moves many pages: a call costs about as much as copying one page, so a
//! thousand ranges go into each. What it cannot read (memory without PROT_READ) `/proc/PID/mem`
//! can, since there the kernel overrides protections for a tracer; what neither can read is
//! listed, and the rest is copied all the same. Pages land in a [`PageArena`], one slot a page in
//! the order asked for, so that later stages need no addresses to find them.
//!
//! Reading is not free of effects. A page of shared memory that was never touched is *allocated*
//! by being read, in the target's name. Ask [`crate::pagemap::Scanner::classify`] and
//! [`crate::files::data_extents`] first, and do not read holes.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use stillframe_image::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Ranges in one call: IOV_MAX.
const VECTORS: usize = 1024;

/// Bytes in one call. The kernel's bound is 2 GiB - 4 KiB; shorter calls let it be interrupted.
const BYTES: u64 = 64 << 20;

/// A bounded, page-aligned, reusable place for copies of pages.
///
/// Address space for the bound is reserved at once, memory is taken as it is used and kept for the
/// next time.
#[derive(Debug)]
pub struct PageArena {
    base: NonNull<[u8; PAGE_SIZE]>,
    /// Pages reserved.
    limit: usize,
    /// Pages in use.
    used: usize,
}

// SAFETY: the arena owns its mapping, and hands out references only through borrows of itself.
unsafe impl Send for PageArena {}
// SAFETY: as above; nothing changes through a shared reference.
unsafe impl Sync for PageArena {}

impl PageArena {
    /// Reserves room for `limit` pages, at least one.
    ///
    /// # Errors
    /// If there is not so much address space.
    pub fn new(limit: usize) -> Result<Self> {
        let limit = limit.max(1);
        let bytes = limit.checked_mul(PAGE_SIZE).ok_or_else(|| {
            Error::syscall(
                "mmap",
                Target::Us,
                io::Error::from_raw_os_error(libc::ENOMEM),
            )
        })?;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that
        // exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Error::last("mmap", Target::Us));
        }
        let Some(base) = NonNull::new(base.cast::<[u8; PAGE_SIZE]>()) else {
            return Err(Error::last("mmap", Target::Us));
        };
        // SAFETY: the range is exactly our mapping, and the advice changes no content. Its failure
        // (no huge pages) changes nothing.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        Ok(Self {
            base,
            limit,
            used: 0,
        })
    }

    /// Pages it can hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Pages in use.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether none is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Pages that can still be added.
    pub fn free(&self) -> usize {
        self.limit - self.used
    }

    /// The pages in use.
    pub fn pages(&self) -> &[[u8; PAGE_SIZE]] {
        // SAFETY: `used <= limit` pages from `base` are mapped readable for as long as `self`
        // lives, hold initialised bytes (zeroes at first), and change only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.used) }
    }

    /// One of the pages in use, to be changed.
    pub fn page_mut(&mut self, slot: usize) -> Option<&mut [u8; PAGE_SIZE]> {
        if slot >= self.used {
            return None;
        }
        // SAFETY: `slot < used <= limit`; as in `pages`, and `&mut self` makes it exclusive.
        Some(unsafe { &mut *self.base.as_ptr().add(slot) })
    }

    /// Forgets all pages; the memory is kept.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Forgets all pages but the first `pages`; the memory is kept.
    pub fn truncate(&mut self, pages: usize) {
        self.used = self.used.min(pages);
    }

    /// Adds `pages` slots and gives them, with what they held before.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if that passes the bound.
    pub fn extend(&mut self, pages: usize) -> Result<&mut [[u8; PAGE_SIZE]]> {
        if pages > self.free() {
            return Err(Error::NoRoom {
                pid: std::process::id(),
                what: "so many copied pages",
            });
        }
        let first = self.used;
        self.used += pages;
        // SAFETY: `first + pages <= limit`; as in `pages`, and `&mut self` makes it exclusive.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(first), pages) })
    }

    /// Takes memory for the first `pages` slots now, so that copying does not fault.
    ///
    /// # Errors
    /// If there is not so much memory.
    pub fn prefault(&mut self, pages: usize) -> Result<()> {
        let bytes = pages.min(self.limit) * PAGE_SIZE;
        // SAFETY: the range lies in our mapping; populating changes no content.
        let done =
            unsafe { libc::madvise(self.base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
        if done == 0 {
            Ok(())
        } else {
            Err(Error::last("madvise", Target::Us))
        }
    }

    /// Forgets all pages and gives the memory beyond the first `keep` slots back to the system.
    pub fn release(&mut self, keep: usize) {
        self.used = 0;
        let keep = keep.min(self.limit);
        // SAFETY: the range lies in our mapping and no reference into it exists (`&mut self`);
        // its pages become zeroes, which are valid.
        unsafe {
            libc::madvise(
                self.base.as_ptr().add(keep).cast(),
                (self.limit - keep) * PAGE_SIZE,
                libc::MADV_DONTNEED,
            );
        }
    }
}

impl Drop for PageArena {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, to which no reference outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.limit * PAGE_SIZE) };
    }
}

/// What a copy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// First slot of the arena that was filled.
    pub first: usize,
    /// Slots filled, one a page in the order asked for.
    pub pages: usize,
    /// Of those, read through /proc/PID/mem since they could not be read otherwise.
    pub forced: usize,
    /// Of those, unreadable and filled with zeroes; [`Copier::unreadable`] lists them.
    pub unreadable: usize,
}

/// Copies pages of one process, with the buffers for it.
#[derive(Debug)]
pub struct Copier {
    pid: u32,
    memory: Option<File>,
    remote: Vec<libc::iovec>,
    unreadable: Vec<u64>,
}

// SAFETY: the pointers in `remote` are addresses in another process, never followed here.
unsafe impl Send for Copier {}

impl Copier {
    /// For process `pid`. After `exec` it must be opened anew.
    ///
    /// # Errors
    /// If the process does not exist. That its memory may not be read shows when copying.
    pub fn open(pid: u32) -> Result<Self> {
        let memory = match File::open(format!("/proc/{pid}/mem")) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::ProcessGone(pid)),
            Err(_) => None,
        };
        Ok(Self {
            pid,
            memory,
            remote: Vec::with_capacity(VECTORS),
            unreadable: Vec::new(),
        })
    }

    /// Addresses of the pages the last copy could not read, in the order asked for.
    pub fn unreadable(&self) -> &[u64] {
        &self.unreadable
    }

    /// Appends copies of all pages of `ranges` (page-aligned) to the arena.
    ///
    /// # Errors
    /// If the arena is too small (nothing is copied then), the process is gone, or its memory may
    /// not be read at all.
    pub fn copy(&mut self, ranges: &[Range<u64>], arena: &mut PageArena) -> Result<CopyReport> {
        let (report, slots) = self.begin(ranges, arena)?;
        let result = self.fill(ranges, slots, report);
        self.finish(result, report, arena)
    }

    /// As [`Copier::copy`], through /proc/PID/mem alone: for mappings known to lack PROT_READ.
    ///
    /// # Errors
    /// As there.
    pub fn copy_forced(
        &mut self,
        ranges: &[Range<u64>],
        arena: &mut PageArena,
    ) -> Result<CopyReport> {
        let (mut report, mut slots) = self.begin(ranges, arena)?;
        for range in ranges {
            let pages = page_count(range);
            let (now, rest) = std::mem::take(&mut slots).split_at_mut(pages);
            slots = rest;
            self.force(range.start, now, &mut report);
        }
        self.finish(Ok(report), report, arena)
    }

    fn begin<'a>(
        &mut self,
        ranges: &[Range<u64>],
        arena: &'a mut PageArena,
    ) -> Result<(CopyReport, &'a mut [[u8; PAGE_SIZE]])> {
        self.unreadable.clear();
        let pages = ranges.iter().map(page_count).fold(0, usize::saturating_add);
        let report = CopyReport {
            first: arena.len(),
            pages,
            forced: 0,
            unreadable: 0,
        };
        Ok((report, arena.extend(pages)?))
    }

    fn finish(
        &mut self,
        result: Result<CopyReport>,
        begun: CopyReport,
        arena: &mut PageArena,
    ) -> Result<CopyReport> {
        match result {
            Ok(mut report) => {
                report.unreadable = self.unreadable.len();
                Ok(report)
            }
            Err(e) => {
                arena.truncate(begun.first);
                Err(e)
            }
        }
    }

    fn fill(
        &mut self,
        ranges: &[Range<u64>],
        mut slots: &mut [[u8; PAGE_SIZE]],
        mut report: CopyReport,
    ) -> Result<CopyReport> {
        // Position: pages already done of the range at `index`.
        let (mut index, mut skip) = (0, 0);
        loop {
            while ranges
                .get(index)
                .is_some_and(|range| skip >= page_count(range))
            {
                skip -= page_count(&ranges[index]);
                index += 1;
            }
            let Some(first) = ranges.get(index) else {
                return Ok(report);
            };
            let first = first.start + skip as u64 * PAGE..first.end;
            // Describe a batch without consuming it: a short read leaves us anywhere inside.
            self.remote.clear();
            let mut bytes = 0;
            for range in std::iter::once(&first).chain(&ranges[index + 1..]) {
                if self.remote.len() == VECTORS || bytes >= BYTES {
                    break;
                }
                let length = (page_count(range) as u64 * PAGE).min(BYTES - bytes);
                self.remote.push(libc::iovec {
                    iov_base: std::ptr::without_provenance_mut(range.start as usize),
                    iov_len: length as usize,
                });
                bytes += length;
            }
            let pages = (bytes / PAGE) as usize;
            let (mut done, failed) = match self.read_batch(&mut slots[..pages]) {
                Ok(done) => (done, done == 0),
                Err(e) if e.raw_os_error() == Some(libc::EFAULT) => (0, true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                    return Err(Error::ProcessGone(self.pid));
                }
                Err(e) => {
                    let target = Target::Process(self.pid);
                    return Err(Error::syscall("process_vm_readv", target, e));
                }
            };
            if failed {
                // The very first page failed. Take it the other way, with up to 1 MiB of what
                // follows in the range: neighbours are likely to fail too.
                done = page_count(&first).min(256);
                let (now, _) = slots.split_at_mut(done);
                self.force(first.start, now, &mut report);
            }
            slots = &mut slots[done..];
            skip += done;
        }
    }

    /// One call for the whole of `self.remote`. Gives the pages read.
    fn read_batch(&self, slots: &mut [[u8; PAGE_SIZE]]) -> io::Result<usize> {
        let local = libc::iovec {
            iov_base: slots.as_mut_ptr().cast(),
            iov_len: size_of_val(slots),
        };
        // SAFETY: the one local vector is `slots`, borrowed mutably for the call, and any bytes
        // are valid in it. The remote addresses are read by the kernel in another address space
        // (or copied from ours, which is no access of ours that could race: a torn copy of foreign
        // bytes is a valid copy of bytes).
        let read = unsafe {
            libc::process_vm_readv(
                self.pid.cast_signed(),
                &raw const local,
                1,
                self.remote.as_ptr(),
                self.remote.len() as libc::c_ulong,
                0,
            )
        };
        usize::try_from(read)
            .map(|n| n / PAGE_SIZE)
            .map_err(|_| io::Error::last_os_error())
    }

    /// Reads `slots` from `start` on through /proc/PID/mem; what cannot be read becomes zeroes and
    /// is listed.
    fn force(&mut self, start: u64, slots: &mut [[u8; PAGE_SIZE]], report: &mut CopyReport) {
        let mut done = 0;
        while done < slots.len() {
            let at = start + done as u64 * PAGE;
            let bytes = slots[done..].as_flattened_mut();
            let read = match self.memory.as_ref().map(|file| file.read_at(bytes, at)) {
                Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Some(Ok(n)) => n / PAGE_SIZE,
                _ => 0,
            };
            report.forced += read;
            done += read;
            if read == 0 {
                slots[done].fill(0);
                self.unreadable.push(at);
                done += 1;
            }
        }
    }
}

fn page_count(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start) / PAGE).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
