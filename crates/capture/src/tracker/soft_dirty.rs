//! For kernels without asynchronous write protection, before Linux 6.7: soft-dirty bits.
//!
//! The bits themselves, and all that is awkward about them, are in [`stillframe_linux::softdirty`].
//! What makes this tracker unlike the others:
//!
//! - There is nothing to register, so new memory shows nowhere but in the mappings. Where a mapping
//!   was replaced by one that looks the same, the kernel marks the new one as a whole; what had
//!   content and has none is found by being missing. So all that had content counts as written, and
//!   what of it is gone is recorded as zeroes; no generation is begun, for none is needed.
//! - Neighbouring mappings are merged by the kernel as they always were, and stay known.
//! - Clearing is for all pages, those that the caller wants left alone included. Those cost their
//!   fault like all others; what is remembered is that they were written, to be told when they are
//!   no longer left alone.
//! - A page that may be the shared page of zeroes is written as far as anybody can tell, at every
//!   look and every check. Reading what does not exist makes such pages: see
//!   [`Tracker::look_before_copying`].

use super::{Found, Refused, Tracker};
use crate::layout::{Layout, Tracking};
use crate::ranges::{divide, intersect, join, push};
use std::fmt::Debug;
use std::ops::Range;
use stillframe_image::{CheckpointId, MappingKind};
use stillframe_linux::Result;
use stillframe_linux::pagemap::Scanner;
use stillframe_linux::proc::smaps::VmFlags;
use stillframe_linux::softdirty::{Process, SoftDirty, Source};

/// Reserved addresses up to this many bytes are looked through page by page for content; of more
/// the kernel is asked for a sum of each mapping, which takes as long as what exists is large.
const RESERVED_LOOK: u64 = 1 << 30;

/// Soft-dirty bits over one address space.
#[derive(Debug)]
pub struct SoftDirtyBits<S = Process> {
    bits: SoftDirty<S>,
    scanner: Scanner,
    tracked: Vec<Range<u64>>,
    /// Tracked since the last look: all of it counts as written.
    fresh: Vec<Range<u64>>,
    /// Written, not told yet because the caller wanted it left alone.
    owed: Vec<Range<u64>>,
    looked: Vec<Range<u64>>,
}

impl<S: Source> SoftDirtyBits<S> {
    /// Over the bits of a process, and a scanner for classifying its pages.
    pub const fn new(bits: SoftDirty<S>, scanner: Scanner) -> Self {
        Self {
            bits,
            scanner,
            tracked: Vec::new(),
            fresh: Vec::new(),
            owed: Vec::new(),
            looked: Vec::new(),
        }
    }

    /// Reserved memory that has got content.
    fn filled(&mut self, layout: &Layout) -> Result<Vec<Range<u64>>> {
        let reserved: Vec<_> = layout
            .extents()
            .iter()
            .filter(|e| e.tracking == Tracking::Reserved)
            .map(|e| e.range())
            .collect();
        let mut filled = Vec::new();
        if reserved.iter().map(|r| r.end - r.start).sum::<u64>() <= RESERVED_LOOK {
            for range in reserved {
                if self.bits.has_content(range.clone())? {
                    filled.push(range);
                }
            }
            return Ok(filled);
        }
        for entry in self.bits.smaps()? {
            let mapping = entry.mapping;
            if entry.resident > 0 || entry.swapped > 0 {
                filled.extend(intersect(mapping.start..mapping.end, &reserved));
            }
        }
        Ok(filled)
    }

    /// Of `pending`, what is made of hugetlb pages, which have no such bits.
    fn huge(&mut self, pending: &[Range<u64>], layout: &Layout) -> Result<Vec<Range<u64>>> {
        let may_be = |range: &Range<u64>| {
            let mapping = layout.mapping_at(range.start);
            mapping.is_some_and(|m| m.kind == MappingKind::Huge || m.inode != 0)
        };
        let mut huge = Vec::new();
        if pending.iter().any(may_be) {
            for entry in self.bits.smaps()? {
                if entry.flags.contains(VmFlags::HUGETLB) {
                    push(&mut huge, entry.mapping.start..entry.mapping.end);
                }
            }
        }
        Ok(huge)
    }
}

impl<S: Source + Debug> Tracker for SoftDirtyBits<S> {
    fn register_pending(&mut self, layout: &mut Layout) -> Result<Refused> {
        let mut pending: Vec<_> = layout
            .extents()
            .iter()
            .filter(|e| e.tracking == Tracking::Pending)
            .map(|e| e.range())
            .collect();
        pending.extend(self.filled(layout)?);
        join(&mut pending);
        let huge = self.huge(&pending, layout)?;
        let (mut copied, mut tracked) = (Vec::new(), Vec::new());
        divide(&pending, &huge, &mut copied, &mut tracked);
        for range in tracked {
            layout.track(range.clone(), &Tracking::Tracked);
            self.fresh.push(range);
        }
        let mut refused = Refused::new();
        for range in copied {
            layout.track(range.clone(), &Tracking::Copied);
            refused.push((range, "soft-dirty bits do not cover huge pages (hugetlb)"));
        }
        Ok(refused)
    }

    fn find(
        &mut self,
        layout: &mut Layout,
        skip: &[Range<u64>],
        _now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        found.dirty.clear();
        found.renewed.clear();
        // Only what is tracked: the void between mappings costs as much to look at as memory.
        self.tracked.clear();
        for extent in layout.extents() {
            if extent.tracking == Tracking::Tracked {
                push(&mut self.tracked, extent.range());
            }
        }
        self.looked.clear();
        self.bits
            .written_and_clear(&self.tracked, &mut self.looked)?;
        self.looked.append(&mut self.fresh);
        for owed in self.owed.drain(..) {
            self.looked.extend(intersect(owed, &self.tracked));
        }
        join(&mut self.looked);
        divide(&self.looked, skip, &mut self.owed, &mut found.dirty);
        Ok(())
    }

    fn check(&mut self, ranges: &[Range<u64>], written: &mut Vec<Range<u64>>) -> Result<()> {
        self.bits.written(ranges, written)
    }

    fn copied(&mut self, ranges: &[Range<u64>]) {
        self.bits.copied(ranges);
    }

    fn grows_with_its_mapping(&self) -> bool {
        true
    }

    fn look_before_copying(&self) -> bool {
        true
    }

    fn scanner(&mut self) -> &mut Scanner {
        &mut self.scanner
    }
}

#[cfg(test)]
#[path = "soft_dirty_tests.rs"]
mod tests;
