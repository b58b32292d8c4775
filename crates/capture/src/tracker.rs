//! Which pages were written since the last boundary.
//!
//! This is the default tracker: the target's own userfaultfd with asynchronous write protection.
//! The kernel marks a protected page at its first write, without waking anybody, and PAGEMAP_SCAN
//! gives the marked pages and protects them again in one pass. When the last copy of the
//! descriptor closes, ours, the kernel drops all protection: dying leaves nothing behind.
//!
//! Protecting is for stopped targets only: with running threads each touched page table costs an
//! interrupt to every processor.

use crate::layout::{Layout, Tracking};
use std::ops::Range;
use stillframe_image::CheckpointId;
use stillframe_linux::Result;
use stillframe_linux::pagemap::{Categories, Region, ScanEnd, Scanner};
use stillframe_linux::uffd::{Registration, Userfaultfd};

/// Name as in recordings and `still doctor`.
pub const NAME: &str = "wp-async";

/// Asynchronous write protection over one address space.
#[derive(Debug)]
pub struct Tracker {
    uffd: Userfaultfd,
    scanner: Scanner,
    regions: Vec<Region>,
    /// Registered since the last look: all of it counts as written.
    fresh: Vec<Range<u64>>,
}

/// What a look at the whole address space found.
#[derive(Debug, Default)]
pub struct Found {
    /// Written pages, ascending, neighbours joined.
    pub dirty: Vec<Range<u64>>,
    /// Memory that turned out to be new although its mapping looked as before.
    pub renewed: Vec<Range<u64>>,
}

impl Tracker {
    /// Takes over the target's userfaultfd.
    pub const fn new(uffd: Userfaultfd, scanner: Scanner) -> Self {
        Self {
            uffd,
            scanner,
            regions: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// For classifying pages.
    pub const fn scanner(&mut self) -> &mut Scanner {
        &mut self.scanner
    }

    /// Registers what is pending, and what was reserved and has got content. Returns what could
    /// not be registered and why; such memory is copied at every boundary from now on.
    ///
    /// # Errors
    /// If the address space is gone or the kernel fails.
    pub fn register_pending(
        &mut self,
        layout: &mut Layout,
    ) -> Result<Vec<(Range<u64>, &'static str)>> {
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

    /// Finds and protects all pages written since they were last protected; the target must be
    /// stopped. Memory found unregistered is given a new generation from `now` on, registered, and
    /// thereby reported as written.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn find(
        &mut self,
        layout: &mut Layout,
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        found.dirty.clear();
        found.renewed.clear();
        let mut from = 0;
        while let Some(run) = next_run(layout, from) {
            from = run.end;
            let mut at = run.start;
            while at < run.end {
                match self
                    .scanner
                    .written_and_protect(at..run.end, &mut found.dirty)?
                {
                    ScanEnd::Complete => break,
                    ScanEnd::Unregistered { at: address } => {
                        let Some(mapping) = layout.mapping_at(address) else {
                            // Nothing is known to be there; go on behind it.
                            at = address + 4096;
                            continue;
                        };
                        let mapping = mapping.start.max(run.start)..mapping.end.min(run.end);
                        layout.renew(mapping.clone(), now);
                        found.renewed.push(mapping.clone());
                        let registered = self.register(mapping.clone())?;
                        if registered == Registration::Registered {
                            layout.track(mapping.clone(), &Tracking::Tracked);
                            at = mapping.start;
                            self.fresh.push(mapping);
                        } else {
                            layout.track(mapping.clone(), &Tracking::Copied);
                            at = mapping.end;
                        }
                    }
                }
            }
        }
        if !self.fresh.is_empty() {
            found.dirty.append(&mut self.fresh);
            join(&mut found.dirty);
        }
        Ok(())
    }
}

/// Sorts ranges and joins those that touch or overlap.
pub fn join(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|r| r.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
}

/// The next stretch of addresses at or after `from` in which everything mapped is tracked. Holes
/// between mappings are part of it.
fn next_run(layout: &Layout, from: u64) -> Option<Range<u64>> {
    let mut run: Option<Range<u64>> = None;
    let first = layout.extents().partition_point(|e| e.end <= from);
    for extent in layout.extents().get(first..)? {
        match (&extent.tracking, &mut run) {
            (Tracking::Tracked, Some(run)) => run.end = extent.end,
            (Tracking::Tracked, none) => *none = Some(extent.start.max(from)..extent.end),
            (_, Some(_)) => break,
            (_, None) => {}
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn joined_ranges_cover_the_same_and_do_not_overlap() {
        let mut ranges = vec![30..40, 0..10, 10..12, 35..50, 5..8, 60..61];
        join(&mut ranges);
        assert_eq!(ranges, [0..12, 30..50, 60..61]);
    }
}
