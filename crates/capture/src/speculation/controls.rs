//! The two controls: nothing is hot, everything is hot.

use super::list::List;
use super::{Choice, MAX_PAGES, Policy, Seen};
use std::ops::Range;

/// Chooses nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Policy for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn observe(&mut self, _: &Seen<'_>) {}

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
    }

    fn forget(&mut self, _: Range<u64>) {}
}

/// Leaves every page unprotected that was ever seen written, as far as its list has room.
#[derive(Debug, Default)]
pub struct Everything {
    list: List<()>,
}

impl Policy for Everything {
    fn name(&self) -> &'static str {
        "all"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        self.list.add_all(seen.written, (), MAX_PAGES);
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        self.list.ranges(&mut out.unprotected);
    }

    fn forget(&mut self, range: Range<u64>) {
        self.list.forget(&range);
    }
}
