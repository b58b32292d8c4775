//! The control: no page is hot.

use super::{Choice, Policy, Seen};
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
