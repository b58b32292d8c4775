//! Checksums, bound to the recording and the place they are for.

use crate::bytes::Page;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What seeds the checks of one recording. Derived from its random id, so that whole records of
/// another recording, or bytes that a recorded program prepared to look like records, do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of the recording `id`.
    pub fn new(id: &[u8; 16]) -> Self {
        Self(xxh3_64(id))
    }

    /// Check of bytes that belong at `place` (a location, an offset, a row).
    pub fn at(self, place: u64, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.0 ^ place)
    }
}

/// Check of bytes with a plain seed.
pub fn check(seed: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Check of a page's content.
pub fn page_check(page: &Page) -> u32 {
    xxh3_64(page) as u32
}
