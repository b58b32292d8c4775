//! From "written" to what must be copied.
//!
//! The tracker's answer is coarse on purpose: pages that do not exist count as written (once), and
//! so do pages of files that were only read. Copying those would make the target's memory grow and
//! the recording with it, so large or file-backed ranges are looked at more closely first; small
//! anonymous ones, by far the most frequent, are not worth the look.

use crate::layout::{Layout, Tracking};
use crate::populated::Populated;
use crate::ranges::{append, pages};
use std::ops::Range;
use stillframe_image::{Coverage, Mapping, MappingKind, PAGE_SIZE, PageNumber};
use stillframe_linux::Result;
use stillframe_linux::pagemap::{Categories, Region, Scanner};

/// Anonymous ranges up to this many pages are copied without a look.
const SMALL: u64 = 8;

/// What to do about a set of written pages.
#[derive(Debug, Default)]
pub struct Plan {
    /// Readable pages to copy.
    pub copy: Vec<Range<u64>>,
    /// Pages of mappings without PROT_READ, to copy by force.
    pub force: Vec<Range<u64>>,
    /// Pages that had content and have none now.
    pub zeros: Vec<PageNumber>,
    regions: Vec<Region>,
    scratch: Vec<PageNumber>,
}

/// Facts about the target that planning needs.
pub struct Facts<'a> {
    /// Mappings and how they are tracked.
    pub layout: &'a Layout,
    /// Whether any page of the target is in swap; asked at most once, when it matters.
    pub swapping: &'a mut dyn FnMut() -> bool,
    /// Whether pages of this private file mapping must be copied even if clean, because the file
    /// cannot be read.
    pub by_value: &'a dyn Fn(&Mapping) -> bool,
    /// The addresses of a shared mapping that have content.
    pub content: &'a dyn Fn(&Mapping) -> Vec<Range<u64>>,
    /// Whether no page may be copied without a look whether it exists.
    pub look: bool,
}

impl Plan {
    /// Empties it, but for pages without content: they are found once, and stay until they are
    /// taken, whatever becomes of the look that found them.
    pub fn clear(&mut self) {
        self.copy.clear();
        self.force.clear();
    }

    /// Pages to copy.
    pub fn pages(&self) -> u64 {
        pages(&self.copy) + pages(&self.force)
    }

    /// Adds pages that are copied without asking: hot ones, whose state is not known.
    pub fn add_hot(&mut self, hot: &[Range<u64>], mappings: &[Mapping]) {
        for range in hot {
            let first = mappings.partition_point(|m| m.end <= range.start);
            for mapping in mappings[first..]
                .iter()
                .take_while(|m| m.start < range.end)
                .filter(|m| !matches!(m.coverage, Coverage::Omitted(_)))
            {
                let piece = range.start.max(mapping.start)..range.end.min(mapping.end);
                self.take(piece, mapping);
            }
        }
    }

    /// Adds tracked pages that were written.
    ///
    /// # Errors
    /// If the kernel fails to classify them.
    pub fn add_dirty(
        &mut self,
        dirty: &[Range<u64>],
        facts: &mut Facts<'_>,
        populated: &mut Populated,
        scanner: &mut Scanner,
    ) -> Result<()> {
        let mappings = facts.layout.mappings();
        for range in dirty {
            let first = mappings.partition_point(|m| m.end <= range.start);
            for mapping in mappings[first..].iter().take_while(|m| m.start < range.end) {
                let piece = range.start.max(mapping.start)..range.end.min(mapping.end);
                self.add_piece(piece, mapping, facts, populated, scanner)?;
            }
        }
        Ok(())
    }

    fn add_piece(
        &mut self,
        piece: Range<u64>,
        mapping: &Mapping,
        facts: &mut Facts<'_>,
        populated: &mut Populated,
        scanner: &mut Scanner,
    ) -> Result<()> {
        if matches!(mapping.coverage, Coverage::Omitted(_)) {
            return Ok(());
        }
        let file = mapping.inode != 0 && mapping.kind == MappingKind::File;
        let small = (piece.end - piece.start) / PAGE_SIZE as u64 <= SMALL && !facts.look;
        if (small && !file)
            || mapping.kind == MappingKind::Huge
            || (file && (facts.by_value)(mapping))
        {
            self.take(piece, mapping);
            return Ok(());
        }
        let mut regions = std::mem::take(&mut self.regions);
        regions.clear();
        let interesting = Categories::PRESENT.with(Categories::SWAPPED);
        scanner.classify_any(piece.clone(), interesting, &mut regions)?;
        let mut at = piece.start;
        for region in &regions {
            let own = if region.categories.contains(Categories::PRESENT) {
                // A page of the file in a private mapping has not been written.
                !(region.categories.contains(Categories::FILE)
                    || region.categories.contains(Categories::ZERO))
            } else {
                // Protecting leaves a marker that looks like swap where there is no page.
                (facts.swapping)()
            };
            if own {
                self.leave(at..region.start, mapping, file, populated);
                self.take(region.start..region.end, mapping);
                at = region.end;
            }
        }
        self.leave(at..piece.end, mapping, file, populated);
        self.regions = regions;
        Ok(())
    }

    /// Pages without content of their own: those that had some must be recorded as what they are
    /// now, zero or the file's bytes.
    fn leave(
        &mut self,
        range: Range<u64>,
        mapping: &Mapping,
        file: bool,
        populated: &mut Populated,
    ) {
        if range.is_empty() {
            return;
        }
        if !file {
            populated.drain_range(range, &mut self.zeros);
            return;
        }
        let mut had = std::mem::take(&mut self.scratch);
        had.clear();
        populated.collect_range(range, &mut had);
        for page in &had {
            self.take(page.address()..page.address() + PAGE_SIZE as u64, mapping);
        }
        self.scratch = had;
    }

    /// Adds all pages of memory that is copied at every boundary. Returns their number.
    ///
    /// # Errors
    /// If the kernel fails to classify private memory.
    pub fn add_untracked(
        &mut self,
        facts: &mut Facts<'_>,
        populated: &mut Populated,
        scanner: &mut Scanner,
    ) -> Result<u64> {
        let before = self.pages();
        for extent in facts
            .layout
            .extents()
            .iter()
            .filter(|e| e.tracking == Tracking::Copied)
        {
            let Some(mapping) = facts.layout.mapping_at(extent.start) else {
                continue;
            };
            if mapping.kind == MappingKind::Vdso {
                self.take(extent.range(), mapping);
            } else if mapping.shared {
                let mut at = extent.start;
                for content in (facts.content)(mapping) {
                    let piece = content.start.max(at)..content.end.min(extent.end);
                    if piece.is_empty() {
                        continue;
                    }
                    self.leave(at..piece.start, mapping, false, populated);
                    at = piece.end;
                    self.take(piece, mapping);
                }
                self.leave(at..extent.end, mapping, false, populated);
            } else {
                // Private memory that the tracker refused.
                let large = extent.start..extent.end;
                self.add_piece(large, mapping, facts, populated, scanner)?;
            }
        }
        Ok(self.pages() - before)
    }

    fn take(&mut self, range: Range<u64>, mapping: &Mapping) {
        let list = if mapping.read {
            &mut self.copy
        } else {
            &mut self.force
        };
        append(list, range);
    }
}
