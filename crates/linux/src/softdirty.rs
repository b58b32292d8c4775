//! Which pages were written, by soft-dirty bits: for kernels without asynchronous write protection
//! (before Linux 6.7).
//!
//! Writing `4` to /proc/PID/clear_refs clears a bit on every page of the process and write-protects
//! it; the first write to a page faults and sets the bit, which /proc/PID/pagemap shows as bit 55
//! (Documentation/admin-guide/mm/soft-dirty.rst). What shapes this file:
//!
//! - Clearing knows no ranges: it is for the whole process, and every page written since faults
//!   once more. So everything of interest is looked at first, then cleared once, all in one stop.
//!   If we fail in between nothing is lost: the bits are still there.
//! - A mapping that is new, moved or grown has the flag VM_SOFTDIRTY, and all its addresses show the
//!   bit until the next clearing, those without a page too. Mappings that the kernel merges with
//!   such a one show it as well: too many pages are reported then, never too few.
//! - In swap the bit is kept, and set again when a page is brought back by a write.
//! - A page thrown away (MADV_DONTNEED) has no bit, and if only read afterwards it is the shared page
//!   of zeroes, or the file's, still without the bit. Its content has changed all the same. So we
//!   remember which pages were the process's own, and report those that are not any more; and
//!   every page that may be the one of zeroes is reported always. That is told by not being mapped
//!   exclusively (bit 56), which is so after `fork` as well: as long as the child lives, pages
//!   shared with it are reported at every look.
//! - Pages pinned for the long term are not cleared, and so are always reported. Huge pages of
//!   hugetlbfs are neither cleared nor reported: **they must be copied at every boundary**. A
//!   transparent huge page is reported whole. In shared memory only this process's own writes are
//!   seen.
//! - Pages copied while the process runs may be gone at the next look without having been the
//!   process's own at any look: written, copied, thrown away. Whoever copies so must say so
//!   ([`SoftDirty::copied`]); such pages are then reported as if they had been its own.
//! - It costs by what is mapped: eight bytes are read for each page of the ranges, whether there is
//!   a page or not. Reserved memory without content should not be asked about.
//!
//! Nobody but us may clear the bits while we track; CRIU and other users of clear_refs do. There is
//! nothing in the kernel by which that could be noticed.

use crate::error::{Error, Result, Target};
use crate::pagemap::{Entries, Entry};
use crate::proc::smaps::{Smaps, SmapsEntry};
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Write};
use std::ops::Range;
use stillframe_image::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages whose entries are read at once: half a megabyte of entries.
const CHUNK: u64 = 65_536 * PAGE;

/// Where the bits come from: the kernel, or a fake in tests.
pub trait Source {
    /// Replaces what is in `out` by the entries of all pages of `range`, fewer if the address space
    /// ends before.
    ///
    /// # Errors
    /// If reading fails.
    fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()>;

    /// Clears all bits of the process.
    ///
    /// # Errors
    /// If the kernel refuses; the bits are then unchanged.
    fn clear(&mut self) -> Result<()>;

    /// The mappings and what is in them.
    ///
    /// # Errors
    /// If reading fails.
    fn smaps(&mut self) -> Result<Vec<SmapsEntry>>;
}

/// The bits of a process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    entries: Entries,
    clear_refs: File,
    smaps: Smaps,
}

impl Process {
    /// Opens process `pid`.
    ///
    /// # Errors
    /// If it is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        let clear_refs = OpenOptions::new()
            .write(true)
            .open(format!("/proc/{pid}/clear_refs"))
            .map_err(|e| Error::syscall("open clear_refs", Target::Process(pid), e))?;
        Ok(Self {
            pid,
            entries: Entries::open(pid)?,
            clear_refs,
            smaps: Smaps::open(pid)?,
        })
    }
}

impl Source for Process {
    fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        self.entries.read(range, out)
    }

    fn clear(&mut self) -> Result<()> {
        loop {
            match self.clear_refs.write_all(b"4") {
                Ok(()) => return Ok(()),
                // Waiting for the lock of the address space was interrupted by a signal to us.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                    return Err(Error::ProcessGone(self.pid));
                }
                Err(e) => {
                    return Err(Error::syscall(
                        "write clear_refs",
                        Target::Process(self.pid),
                        e,
                    ));
                }
            }
        }
    }

    fn smaps(&mut self) -> Result<Vec<SmapsEntry>> {
        self.smaps.read()
    }
}

/// Finds written pages by their soft-dirty bits.
#[derive(Debug)]
pub struct SoftDirty<S = Process> {
    source: S,
    entries: Vec<Entry>,
    /// Pages that were the process's own at the last look, ascending.
    held: Vec<Range<u64>>,
    holding: Vec<Range<u64>>,
    /// Pages copied since, in the order they came.
    copied: Vec<Range<u64>>,
    /// Whether that is not ascending.
    mixed: bool,
}

impl SoftDirty {
    /// For process `pid`, which has the address space that it has now: after `exec`, open it anew.
    ///
    /// # Errors
    /// If it is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        Ok(Self::new(Process::open(pid)?))
    }

    /// Finds out whether this kernel has soft-dirty bits, as [`SoftDirty::supported`].
    ///
    /// # Errors
    /// If it has none, or if our own /proc files cannot be used.
    pub fn require() -> Result<()> {
        if Self::supported()? {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: "soft-dirty bits",
            advice: "use a kernel built with CONFIG_MEM_SOFT_DIRTY",
        })
    }

    /// Whether this kernel has soft-dirty bits: clears our own, writes to a page, and looks. Every
    /// page of ours faults once more for it.
    ///
    /// # Errors
    /// If our own /proc files cannot be used.
    pub fn supported() -> Result<bool> {
        // Room for one whole page that is nobody else's.
        let mut room = vec![1_u8; 2 * PAGE_SIZE];
        let skip = room.as_ptr().align_offset(PAGE_SIZE).min(PAGE_SIZE);
        let start = room[skip..].as_ptr().addr() as u64;
        let mut source = Process::open(std::process::id())?;
        probe(&mut source, start..start + PAGE, || {
            let byte = black_box(&mut room[skip]);
            *byte = byte.wrapping_add(1);
            black_box(&mut room);
        })
    }
}

/// Whether writing sets the bit, and clearing clears it. Some kernels without the bits show them
/// always set, others never.
fn probe(source: &mut impl Source, page: Range<u64>, mut write: impl FnMut()) -> Result<bool> {
    let mut entries = Vec::new();
    write();
    source.clear()?;
    source.entries(page.clone(), &mut entries)?;
    let cleared = entries.first().is_some_and(|e| !e.soft_dirty());
    write();
    source.entries(page, &mut entries)?;
    let set = entries.first().is_some_and(|e| e.soft_dirty());
    Ok(cleared && set)
}

impl<S: Source> SoftDirty<S> {
    /// Over a source of bits.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            entries: Vec::new(),
            held: Vec::new(),
            holding: Vec::new(),
            copied: Vec::new(),
            mixed: false,
        }
    }

    /// Appends to `out` the pages of `ranges` written since the last call, then clears the bits of
    /// the whole process. The target must be stopped. `ranges`: page-aligned, ascending, disjoint,
    /// and all that is tracked, for what is not asked about now is cleared too and not found again.
    /// Neighbouring pages in `out` are joined.
    ///
    /// At the first call every page that exists is reported. Pages that do not exist are not,
    /// unless they did at the last call and were the process's own: they read as zeroes now, or as
    /// their file.
    ///
    /// # Errors
    /// If reading or clearing fails. What `out` got may not be all; nothing was cleared, so all of it
    /// will be found again.
    pub fn written_and_clear(
        &mut self,
        ranges: &[Range<u64>],
        out: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        self.holding.clear();
        self.look(ranges, true, out)?;
        self.source.clear()?;
        std::mem::swap(&mut self.held, &mut self.holding);
        self.copied.clear();
        self.mixed = false;
        Ok(())
    }

    /// Appends to `out` the pages of `ranges` (page-aligned, ascending, disjoint) of which it is not
    /// sure that they are what they were at the last [`SoftDirty::written_and_clear`]: written
    /// since, of a mapping made since, thrown away or unmapped since, or perhaps the page of zeroes.
    /// Changes nothing; the target may run.
    ///
    /// Pages that had nothing of their own then, have nothing now and were not copied are left out.
    ///
    /// # Errors
    /// If reading fails.
    pub fn written(&mut self, ranges: &[Range<u64>], out: &mut Vec<Range<u64>>) -> Result<()> {
        self.look(ranges, false, out)
    }

    /// These pages (page-aligned, ascending, disjoint) were copied while the target ran. To be
    /// said before [`SoftDirty::written`] is asked about them.
    pub fn copied(&mut self, ranges: &[Range<u64>]) {
        for range in ranges {
            let last = self.copied.last().map_or(0, |r| r.end);
            self.mixed |= range.start < last;
            push(&mut self.copied, range.clone());
        }
    }

    /// Whether any page of `range` (page-aligned) exists.
    ///
    /// # Errors
    /// If reading fails.
    pub fn has_content(&mut self, range: Range<u64>) -> Result<bool> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(CHUNK));
            self.source.entries(at..end, &mut self.entries)?;
            if self.entries.iter().any(|e| e.present() || e.swapped()) {
                return Ok(true);
            }
            at = end;
        }
        Ok(false)
    }

    /// The mappings and what is in them. The kernel walks all of the process for it.
    ///
    /// # Errors
    /// If reading fails.
    pub fn smaps(&mut self) -> Result<Vec<SmapsEntry>> {
        self.source.smaps()
    }

    /// Judges each page. `stopped`: it is a look at a stopped target, and what is its own now is
    /// to be known at the next; else it is compared with the last such look.
    fn look(
        &mut self,
        ranges: &[Range<u64>],
        stopped: bool,
        out: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        if std::mem::take(&mut self.mixed) {
            self.copied.sort_unstable_by_key(|r| (r.start, r.end));
            self.copied.dedup_by(|next, last| {
                let touch = next.start <= last.end;
                if touch {
                    last.end = last.end.max(next.end);
                }
                touch
            });
        }
        for range in ranges {
            let mut held = Cursor::new(&self.held, range.start);
            let mut copied = Cursor::new(&self.copied, range.start);
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(CHUNK));
                self.source.entries(at..end, &mut self.entries)?;
                let mut page = at;
                // Where the address space ends, so do the entries.
                let missing = (end - at).div_ceil(PAGE) as usize - self.entries.len();
                let absent = std::iter::repeat_n(Entry::default(), missing);
                for entry in self.entries.iter().copied().chain(absent) {
                    let exists = entry.present() || entry.swapped();
                    let own = entry.swapped() || (entry.present() && !entry.file_or_shared());
                    if own && stopped {
                        push(&mut self.holding, page..page + PAGE);
                    }
                    // Without a page the bit means a new mapping. A look finds out about that by
                    // what is missing; but what was decided about a running target must not
                    // stand if it is another mapping now.
                    let marked = entry.soft_dirty() && (exists || !stopped);
                    let unclear = own && !entry.swapped() && !entry.exclusive();
                    let had = held.holds(page) | copied.holds(page);
                    if marked || unclear || (had && !own) {
                        push(out, page..page + PAGE);
                    }
                    page += PAGE;
                }
                at = end;
            }
        }
        Ok(())
    }
}

/// Goes along a list of ranges with ascending pages.
struct Cursor<'a> {
    rest: &'a [Range<u64>],
}

impl<'a> Cursor<'a> {
    fn new(ranges: &'a [Range<u64>], from: u64) -> Self {
        let first = ranges.partition_point(|r| r.end <= from);
        Self {
            rest: &ranges[first..],
        }
    }

    fn holds(&mut self, page: u64) -> bool {
        while let [first, rest @ ..] = self.rest
            && first.end <= page
        {
            self.rest = rest;
        }
        self.rest.first().is_some_and(|r| r.start <= page)
    }
}

/// Appends a range, joined with the last one if they touch.
fn push(out: &mut Vec<Range<u64>>, next: Range<u64>) {
    match out.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => out.push(next),
    }
}

#[cfg(test)]
#[path = "softdirty_tests.rs"]
mod tests;
