//! The page-version index: for each page, which checkpoints gave it a version, and where that is.
//!
//! Sealed sorted runs in the manner of a log-structured merge tree. Each run covers a range of
//! checkpoints and ranges do not overlap, so the newest version not younger than a checkpoint is
//! found by asking runs from that checkpoint backwards and stopping at the first answer.

pub mod lookup;
pub mod merge;
pub mod run;

use crate::VersionRef;

/// One page version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Address space.
    pub space: u32,
    /// Page number.
    pub page: u64,
    /// Checkpoint that gave it the version.
    pub checkpoint: u64,
    /// The version.
    pub version: VersionRef,
}

impl Entry {
    /// What entries are sorted by.
    pub const fn key(&self) -> (u32, u64, u64) {
        (self.space, self.page, self.checkpoint)
    }
}
