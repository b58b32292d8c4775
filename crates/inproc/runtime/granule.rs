//! What a granule is, and where its tag lies.
//!
//! * `line`: 64 bytes, one tag byte. Fastest; a rollback turns back whole lines, so nothing
//!   uninstrumented and no other thread may write into a line that the program writes.
//! * `word`: 8 bytes, one tag byte. For programs with threads.
//! * `log`: no tags; every store is logged, 8 bytes at a time. Needs no shadow memory; its log grows
//!   with the number of stores instead of with what was written.
//!
//! The tag of address `a` is the byte at `SHADOW + (a >> SHIFT)`: the address is a constant that
//! fits a 32-bit displacement, as in AddressSanitizer, so that compiled-in checks need no register
//! for it. A tag is the number of the level (thread and depth) that logged the granule last, 0 if
//! none that still runs. A checkpoint takes a fresh number, hence everything is unlogged at once:
//! O(1), and nesting costs nothing more. The end of a level gives its granules back to the level
//! outside it, entry by entry of its log, so that numbers can be used again and never wrap.

use crate::sys;

/// log2 of the bytes in a granule.
#[cfg(granule = "line")]
pub const SHIFT: usize = 6;
#[cfg(not(granule = "line"))]
pub const SHIFT: usize = 3;

/// Bytes in a granule.
pub const SIZE: usize = 1 << SHIFT;

/// Whether tags exist.
pub const TAGGED: bool = cfg!(not(granule = "log"));

/// Whether several threads may have checkpoints at once.
pub const THREADS: bool = cfg!(not(granule = "line"));

/// Where the tags begin.
pub const SHADOW: usize = 0x7fff_8000;

/// One past the highest address of a program, and so the bytes that tags span.
const TOP: usize = 1 << 47;

/// The tag of the granule of `address`.
#[inline(always)]
pub fn tag(address: usize) -> *mut u8 {
    (SHADOW + (address >> SHIFT)) as *mut u8
}

/// Reserves the tags; memory is only taken where something is written. False if it cannot be had.
pub fn reserve() -> bool {
    !TAGGED || sys::reserve_at(SHADOW, TOP >> SHIFT)
}
