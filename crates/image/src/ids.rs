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

/// Which process of a recording, and so which address space a page belongs to. The recorded root is
/// number 0; the others of its tree count up as they join it, and no number is used twice.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct SpaceId(pub u32);
