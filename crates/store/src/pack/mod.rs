//! Packs: frames of many page versions.

pub mod decode;
pub mod delta;
pub mod encode;

/// Most bytes of a decompressed pack that a writer makes.
pub const WRITE_LIMIT: usize = 1 << 20;
/// Most versions in a pack.
pub const SLOTS: usize = 1 << 16;
/// Longest chain that a reader follows.
pub const CHAIN: usize = 255;
