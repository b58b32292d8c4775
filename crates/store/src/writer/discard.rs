//! Memory that was replaced while a checkpoint was being built.

use super::Writer;
use std::ops::Range;
use stillframe_image::{PageNumber, SpaceId};

impl Writer {
    /// The memory at `pages` is not the memory that was there when pages were put into the
    /// checkpoint being built: forgets what was put of it. Earlier checkpoints need no word about
    /// it, since their pages are told from the new ones by the mapping's generation.
    pub fn discard(&mut self, space: SpaceId, pages: Range<PageNumber>) {
        let within = |s: u32, page: u64| s == space.0 && pages.contains(&PageNumber(page));
        let shadow = &mut self.shadow;
        self.pending.retain(|entry| {
            let replaced = within(entry.space, entry.page);
            if replaced {
                shadow.abandon((entry.space, entry.page));
            }
            !replaced
        });
        self.unchanged
            .retain(|u| !within(u.entry.space, u.entry.page));
    }
}
