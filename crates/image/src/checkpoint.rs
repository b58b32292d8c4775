//! A checkpoint put together, and the account of the tick that made it.

use crate::descriptor::Descriptors;
use crate::mapping::AddressSpace;
use crate::process::Process;
use crate::thread::Thread;
use serde::{Deserialize, Serialize};

/// Everything a checkpoint holds except the bytes of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Mappings.
    pub space: AddressSpace,
    /// Threads, the main thread first, then in ascending order of id.
    pub threads: Vec<Thread>,
    /// Descriptors.
    pub descriptors: Descriptors,
    /// Process-wide state.
    pub process: Process,
    /// What was not captured.
    pub gaps: Vec<Gap>,
}

/// Something that exists in the process and is not in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What it is about, e.g. `mapping 7f12a000-7f12b000` or `fd 7`.
    pub subject: String,
    /// What is missing and why, in one sentence.
    pub reason: String,
}

/// Why a checkpoint is special. A bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(pub u32);

impl Marks {
    /// Every page was captured anew: the first one, or the first after `exec`.
    pub const FULL: Self = Self(1);
    /// Taken as a fatal signal was about to be delivered.
    pub const CRASH: Self = Self(2);
    /// Taken as the process was exiting.
    pub const EXIT: Self = Self(4);
    /// First one after `exec`.
    pub const EXEC: Self = Self(8);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the bits set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::FULL, "full"),
            (Self::CRASH, "crash"),
            (Self::EXIT, "exit"),
            (Self::EXEC, "exec"),
        ]
        .into_iter()
        .filter_map(move |(bit, name)| self.contains(bit).then_some(name))
    }
}

/// The account of one tick. Times are nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Since the recording began (CLOCK_MONOTONIC), taken when all threads had stopped.
    pub at_ns: u64,
    /// The same instant on the wall clock, since the epoch.
    pub wall_ns: u64,
    /// Why it is special.
    pub marks: Marks,
    /// Threads in the checkpoint.
    pub threads: u32,
    /// Ticks that were due since the previous checkpoint and were not taken.
    pub skipped: u32,
    /// Pages found written since the previous checkpoint.
    pub dirty_pages: u64,
    /// Of those, copied while the target ran and not written again.
    pub precopied_pages: u64,
    /// Pages copied because their mapping cannot be tracked.
    pub untracked_pages: u64,
    /// Stops made for pre-copy before the boundary, and what they cost in all.
    pub precopy_stops: u32,
    /// Time the target stood still for them.
    pub precopy_pause_ns: u64,
    /// The boundary, by phase.
    pub phases: Phases,
}

impl Tick {
    /// Time the target stood still at the boundary, first interrupt to last resume.
    pub const fn pause_ns(&self) -> u64 {
        let p = &self.phases;
        p.stop + p.layout + p.scan + p.threads + p.copy + p.state + p.resume
    }
}

/// Phases of a boundary, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// From the first interrupt until every thread had stopped.
    pub stop: u64,
    /// Reading the mappings and registering new ones.
    pub layout: u64,
    /// Finding and protecting what was written.
    pub scan: u64,
    /// Registers and signal state of the threads.
    pub threads: u64,
    /// Copying pages.
    pub copy: u64,
    /// Descriptors and process-wide state.
    pub state: u64,
    /// Resuming.
    pub resume: u64,
}
