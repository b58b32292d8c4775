//! The hot pages of one address space, and what became of them.
//!
//! The policy guesses ([`crate::speculation`]); this keeps what it needs to know: which pages were
//! found written in the interval, which conflicted, and which of the unprotected ones really
//! changed. For the last, the copy handed to the store is kept until the page is no longer hot. It
//! also spares the store pages that are the same as before.

use crate::pipeline::Batch;
use crate::ranges::{contains, join, pages};
use crate::speculation::{Choice, Costs, Policy, Seen};
use std::collections::HashMap;
use std::ops::Range;
use stillframe_image::account::Hot;
use stillframe_image::{PAGE_SIZE, PageNumber};

/// See the head of this module.
#[derive(Debug)]
pub struct HotPages {
    policy: Box<dyn Policy>,
    /// For the boundary to come.
    choice: Choice,
    /// Unprotected pages as they were last handed to the store.
    copies: HashMap<PageNumber, Box<[u8; PAGE_SIZE]>>,
    written: Vec<Range<u64>>,
    changed: Vec<Range<u64>>,
    conflicts: Vec<Range<u64>>,
}

impl HotPages {
    /// Chosen by `policy`.
    pub fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            policy,
            choice: Choice::default(),
            copies: HashMap::new(),
            written: Vec::new(),
            changed: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    /// Pages that are copied at every boundary and left unprotected.
    pub fn unprotected(&self) -> &[Range<u64>] {
        &self.choice.unprotected
    }

    /// Pages that are copied at the boundary if they were written.
    pub fn protected(&self) -> &[Range<u64>] {
        &self.choice.protected
    }

    /// Pages were found written.
    pub fn look(&mut self, dirty: &[Range<u64>]) {
        self.written.extend_from_slice(dirty);
    }

    /// Pages were written before they were copied after a boundary.
    pub fn conflict(&mut self, written: &[Range<u64>]) {
        self.conflicts.extend_from_slice(written);
    }

    /// Takes out of a batch copied in a stop the unprotected pages that are the same as when they
    /// were last handed to the store, and remembers the others.
    pub fn compare(&mut self, batch: &mut Batch) {
        if self.choice.unprotected.is_empty() {
            return;
        }
        for (slot, bytes) in batch.pages.iter_mut().zip(batch.arena.pages()) {
            let Some(page) = *slot else { continue };
            let address = page.address();
            if !contains(&self.choice.unprotected, address) {
                continue;
            }
            match self.copies.get_mut(&page) {
                Some(before) if **before == *bytes => *slot = None,
                Some(before) => {
                    **before = *bytes;
                    self.changed.push(address..address + PAGE_SIZE as u64);
                }
                None => {
                    self.copies.insert(page, Box::new(*bytes));
                    self.changed.push(address..address + PAGE_SIZE as u64);
                }
            }
        }
    }

    /// The memory at these addresses is gone, or is other memory now.
    pub fn forget(&mut self, range: &Range<u64>) {
        self.policy.forget(range.clone());
        self.copies
            .retain(|page, _| !range.contains(&page.address()));
    }

    /// A checkpoint was made: judges the pages chosen for it and chooses those for the next.
    pub fn conclude(&mut self, costs: &Costs) -> Hot {
        for list in [&mut self.written, &mut self.changed, &mut self.conflicts] {
            join(list);
        }
        let unprotected = pages(&self.choice.unprotected);
        let hits = pages(&self.changed);
        let account = Hot {
            copied: unprotected,
            unprotected,
            hits,
            misses: unprotected.saturating_sub(hits),
        };
        self.policy.observe(&Seen {
            written: &self.written,
            unprotected: &self.choice.unprotected,
            changed: &self.changed,
            conflicts: &self.conflicts,
            costs,
        });
        self.policy.choose(&mut self.choice);
        for list in [&mut self.written, &mut self.changed, &mut self.conflicts] {
            list.clear();
        }
        if !self.copies.is_empty() {
            let hot = &self.choice.unprotected;
            // A page that is not hot for a while is stored by others: what we know of it is old.
            self.copies.retain(|page, _| contains(hot, page.address()));
        }
        account
    }
}
