//! What a program can say to the recorder that records it.
//!
//! ```
//! stillframe_points::point("epoch done"); // names this moment; goes with the next checkpoint
//! if let Some(number) = stillframe_points::checkpoint("saved") {
//!     println!("this very moment is checkpoint {number}");
//! }
//! ```
//!
//! Not recorded, a call is the load of one word and a branch; there is nothing to link with and
//! nothing to install. The same as `include/stillframe/points.h` does for C, which explains how:
//! a gate that the recorder finds by an ELF note and opens, and a signal that does nothing, which
//! it sees, removes, and answers by the result of the system call that sent it. If the recorder
//! dies, at any instant, the result is the kernel's: nobody answered, and the program runs on.
//!
//! The crate needs neither `std` nor libc. Off x86-64 Linux nobody ever records.
#![no_std]

#[cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
))]
mod ask;

#[cfg(not(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64"
)))]
mod ask {
    pub const fn is_open() -> bool {
        false
    }
    pub const fn ask(_: u32, _: &[u8]) -> i64 {
        0
    }
    pub const fn milliseconds() -> i64 {
        0
    }
    pub const fn nap() {}
}

use core::time::Duration;

const POINT: u32 = 1;
const CHECKPOINT: u32 = 2;
const COUNT: u32 = 3;

/// Asks, and gives the number answered.
#[inline]
fn number(kind: u32, name: &str) -> Option<u64> {
    if !ask::is_open() {
        return None;
    }
    // 0 or less: nobody; 1: declined; else a number and 2.
    u64::try_from(ask::ask(kind, name.as_bytes()))
        .ok()?
        .checked_sub(2)
}

/// Names this moment: the next checkpoint carries the name, of which 255 bytes count.
#[inline]
pub fn point(name: &str) {
    if ask::is_open() {
        ask::ask(POINT, name.as_bytes());
    }
}

/// Has a checkpoint taken whose memory and registers are those of this call, and gives its number
/// once it is taken and on its way to the disk. `None` if nobody records, if it could not be taken,
/// and in a process restored from it. The name may be empty.
#[inline]
pub fn checkpoint(name: &str) -> Option<u64> {
    number(CHECKPOINT, name)
}

/// How many checkpoints there are up to now; `None` if nobody records.
#[inline]
pub fn checkpoints() -> Option<u64> {
    number(COUNT, "")
}

/// Whether somebody records this thread now.
#[inline]
pub fn recording() -> bool {
    checkpoints().is_some()
}

/// Waits until there is a checkpoint, at most `timeout`, counted in milliseconds. Returns whether
/// there is one. Takes the whole time where nobody records.
pub fn wait_recording(timeout: Duration) -> bool {
    let limit = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let begun = ask::milliseconds();
    loop {
        if checkpoints().is_some_and(|n| n > 0) {
            return true;
        }
        if cfg!(not(all(target_os = "linux", target_arch = "x86_64")))
            || ask::milliseconds() - begun >= limit
        {
            return false;
        }
        ask::nap();
    }
}
