//! PAGEMAP_SCAN: which pages were written, and protecting them again in the same pass.
//!
//! Three things about the kernel (fs/proc/task_mmu.c) shape this file:
//!
//! - A scan that meets a mapping which is not registered fails with EPERM *after* it protected
//!   what lies before, and then gives no count and no address. Those pages would never be reported
//!   again, so losing them would lose writes. The buffer is therefore all zeroes before each call,
//!   and after a failure what it holds is taken up to the first empty entry.
//! - `walk_end` is only meaningful after an early stop; and when the kernel's own 512-entry bounce
//!   buffer fills up on the way, it keeps an old value even if the walk then completes. A buffer
//!   that did not fill up is the proof of completion.
//! - Only with exactly PAGE_IS_WRITTEN as both masks does it take its fast path (idle,
//!   0.3 ms per GiB of pages that exist, against 0.7). On that path a page that does not exist counts as written once, and gets a marker
//!   when protected. So does, on Linux 6.18, a whole stretch without page tables: tables full of
//!   markers are then *made* for it, 2 MiB of kernel memory and 4 ms per GiB, on the target's
//!   account, and huge pages cannot appear there any more. Fatal for a target that reserves
//!   terabytes; [`Scanner::populated_and_protect`] leaves such memory alone.

use super::table::Table;
use crate::error::{Error, Result, Target};
use linux_raw_sys::general as uapi;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use stillframe_image::PAGE_SIZE;

/// `_IOWR('f', 16, struct pm_scan_arg)`, 96 bytes.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610;
const _: () = assert!(size_of::<uapi::pm_scan_arg>() == 96);
const _: () = assert!(size_of::<uapi::page_region>() == 24);

const PAGE: u64 = PAGE_SIZE as u64;

/// Ranges asked for in one call: 192 KiB.
const BUFFER: usize = 8192;

const EMPTY: uapi::page_region = uapi::page_region {
    start: 0,
    end: 0,
    categories: 0,
};

/// What a page is (PAGE_IS_*), a bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(pub u64);

impl Categories {
    /// In a mapping registered for asynchronous tracking.
    pub const TRACKED: Self = Self(uapi::PAGE_IS_WPALLOWED as u64);
    /// Written since it was last protected, or never protected.
    pub const WRITTEN: Self = Self(uapi::PAGE_IS_WRITTEN as u64);
    /// Belongs to a file or shared memory: in a private mapping, not yet copied on write.
    pub const FILE: Self = Self(uapi::PAGE_IS_FILE as u64);
    /// In memory.
    pub const PRESENT: Self = Self(uapi::PAGE_IS_PRESENT as u64);
    /// In swap, or only a marker left by protecting a page that did not exist.
    pub const SWAPPED: Self = Self(uapi::PAGE_IS_SWAPPED as u64);
    /// The shared page of zeroes.
    pub const ZERO: Self = Self(uapi::PAGE_IS_PFNZERO as u64);
    /// Part of a huge page.
    pub const HUGE: Self = Self(uapi::PAGE_IS_HUGE as u64);
    /// Soft-dirty.
    pub const SOFT_DIRTY: Self = Self(uapi::PAGE_IS_SOFT_DIRTY as u64);
    /// A guard (MADV_GUARD_INSTALL); only kernels since 6.15 tell.
    pub const GUARD: Self = Self(uapi::PAGE_IS_GUARD as u64);

    const KNOWN_SINCE_6_7: Self = Self(0xff);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Neighbouring pages of the same categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// What they are.
    pub categories: Categories,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ScanEnd {
    /// The whole range was looked at.
    Complete,
    /// Everything before `at` was looked at; the mapping there is not registered.
    Unregistered {
        /// An address inside that mapping, the first one at or after the start of the range.
        at: u64,
    },
}

/// What one call is to do.
#[derive(Clone, Copy)]
struct Request {
    flags: u32,
    inverted: u64,
    mask: u64,
    any_of: u64,
    wanted: u64,
    max_pages: u64,
}

impl Request {
    const WRITTEN: Self = Self {
        flags: uapi::PM_SCAN_CHECK_WPASYNC,
        inverted: 0,
        mask: Categories::WRITTEN.0,
        any_of: 0,
        wanted: Categories::WRITTEN.0,
        max_pages: 0,
    };
    const WRITTEN_AND_PROTECT: Self = Self {
        flags: uapi::PM_SCAN_CHECK_WPASYNC | uapi::PM_SCAN_WP_MATCHING,
        ..Self::WRITTEN
    };
    const PROTECTED: Self = Self {
        flags: 0,
        inverted: Categories::WRITTEN.0,
        mask: Categories::WRITTEN.with(Categories::TRACKED).0,
        any_of: Categories::PRESENT.with(Categories::SWAPPED).0,
        wanted: Categories::TRACKED.0,
        max_pages: 0,
    };
    const POPULATED_AND_PROTECT: Self = Self {
        any_of: Categories::PRESENT.with(Categories::SWAPPED).0,
        ..Self::WRITTEN_AND_PROTECT
    };
}

const MISSING: Error = Error::Unsupported {
    what: "PAGEMAP_SCAN",
    advice: "use Linux 6.7 or later, built with CONFIG_PROC_PAGE_MONITOR",
};

/// PAGEMAP_SCAN over one process, with its buffer.
#[derive(Debug)]
pub struct Scanner {
    pid: u32,
    fd: OwnedFd,
    /// All zeroes between calls.
    buffer: Vec<uapi::page_region>,
    known: Categories,
    /// Instead, where the kernel has no PAGEMAP_SCAN.
    table: Option<Table>,
}

impl Scanner {
    /// Opens process `pid`. The scanner stays with the address space the process has now: after
    /// `exec` it must be opened anew.
    ///
    /// # Errors
    /// If the process is gone or not ours to look at, or the kernel has no PAGEMAP_SCAN.
    pub fn open(pid: u32) -> Result<Self> {
        let scanner = Self::for_classifying(pid)?;
        if scanner.table.is_some() {
            return Err(MISSING);
        }
        Ok(scanner)
    }

    /// As [`Scanner::open`]; but where the kernel has no PAGEMAP_SCAN, one that only classifies, and
    /// tells present, swapped and file pages alone: [`Scanner::known`].
    ///
    /// # Errors
    /// If the process is gone or not ours to look at.
    pub fn for_classifying(pid: u32) -> Result<Self> {
        match Self::open_scan(pid) {
            Err(Error::Unsupported { .. }) => Self::by_table(pid),
            opened => opened,
        }
    }

    /// One that classifies by the plain table whatever the kernel has.
    pub(super) fn by_table(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            fd: open(pid)?,
            buffer: Vec::new(),
            known: Table::KNOWN,
            table: Some(Table::open(pid)?),
        })
    }

    fn open_scan(pid: u32) -> Result<Self> {
        let mut scanner = Self {
            pid,
            fd: open(pid)?,
            buffer: vec![EMPTY; BUFFER],
            known: Categories::KNOWN_SINCE_6_7,
            table: None,
        };
        let nothing = |wanted: Categories| Request {
            flags: 0,
            inverted: 0,
            mask: 0,
            any_of: 0,
            wanted: wanted.0,
            max_pages: 0,
        };
        match scanner.call(0..0, nothing(scanner.known)).0 {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                return Err(MISSING);
            }
            Err(e) => return Err(scanner.error(e)),
        }
        let with_guard = scanner.known.with(Categories::GUARD);
        if scanner.call(0..0, nothing(with_guard)).0.is_ok() {
            scanner.known = with_guard;
        }
        Ok(scanner)
    }

    /// Categories that can be told here.
    pub fn known(&self) -> Categories {
        self.known
    }

    /// Appends to `out` the pages of `range` (page-aligned) written since they were last
    /// protected, and protects them. Neighbouring ranges are joined.
    ///
    /// Everything found is in `out` whatever the outcome, errors included: it has been protected
    /// and will not be found again. To go on after [`ScanEnd::Unregistered`], begin behind the
    /// mapping at that address.
    ///
    /// Pages that do not exist are reported once, and again when they ceased to exist
    /// (MADV_DONTNEED): they read as zeroes. Do not use it on large sparse mappings (see the head
    /// of this file). In shared mappings it sees only what this process does *through the mapping*:
    /// not its own `write` to the file, and no hole punched into it (MADV_REMOVE, fallocate,
    /// truncation). [`crate::files::Stamp`] shows that something happened to the file.
    ///
    /// # Errors
    /// If the kernel fails for another reason than an unregistered mapping.
    pub fn written_and_protect(
        &mut self,
        range: Range<u64>,
        out: &mut Vec<Range<u64>>,
    ) -> Result<ScanEnd> {
        self.scan_written(range, Request::WRITTEN_AND_PROTECT, out)
    }

    /// As [`Scanner::written_and_protect`], for pages that exist: it neither reports nor protects
    /// the rest, nor makes page tables for it. A new page is found, since it is not protected. A
    /// page that ceased to exist is not reported: compare with [`Scanner::holes`]. This is the
    /// kernel's slow path: 0.7 ms per GiB that exists when nothing was written, against 0.3, and
    /// half as much again at 10,000 dirty pages (measured); but quick over the void.
    ///
    /// # Errors
    /// As there.
    pub fn populated_and_protect(
        &mut self,
        range: Range<u64>,
        out: &mut Vec<Range<u64>>,
    ) -> Result<ScanEnd> {
        self.scan_written(range, Request::POPULATED_AND_PROTECT, out)
    }

    /// As [`Scanner::written_and_protect`], and protects nothing: the same pages are found again.
    ///
    /// # Errors
    /// As there.
    pub fn written(&mut self, range: Range<u64>, out: &mut Vec<Range<u64>>) -> Result<ScanEnd> {
        self.scan_written(range, Request::WRITTEN, out)
    }

    /// Appends to `out` the pages of `range` that are protected still: in a registered mapping,
    /// there (or a marker of a page that was not there when it was protected), and not written
    /// since. What is not in it was written, thrown away, unmapped, or replaced by other memory. The
    /// process may run. This is the kernel's slow path.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn protected(&mut self, range: Range<u64>, out: &mut Vec<Range<u64>>) -> Result<()> {
        self.scan_all(range, Request::PROTECTED, |region| {
            push(out, region.start..region.end);
        })
    }

    /// Appends to `out` all mapped pages of `range` with their categories, in runs. Unmapped
    /// addresses, and memory without page structures (PFNMAP), are left out. This is the kernel's
    /// slow path, for first copies and for deciding about large ranges.
    ///
    /// A page neither PRESENT nor SWAPPED has no page-table entry: anonymous memory reads as
    /// zeroes there, file memory as the file. After protecting, such a page is a marker and looks
    /// SWAPPED; so classify before protecting where that difference matters.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn classify(&mut self, range: Range<u64>, out: &mut Vec<Region>) -> Result<()> {
        let request = Request {
            flags: 0,
            inverted: 0,
            mask: 0,
            any_of: 0,
            wanted: self.known.0,
            max_pages: 0,
        };
        self.scan_regions(range, request, out)
    }

    /// As [`Scanner::classify`] for pages that have at least one of `any_of`.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn classify_any(
        &mut self,
        range: Range<u64>,
        any_of: Categories,
        out: &mut Vec<Region>,
    ) -> Result<()> {
        let request = Request {
            flags: 0,
            inverted: 0,
            mask: 0,
            any_of: any_of.0 & self.known.0,
            wanted: self.known.0,
            max_pages: 0,
        };
        self.scan_regions(range, request, out)
    }

    /// Appends to `out` the pages of `range` that do not exist: no page-table entry at all, not
    /// even a marker. Anonymous memory reads as zeroes there. A page once captured with other
    /// content that appears here was thrown away since (MADV_DONTNEED).
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn holes(&mut self, range: Range<u64>, out: &mut Vec<Range<u64>>) -> Result<()> {
        let absent = Categories::PRESENT.with(Categories::SWAPPED).0;
        let request = Request {
            flags: 0,
            inverted: absent,
            mask: absent,
            any_of: 0,
            wanted: Categories::TRACKED.0,
            max_pages: 0,
        };
        if let Some(table) = &mut self.table {
            return table.each(range, true, |region| {
                if region.categories.0 & absent == 0 {
                    push(out, region.start..region.end);
                }
            });
        }
        self.scan_all(range, request, |region| push(out, region.start..region.end))
    }

    fn scan_regions(
        &mut self,
        range: Range<u64>,
        request: Request,
        out: &mut Vec<Region>,
    ) -> Result<()> {
        let mut take = |next: Region| match out.last_mut() {
            Some(last) if last.end == next.start && last.categories == next.categories => {
                last.end = next.end;
            }
            _ => out.push(next),
        };
        if let Some(table) = &mut self.table {
            let any_of = Categories(request.any_of);
            let all = any_of == Categories::default();
            return table.each(range, all, |region| {
                if all || region.categories.intersects(any_of) {
                    take(region);
                }
            });
        }
        self.scan_all(range, request, |region| {
            take(Region {
                start: region.start,
                end: region.end,
                categories: Categories(region.categories),
            });
        })
    }

    /// Runs a request that cannot meet EPERM over the whole range.
    fn scan_all(
        &mut self,
        range: Range<u64>,
        request: Request,
        mut each: impl FnMut(&uapi::page_region),
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (result, walk_end) = self.call(at..range.end, request);
            let full = matches!(result, Ok(n) if n >= self.buffer.len());
            let reached = self.drain(&mut each);
            match result {
                Ok(_) if !full => return Ok(()),
                // Early stop: the buffer is full. The walk resumes behind what was returned.
                Ok(_) => at = walk_end.max(reached.unwrap_or(at)).max(at + PAGE),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    at = reached.unwrap_or(at);
                }
                Err(e) => return Err(self.error(e)),
            }
        }
        Ok(())
    }

    fn scan_written(
        &mut self,
        range: Range<u64>,
        request: Request,
        out: &mut Vec<Range<u64>>,
    ) -> Result<ScanEnd> {
        if self.table.is_some() {
            return Err(MISSING);
        }
        let mut at = range.start;
        // Where an unregistered mapping was met; the range is then first finished up to there, so
        // that "everything before `at`" holds even if the mappings change while we look.
        let mut end = range.end;
        let mut tries = 0;
        while at < end {
            let (result, walk_end) = self.call(at..end, request);
            let full = matches!(result, Ok(n) if n >= self.buffer.len());
            let reached = self.drain(|region| push(out, region.start..region.end));
            match result {
                Ok(_) if !full => break,
                Ok(_) => at = walk_end.max(reached.unwrap_or(at)).max(at + PAGE),
                Err(e) => {
                    // Found pages come in order of address, so all up to the last one is done.
                    at = reached.unwrap_or(at);
                    match e.raw_os_error() {
                        Some(libc::EINTR) => {}
                        Some(libc::EPERM) if tries < 16 => {
                            tries += 1;
                            end = self.first_unregistered(at..end)?.unwrap_or(end);
                        }
                        _ => return Err(self.error(e)),
                    }
                }
            }
        }
        if end < range.end {
            Ok(ScanEnd::Unregistered { at: end })
        } else {
            Ok(ScanEnd::Complete)
        }
    }

    /// The first address in `range` that belongs to a mapping not registered.
    fn first_unregistered(&mut self, range: Range<u64>) -> Result<Option<u64>> {
        let untracked = Request {
            flags: 0,
            inverted: Categories::TRACKED.0,
            mask: Categories::TRACKED.0,
            any_of: 0,
            wanted: Categories::TRACKED.0,
            max_pages: 1,
        };
        let (result, _) = self.call(range.clone(), untracked);
        let mut found = None;
        self.drain(|region| found = found.or(Some(region.start)));
        result.map_err(|e| self.error(e))?;
        // PFNMAP mappings fail the check but are left out of such a scan: one may lie before.
        let mut low = range.start;
        let mut high = found.unwrap_or(range.end);
        if !self.meets_unregistered(low..high)? {
            return Ok(found);
        }
        // Smallest `high` for which low..high meets one; the page before it is its first.
        let first = low;
        while high - low > PAGE {
            let middle = low + (high - low) / 2 / PAGE * PAGE;
            if self.meets_unregistered(first..middle)? {
                high = middle
            } else {
                low = middle
            }
        }
        Ok(Some(high - PAGE))
    }

    /// Whether a scan of `range` fails with EPERM. Changes nothing.
    fn meets_unregistered(&mut self, range: Range<u64>) -> Result<bool> {
        if range.is_empty() {
            return Ok(false);
        }
        // No page is both in memory and in swap, so no entry is ever returned.
        let impossible = Categories::PRESENT.with(Categories::SWAPPED).0;
        let request = Request {
            flags: uapi::PM_SCAN_CHECK_WPASYNC,
            inverted: 0,
            mask: impossible,
            any_of: 0,
            wanted: impossible,
            max_pages: 0,
        };
        let (result, _) = self.call(range, request);
        self.drain(|_| {});
        match result {
            Ok(_) => Ok(false),
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => Ok(true),
            Err(e) => Err(self.error(e)),
        }
    }

    /// Hands the buffer's entries to `each` and zeroes them. Gives the end of the last one.
    fn drain(&mut self, mut each: impl FnMut(&uapi::page_region)) -> Option<u64> {
        let mut reached = None;
        for region in &mut self.buffer {
            if region.end == 0 {
                break;
            }
            each(region);
            reached = Some(region.end);
            *region = EMPTY;
        }
        reached
    }

    /// One call. Gives the number of entries filled, and `walk_end`.
    fn call(&mut self, range: Range<u64>, request: Request) -> (io::Result<usize>, u64) {
        let mut arg = uapi::pm_scan_arg {
            size: size_of::<uapi::pm_scan_arg>() as u64,
            flags: u64::from(request.flags),
            start: range.start,
            end: range.end,
            walk_end: 0,
            vec: self.buffer.as_mut_ptr().expose_provenance() as u64,
            vec_len: self.buffer.len() as u64,
            max_pages: request.max_pages,
            category_inverted: request.inverted,
            category_mask: request.mask,
            category_anyof_mask: request.any_of,
            return_mask: request.wanted,
        };
        // SAFETY: PAGEMAP_SCAN reads and writes one `pm_scan_arg` of the size it states, which
        // `arg` is, and writes at most `vec_len` entries at `vec`, which is the buffer, borrowed
        // mutably for the call; any bits are a valid `page_region`. Protecting pages does not
        // change what loads and stores do.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        match usize::try_from(done) {
            Ok(n) => (Ok(n), arg.walk_end),
            Err(_) => (Err(io::Error::last_os_error()), arg.walk_end),
        }
    }

    fn error(&self, e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(libc::ESRCH) => Error::ProcessGone(self.pid),
            _ => Error::syscall("PAGEMAP_SCAN", Target::Process(self.pid), e),
        }
    }
}

fn open(pid: u32) -> Result<OwnedFd> {
    std::fs::File::open(format!("/proc/{pid}/pagemap"))
        .map(Into::into)
        .map_err(|e| Error::syscall("open pagemap", Target::Process(pid), e))
}

/// Appends a range, joined with the last one if they touch.
fn push(out: &mut Vec<Range<u64>>, next: Range<u64>) {
    match out.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => out.push(next),
    }
}
