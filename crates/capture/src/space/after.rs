//! Copies made while the target runs: which of them are what the page was at the boundary.

use super::{Space, take};
use crate::pipeline::Batch;
use crate::plan::Plan;
use crate::ranges::{divide, intersect, join, pages};
use std::ops::Range;
use stillframe_image::{Mapping, PAGE_SIZE, PageNumber};
use stillframe_linux::Result;

/// Pages written before they were copied and checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// In all.
    pub written: u64,
    /// Of those, had from what the tracker saved.
    pub repaired: u64,
}

impl Space {
    /// Looks which pages of `ranges`, a part of the plan for later, were written since the boundary:
    /// what was copied of them, or decided about them, while the target ran is not what they were
    /// then. What the tracker saved is put in place; the rest is in conflict. `batch`: where the
    /// copies are, if there are any, from slot `first` on.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn settle_conflicts(
        &mut self,
        ranges: &[Range<u64>],
        batch: Option<(&mut Batch, usize)>,
    ) -> Result<Conflicts> {
        self.written.clear();
        self.tracker.check(ranges, &mut self.written)?;
        if self.written.is_empty() {
            return Ok(Conflicts::default());
        }
        let mut conflicts = Conflicts {
            written: pages(&self.written),
            repaired: 0,
        };
        let mut left = take(&mut self.written);
        let layout = &self.layout;
        let mut put: Vec<Range<u64>> = Vec::new();
        let mut batch = batch;
        self.tracker.saved(&mut |address, content| {
            let range = address..address + PAGE_SIZE as u64;
            if intersect(range.clone(), &left).next().is_none() {
                return;
            }
            let anonymous = |m: &Mapping| m.inode == 0 && !m.shared;
            let zero = content.is_none();
            if zero && !layout.mapping_at(address).is_some_and(anonymous) {
                return;
            }
            if let Some((batch, first)) = &mut batch {
                let page = Some(PageNumber::of(address));
                let slot = batch.pages[*first..].iter().position(|p| *p == page);
                let slot = slot.and_then(|slot| batch.arena.page_mut(*first + slot));
                match (slot, content) {
                    (Some(slot), Some(content)) => slot.copy_from_slice(content),
                    (Some(slot), None) => slot.fill(0),
                    (None, _) => return,
                }
            } else if !zero {
                // It was decided that there was nothing, and there was.
                return;
            }
            put.push(range);
        });
        join(&mut put);
        conflicts.repaired = pages(&put);
        let all = left.clone();
        left.clear();
        divide(&all, &put, &mut Vec::new(), &mut left);
        self.hot.conflict(&left);
        self.written = left;
        Ok(conflicts)
    }

    /// In the stop: pages will be copied after it.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn begin_after(&mut self) -> Result<()> {
        self.tracker.save()
    }

    /// They are copied.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn end_after(&mut self) -> Result<()> {
        self.tracker.saved_enough()
    }

    /// Pages that [`Space::plan_later`] decided about without a copy.
    pub fn not_copied(&self, plan: &Plan) -> Vec<Range<u64>> {
        let mut copied = plan.copy.clone();
        copied.extend_from_slice(&plan.force);
        join(&mut copied);
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        divide(&self.later, &copied, &mut inside, &mut outside);
        outside
    }
}
