//! What is where in the memory that the programs and we share.
//!
//! Each of the two fault programs has a ring for each processor. The kernel never runs a program
//! twice at once on one processor (it counts what it leaves out instead), so a ring has one writer
//! and needs neither lock nor atomic operation: the writer fills the entry, then moves `HEAD`; we
//! read up to it, then move `TAIL`. x86 keeps both orders.

use super::Options;
use crate::error::{Error, Result, Target};
use std::ops::Range;

/// Epoch of the saving of pre-images that is on; 0 while it is off.
pub(super) const SAVING: usize = 0;
/// Slots of pre-images taken since they were last cleared, more than there are when it overflowed.
pub(super) const TAKEN: usize = 64;
/// Pre-images that could not be saved.
pub(super) const UNSAVED: usize = 128;
/// Where the kernel maps all physical memory.
pub(super) const DIRECT_MAP: usize = 192;
/// The page-table entry of a protected page that does not exist yet.
pub(super) const MARKER: usize = 200;
/// Times anyone wrote to another process's memory.
pub(super) const FOREIGN: usize = 256;
/// A process to look at, whether it was found, and the sequence of its mappings.
pub(super) const SEQUENCE: usize = 320;
/// A byte for each process number modulo their count: not zero if one such may be watched. Lets
/// the programs leave all other processes alone without looking them up.
pub(super) const HINTS: usize = 2048;
/// How many, a power of two.
pub(super) const HINT_COUNT: usize = 2048;
/// The class of each system call, a byte each.
pub(super) const SYSCALLS: usize = 1024;
/// Numbers below this have a class.
pub(super) const SYSCALL_LIMIT: usize = 512;
/// Of each watched process.
const WATCHED: usize = 4096;
/// Processes that can be watched at once.
pub(super) const WATCHED_LIMIT: u32 = 1024;
/// Bytes for each.
pub(super) const WATCHED_SIZE: usize = 64;
/// In a watched process: calls whose writes the log may not have.
pub(super) const RISKY: usize = 0;
/// In a watched process: calls that change mappings.
pub(super) const MAPPED: usize = 8;
/// In a watched process: number of the last risky call.
pub(super) const LAST: usize = 16;
const RINGS: usize = WATCHED + WATCHED_LIMIT as usize * WATCHED_SIZE;

/// In a ring: entries ever written.
pub(super) const HEAD: usize = 0;
/// In a ring: entries that found no room.
pub(super) const LOST: usize = 8;
/// In a ring: entries ever read.
pub(super) const TAIL: usize = 64;
/// In a ring: its program is saving a pre-image.
pub(super) const ACTIVE: usize = 128;
/// In a ring: the entries.
pub(super) const ENTRIES: usize = 192;
/// Bytes of an entry.
pub(super) const ENTRY: usize = 32;

/// Total bound, which the verifier's arithmetic sets (512 MiB), with room to spare.
const LIMIT: usize = 384 << 20;

/// Which program a ring belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Faults of the target's own instructions.
    User,
    /// Faults of the kernel in the target's name.
    Kernel,
}

impl Origin {
    pub(super) const BOTH: [Self; 2] = [Self::User, Self::Kernel];
}

/// Sizes of what depends on the machine and the options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Processors that can ever run.
    pub(super) processors: usize,
    user_entries: usize,
    kernel_entries: usize,
}

impl Layout {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let processors = possible_processors()?;
        let each = (options.entries as usize / processors).max(512);
        let user_entries = 1 << each.ilog2();
        let layout = Self {
            processors,
            user_entries,
            kernel_entries: (user_entries / 8).max(512),
        };
        if layout.total() > LIMIT {
            return Err(Error::NoRoom {
                pid: std::process::id(),
                what: "a log of so many faults; ask for fewer entries",
            });
        }
        Ok(layout)
    }

    /// Entries of one ring, a power of two.
    pub(super) fn entries(&self, origin: Origin) -> usize {
        match origin {
            Origin::User => self.user_entries,
            Origin::Kernel => self.kernel_entries,
        }
    }

    /// Bytes from one processor's ring to the next.
    pub(super) fn stride(&self, origin: Origin) -> usize {
        ENTRIES + self.entries(origin) * ENTRY
    }

    /// Offset of the first processor's ring.
    pub(super) fn rings(&self, origin: Origin) -> usize {
        match origin {
            Origin::User => RINGS,
            Origin::Kernel => RINGS + self.processors * self.stride(Origin::User),
        }
    }

    /// Offsets of all rings.
    pub(super) fn all_rings(&self) -> impl Iterator<Item = (Origin, usize)> {
        let layout = *self;
        Origin::BOTH.into_iter().flat_map(move |origin| {
            (0..layout.processors)
                .map(move |cpu| (origin, layout.rings(origin) + cpu * layout.stride(origin)))
        })
    }

    /// Bytes of everything.
    pub(super) fn total(&self) -> usize {
        self.rings(Origin::Kernel) + self.processors * self.stride(Origin::Kernel)
    }

    /// Offset of a watched process's words.
    pub(super) fn watched(slot: u32) -> usize {
        WATCHED + slot as usize * WATCHED_SIZE
    }
}

/// One more than the largest number a processor can have.
fn possible_processors() -> Result<usize> {
    const PATH: &str = "/sys/devices/system/cpu/possible";
    let path = || Target::Path(PATH.to_owned());
    let text = std::fs::read_to_string(PATH).map_err(|e| Error::syscall("reading", path(), e))?;
    processors_in(text.trim()).ok_or_else(|| Error::Malformed {
        what: "the list of processors",
        target: path(),
        detail: text.trim().chars().take(40).collect(),
    })
}

/// Of a list such as `0-3,8`.
fn processors_in(list: &str) -> Option<usize> {
    let last = list.rsplit([',', '-']).next()?;
    let last: usize = last.parse().ok()?;
    const RANGE: Range<usize> = 0..8192;
    RANGE.contains(&last).then_some(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_do_not_overlap() {
        for (processors, user_entries) in [(1, 512), (2, 8192), (64, 1024)] {
            let layout = Layout {
                processors,
                user_entries,
                kernel_entries: 512,
            };
            let mut end = Layout::watched(WATCHED_LIMIT - 1) + WATCHED_SIZE;
            for (origin, ring) in layout.all_rings() {
                assert_eq!(ring, end);
                assert_eq!(ring % 64, 0, "words of a ring share no cache line");
                end = ring + layout.stride(origin);
            }
            assert_eq!(layout.total(), end);
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors_in("0-1"), Some(2));
        assert_eq!(processors_in("0"), Some(1));
        assert_eq!(processors_in("0-3,8-11"), Some(12));
        for bad in ["", "x", "0-", "99999999", "-"] {
            assert_eq!(processors_in(bad), None, "{bad}");
        }
    }
}
