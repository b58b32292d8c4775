//! Which pages were written since the last boundary.
//!
//! A tracker answers two questions. Of a stopped target: what was written since it was last asked
//! ([`Tracker::find`], which protects the answer again in the same pass). Of a running one: which
//! of these pages were written since the boundary ([`Tracker::check`]), so that what is copied
//! after a boundary can be told from what changed under the copy. Everything else (classifying
//! pages, copying them) is the same for all trackers.

mod bpf;
mod choose;
mod soft_dirty;
mod wp_async;

pub use choose::Trackers;

use bpf::{Bpf, Hub};
use soft_dirty::SoftDirtyBits;
use wp_async::WpAsync;

use crate::layout::{Layout, Tracking};
use std::fmt::Debug;
use std::ops::Range;
use stillframe_image::account::Fault;
use stillframe_image::{CheckpointId, PAGE_SIZE};
use stillframe_linux::Result;
use stillframe_linux::pagemap::Scanner;

/// Name of the default tracker, as in recordings and `still doctor`.
pub const WP_ASYNC: &str = "wp-async";

/// Name of the tracker with a log of faults.
pub const BPF: &str = "bpf";

/// Name of the tracker for older kernels.
pub const SOFT_DIRTY: &str = "soft-dirty";

/// What a look at the whole address space found.
#[derive(Debug, Default)]
pub struct Found {
    /// Written pages, ascending, neighbours joined.
    pub dirty: Vec<Range<u64>>,
    /// Memory that turned out to be new although its mapping looked as before.
    pub renewed: Vec<Range<u64>>,
}

/// Memory that cannot be tracked, and why.
pub type Refused = Vec<(Range<u64>, &'static str)>;

/// A way to learn which pages of one address space were written.
pub trait Tracker: Debug {
    /// Begins to track what is pending, and what was reserved and has got content. Returns what
    /// cannot be tracked and why; such memory is copied at every boundary from now on. The target
    /// must be stopped.
    ///
    /// # Errors
    /// If the address space is gone or the kernel fails.
    fn register_pending(&mut self, layout: &mut Layout) -> Result<Refused>;

    /// Does what can be done before the target is stopped.
    ///
    /// # Errors
    /// If the kernel fails.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Finds all tracked pages written since they were last found, and sees to it that the next
    /// write to each is noticed. Pages in `skip` (ascending, disjoint) are left as they are: not
    /// looked at and not protected. Memory found untracked is given a new generation from `now`
    /// on, tracked, and thereby reported as written. The target must be stopped.
    ///
    /// # Errors
    /// If the kernel fails. What had been found by then is in `found` and is not found again.
    fn find(
        &mut self,
        layout: &mut Layout,
        skip: &[Range<u64>],
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()>;

    /// Appends to `written` the parts of `ranges` (ascending, disjoint) that were written since
    /// [`Tracker::find`], or are not the same memory any more. The target may run. Changes
    /// nothing: what was written is found again.
    ///
    /// # Errors
    /// If the kernel fails.
    fn check(&mut self, ranges: &[Range<u64>], written: &mut Vec<Range<u64>>) -> Result<()>;

    /// These pages (ascending, disjoint) were copied while the target ran: said before they are
    /// checked, or found again.
    fn copied(&mut self, _ranges: &[Range<u64>]) {}

    /// Whether memory stays tracked when the kernel makes one mapping of it and of new memory.
    fn grows_with_its_mapping(&self) -> bool {
        false
    }

    /// Whether reading a page that does not exist leaves something behind that would be found
    /// as written from then on: then no page should be copied without a look whether it is there.
    fn look_before_copying(&self) -> bool {
        false
    }

    /// Whether the mappings can have changed since [`Tracker::layout_seen`]. The target must be
    /// stopped.
    fn layout_may_differ(&mut self) -> bool {
        true
    }

    /// The mappings are known as they are now. The target must be stopped.
    fn layout_seen(&mut self) {}

    /// We have written to the target's memory ourselves since the last look, in a way that the
    /// tracker may not see.
    fn touched(&mut self) {}

    /// Begins to save what protected pages hold before they are written, if the tracker can: called
    /// in the stop when pages are to be copied after it.
    ///
    /// # Errors
    /// If the kernel fails.
    fn save(&mut self) -> Result<()> {
        Ok(())
    }

    /// Ends it, and forgets what was saved.
    ///
    /// # Errors
    /// If the kernel fails.
    fn saved_enough(&mut self) -> Result<()> {
        Ok(())
    }

    /// Shows pages saved since [`Tracker::save`], by address; without content: pages that did not
    /// exist.
    fn saved(&self, _show: &mut dyn FnMut(u64, Option<&[u8; PAGE_SIZE]>)) {}

    /// Moves the write faults seen at the fault itself since the last call into `faults`, at most
    /// as many as it has room for, and returns how many there were. Times are CLOCK_MONOTONIC.
    fn logged(&mut self, _faults: &mut Vec<Fault>, _room: usize) -> u64 {
        0
    }

    /// For classifying pages.
    fn scanner(&mut self) -> &mut Scanner;
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
