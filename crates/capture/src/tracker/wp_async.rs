//! The default tracker: the target's own userfaultfd with asynchronous write protection.
//!
//! The kernel marks a protected page at its first write, without waking anybody, and PAGEMAP_SCAN
//! gives the marked pages and protects them again in one pass. When the last copy of the
//! descriptor closes, ours, the kernel drops all protection: dying leaves nothing behind.
//!
//! Protecting is for stopped targets only: with running threads each touched page table costs an
//! interrupt to every processor.

use super::{Found, Refused, Tracker, next_run};
use crate::layout::{Layout, Tracking};
use crate::ranges::{Pieces, join, push, take_near};
use std::ops::Range;
use stillframe_image::{CheckpointId, PAGE_SIZE};
use stillframe_linux::Result;
use stillframe_linux::pagemap::{Categories, Region, ScanEnd, Scanner};
use stillframe_linux::uffd::{Registration, Userfaultfd};

/// Gaps up to this long are read over in a check: looking at the entries of 2 MiB costs about as
/// much as another call.
const BRIDGE: u64 = 2 << 20;

/// Candidates this far apart are looked at in one call: two hundred clean entries cost less than a
/// call.
const NEAR: u64 = 256 * PAGE_SIZE as u64;

/// Asynchronous write protection over one address space.
#[derive(Debug)]
pub struct WpAsync {
    uffd: Userfaultfd,
    scanner: Scanner,
    regions: Vec<Region>,
    /// Registered since the last look: all of it counts as written.
    fresh: Vec<Range<u64>>,
    /// What a check found.
    looked: Vec<Range<u64>>,
}

impl WpAsync {
    /// Takes over the target's userfaultfd.
    pub const fn new(uffd: Userfaultfd, scanner: Scanner) -> Self {
        Self {
            uffd,
            scanner,
            regions: Vec::new(),
            fresh: Vec::new(),
            looked: Vec::new(),
        }
    }

    /// Registers a range without any protection.
    ///
    /// Moved memory loses its registration but may keep the protection marks on its pages. As long
    /// as it is not registered the kernel ignores them, and `mprotect` makes such a page writable
    /// and leaves the mark; registered again, the page would count as protected and its writes
    /// would go unseen. So the marks are cleared first.
    fn register(&self, range: Range<u64>) -> Result<Registration> {
        let outcome = self.uffd.register(range.clone())?;
        if outcome == Registration::Registered {
            self.uffd.write_protect(range, false)?;
        }
        Ok(outcome)
    }

    fn has_content(&mut self, range: Range<u64>) -> Result<bool> {
        self.regions.clear();
        self.scanner.classify_any(
            range,
            Categories::PRESENT.with(Categories::SWAPPED),
            &mut self.regions,
        )?;
        Ok(!self.regions.is_empty())
    }

    /// Finds and protects what was written in a piece of `run` without skipped pages.
    fn find_piece(
        &mut self,
        piece: Range<u64>,
        run: &Range<u64>,
        layout: &mut Layout,
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        let mut at = piece.start;
        while at < piece.end {
            match self
                .scanner
                .written_and_protect(at..piece.end, &mut found.dirty)?
            {
                ScanEnd::Complete => break,
                ScanEnd::Unregistered { at: address } => {
                    let Some(mapping) = layout.mapping_at(address) else {
                        // Nothing is known to be there; go on behind it.
                        at = address + PAGE_SIZE as u64;
                        continue;
                    };
                    let mapping = mapping.start.max(run.start)..mapping.end.min(run.end);
                    layout.renew(mapping.clone(), now);
                    found.renewed.push(mapping.clone());
                    let registered = self.register(mapping.clone())?;
                    if registered == Registration::Registered {
                        layout.track(mapping.clone(), &Tracking::Tracked);
                        at = mapping.start.max(piece.start);
                        self.fresh.push(mapping);
                    } else {
                        layout.track(mapping.clone(), &Tracking::Copied);
                        at = mapping.end;
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Tracker::find`], looking only at `candidates` (ascending, disjoint) and pages near them.
    pub fn find_among(
        &mut self,
        candidates: &[Range<u64>],
        layout: &mut Layout,
        skip: &[Range<u64>],
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        found.dirty.clear();
        found.renewed.clear();
        let mut rest = candidates;
        let mut from = 0;
        while let Some(run) = next_run(layout, from) {
            from = run.end;
            let first = rest.partition_point(|c| c.end <= run.start);
            rest = &rest[first..];
            let within = rest.partition_point(|c| c.start < run.end);
            let mut here = &rest[..within];
            while let Some(group) = take_near(&mut here, NEAR) {
                let last = &group[group.len() - 1];
                let piece = group[0].start.max(run.start)..last.end.min(run.end);
                for piece in Pieces::outside(piece, skip) {
                    self.find_piece(piece, &run, layout, now, found)?;
                }
            }
        }
        self.add_fresh(found);
        Ok(())
    }

    /// Whether memory was registered since the last look.
    pub const fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    fn add_fresh(&mut self, found: &mut Found) {
        if !self.fresh.is_empty() {
            found.dirty.append(&mut self.fresh);
            join(&mut found.dirty);
        }
    }
}

impl Tracker for WpAsync {
    fn register_pending(&mut self, layout: &mut Layout) -> Result<Refused> {
        let mut refused = Vec::new();
        let mut wanted = Vec::new();
        for extent in layout.extents() {
            let due = match extent.tracking {
                Tracking::Pending => true,
                Tracking::Reserved => self.has_content(extent.range())?,
                _ => false,
            };
            if due {
                wanted.push(extent.range());
            }
        }
        for range in wanted {
            match self.register(range.clone())? {
                Registration::Registered => {
                    layout.track(range.clone(), &Tracking::Tracked);
                    self.fresh.push(range);
                }
                Registration::NotSupported | Registration::Gone => {
                    layout.track(range.clone(), &Tracking::Copied);
                    refused.push((range, "the kernel cannot track this sort of memory"));
                }
                Registration::Forbidden => {
                    layout.track(range.clone(), &Tracking::Copied);
                    refused.push((
                        range,
                        "the kernel does not allow tracking of memory that may not be written",
                    ));
                }
                Registration::Busy => {
                    layout.track(range.clone(), &Tracking::Copied);
                    refused.push((range, "the program uses userfaultfd on it itself"));
                }
            }
        }
        Ok(refused)
    }

    fn find(
        &mut self,
        layout: &mut Layout,
        skip: &[Range<u64>],
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        found.dirty.clear();
        found.renewed.clear();
        let mut from = 0;
        while let Some(run) = next_run(layout, from) {
            from = run.end;
            for piece in Pieces::outside(run.clone(), skip) {
                self.find_piece(piece, &run, layout, now, found)?;
            }
        }
        self.add_fresh(found);
        Ok(())
    }

    fn check(&mut self, ranges: &[Range<u64>], written: &mut Vec<Range<u64>>) -> Result<()> {
        let mut rest = ranges;
        while let Some(group) = take_near(&mut rest, BRIDGE) {
            // What was written and unmapped since shows in no scan for written pages.
            self.looked.clear();
            let whole = group[0].start..group[group.len() - 1].end;
            self.scanner.protected(whole, &mut self.looked)?;
            for range in group {
                for piece in Pieces::outside(range.clone(), &self.looked) {
                    push(written, piece);
                }
            }
        }
        Ok(())
    }

    fn scanner(&mut self) -> &mut Scanner {
        &mut self.scanner
    }
}
