//! Two list policies of speculative memory checkpointing (Vogt et al., 2015).

use super::list::{List, Random};
use super::{Choice, MAX_PAGES, Policy, Seen};
use crate::ranges::{Cursor, pages};
use std::ops::Range;

/// Boundaries between samples of the bound.
const SAMPLE: u32 = 64;

/// Checkpoints that a page may go unchanged.
const UNCHANGED: u8 = 3;

/// Was not chosen for the boundary just seen, where the tracker reports it all the same, because it
/// was not protected.
const GONE: u8 = u8::MAX;

/// Every page that faults is put on a list of bounded length, from which random ones are evicted.
/// The bound is sampled now and then: one interval with everything protected shows how many pages
/// are written in one.
#[derive(Debug)]
pub struct RandomEviction {
    list: List<()>,
    bound: usize,
    /// Boundaries until the next sample; the last two choose nothing.
    wait: u32,
    random: Random,
}

impl Default for RandomEviction {
    fn default() -> Self {
        Self {
            list: List::default(),
            bound: 0,
            wait: 2,
            random: Random(1),
        }
    }
}

impl Policy for RandomEviction {
    fn name(&self) -> &'static str {
        "random"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        if self.wait == 0 {
            self.bound = usize::try_from(pages(seen.written))
                .unwrap_or(usize::MAX)
                .min(MAX_PAGES);
            self.wait = SAMPLE;
        } else {
            self.wait -= 1;
        }
        // Room for what is to be evicted, so that all have the same chance.
        self.list.add_all(seen.written, (), 2 * MAX_PAGES);
        self.list.thin(self.bound, &mut self.random);
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        // For the sample, the pages must be protected at one boundary and looked at at the next.
        if self.wait > 1 {
            self.list.ranges(&mut out.unprotected);
        }
    }

    fn forget(&mut self, range: Range<u64>) {
        self.list.forget(&range);
    }
}

/// Every page that faults is left unprotected until its checksum has stayed the same for some
/// checkpoints.
#[derive(Debug, Default)]
pub struct DropUnchanged {
    /// With the checkpoints it has gone unchanged.
    list: List<u8>,
}

impl Policy for DropUnchanged {
    fn name(&self) -> &'static str {
        "checksum"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        let mut unprotected = Cursor::new(seen.unprotected);
        let mut changed = Cursor::new(seen.changed);
        self.list.retain(|at, idle| {
            if *idle >= UNCHANGED {
                *idle = GONE;
            } else if unprotected.contains(at) {
                *idle = if changed.contains(at) { 0 } else { *idle + 1 };
            }
            true
        });
        self.list.add_all(seen.written, 0, MAX_PAGES);
        self.list.retain(|_, idle| *idle != GONE);
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        for (at, idle) in self.list.pages() {
            if *idle < UNCHANGED {
                crate::ranges::push(&mut out.unprotected, *at..*at + super::PAGE);
            }
        }
    }

    fn forget(&mut self, range: Range<u64>) {
        self.list.forget(&range);
    }
}
