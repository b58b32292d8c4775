//! Numbers that name things: checkpoints, pages, address spaces.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in a page. x86-64 only; every address in a recording is a multiple of this or within it.
pub const PAGE_SIZE: usize = 4096;

/// Number of a checkpoint inside its recording: 0 for the first, then counting up. Numbers are
/// never used again, so gaps appear once checkpoints can be deleted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An address divided by [`PAGE_SIZE`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct PageNumber(pub u64);

impl PageNumber {
    /// The page that holds `address`.
    pub const fn of(address: u64) -> Self {
        Self(address / PAGE_SIZE as u64)
    }

    /// First address of the page.
    pub const fn address(self) -> u64 {
        self.0.wrapping_mul(PAGE_SIZE as u64)
    }
}

/// Which address space of a recording a page belongs to. A recording of one process has one,
/// number 0; recordings of process trees will have several.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct SpaceId(pub u32);
