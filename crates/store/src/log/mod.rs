//! The log: segments of checksummed records, appended only.

pub mod commit;
pub mod left;
pub mod parts;
pub mod record;
pub mod scan;
pub mod segment;
pub mod table;

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a record is: segment number and offset, packed as on disk. 0 is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub u64);

impl Location {
    /// No place.
    pub const NONE: Self = Self(0);

    /// From segment and offset.
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self((segment as u64) << 32 | offset as u64)
    }

    /// Number of the segment, from 1.
    pub const fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Offset in it, bytes.
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// What varints hold: the low three bits of a location are zero.
    pub const fn packed(self) -> u64 {
        self.0 >> 3
    }

    /// The inverse of [`Location::packed`]; `None` for what no record can have.
    pub const fn unpack(packed: u64) -> Option<Self> {
        let at = Self(packed.wrapping_shl(3));
        if packed >> 61 == 0 && at.segment() != 0 && at.offset() as usize >= segment::HEADER {
            Some(at)
        } else {
            None
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log/{:08}.seg at {}", self.segment(), self.offset())
    }
}

/// Path of a segment.
pub fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join("log").join(format!("{number:08}.seg"))
}
