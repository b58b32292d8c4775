//! Classifying pages without PAGEMAP_SCAN: from the plain table, for kernels before Linux 6.7.
//!
//! It says less. The shared page of zeroes is a page like any other: such pages are copied where the
//! scan would spare them, a microsecond each, and stored as what they are. Whether a page is huge,
//! a guard or tracked it does not say either, and of the huge page of zeroes newer kernels say here
//! that it is a file's: not the process's own, at any rate. Memory without page structures (PFNMAP), which a scan
//! leaves out, looks like memory without content. And it costs eight bytes for each page of
//! address, whether there is a page or not.

use super::entries::{Entries, Entry};
use super::scan::{Categories, Region};
use crate::error::{Error, Result};
use crate::proc::maps::{Maps, MapsChange};
use std::ops::Range;
use stillframe_image::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages whose entries are read at once: half a megabyte of entries.
const CHUNK: u64 = 65_536 * PAGE;

/// The table of one process, and what is mapped.
#[derive(Debug)]
pub(super) struct Table {
    pid: u32,
    entries: Entries,
    maps: Maps,
    read: Vec<Entry>,
}

impl Table {
    /// What it can tell.
    pub(super) const KNOWN: Categories = Categories::PRESENT
        .with(Categories::SWAPPED)
        .with(Categories::FILE);

    /// Opens process `pid`.
    pub(super) fn open(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            entries: Entries::open(pid)?,
            maps: Maps::open(pid)?,
            read: Vec::new(),
        })
    }

    /// Shows the pages of `range` in runs of the same categories. Those without a page are shown
    /// if they are mapped and `all`.
    pub(super) fn each(
        &mut self,
        range: Range<u64>,
        all: bool,
        mut show: impl FnMut(Region),
    ) -> Result<()> {
        if !all {
            return self.run(range, |region| {
                if region.categories != Categories::default() {
                    show(region);
                }
            });
        }
        if self.maps.refresh()? == MapsChange::Gone {
            return Err(Error::ProcessGone(self.pid));
        }
        let mut index = self
            .maps
            .entries()
            .partition_point(|m| m.end <= range.start);
        while let Some(mapping) = self.maps.entries().get(index) {
            let piece = mapping.start.max(range.start)..mapping.end.min(range.end);
            if piece.is_empty() {
                break;
            }
            self.run(piece, &mut show)?;
            index += 1;
        }
        Ok(())
    }

    fn run(&mut self, range: Range<u64>, mut show: impl FnMut(Region)) -> Result<()> {
        let mut run: Option<Region> = None;
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(CHUNK));
            self.entries.read(at..end, &mut self.read)?;
            let missing = ((end - at).div_ceil(PAGE) as usize).saturating_sub(self.read.len());
            let absent = std::iter::repeat_n(Entry::default(), missing);
            for entry in self.read.iter().copied().chain(absent) {
                let categories = categories(entry);
                match &mut run {
                    Some(run) if run.categories == categories => run.end = at + PAGE,
                    _ => {
                        let next = Region {
                            start: at,
                            end: at + PAGE,
                            categories,
                        };
                        if let Some(last) = run.replace(next) {
                            show(last);
                        }
                    }
                }
                at += PAGE;
            }
        }
        run.into_iter().for_each(show);
        Ok(())
    }
}

const fn categories(entry: Entry) -> Categories {
    let mut categories = Categories(0);
    if entry.present() {
        categories = categories.with(Categories::PRESENT);
    }
    if entry.swapped() {
        categories = categories.with(Categories::SWAPPED);
    }
    if entry.file_or_shared() {
        categories = categories.with(Categories::FILE);
    }
    categories
}
