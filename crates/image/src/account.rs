//! What a checkpoint cost: the event account of one interval.
//!
//! [`Tick`](crate::Tick) holds the sums that every listing shows. The account holds what stands
//! behind them: which thread stood still when, which stops were made and why, which ticks were not
//! taken, where in the address space pages were written, how well hot pages were guessed. Seed
//! figures such as "stall per thread" or "tracking cost per fault" are computed from it.
//!
//! Times are nanoseconds since the recording began, the clock of [`Tick::at_ns`](crate::Tick).

use crate::ids::SpaceId;
use serde::{Deserialize, Serialize};

/// Pages in one cell of [`Heat`]: 2 MiB of addresses.
pub const HEAT_PAGES: u64 = 512;

/// The event account of the interval that ends with a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Pages copied inside the boundary because they were expected to be written again.
    pub hot: Hot,
    /// Pages copied after the boundary.
    pub after: After,
    /// First writes to protected pages.
    pub faults: Faults,
    /// Every stop of the interval, the boundary last, in the order they were made.
    pub stops: Vec<StopRecord>,
    /// How long each thread stood still at the boundary.
    pub stalls: Vec<ThreadStall>,
    /// Ticks that were due and not taken.
    pub skips: Vec<Skip>,
    /// Where pages were found written, ascending by space and cell.
    pub heat: Vec<Heat>,
    /// `repeats[n]`: pages found written in exactly n + 1 of the interval's looks (pre-copy rounds
    /// and boundary).
    pub repeats: Vec<u32>,
    /// Exactly which pages were found written, ascending; only where the user asked for it.
    pub dirty: Vec<DirtyRun>,
    /// Single faults in the order of time; only with a tracker that sees them and where the user
    /// asked for it.
    pub fault_log: Vec<Fault>,
    /// Faults seen and not kept in `fault_log` for lack of room.
    pub faults_dropped: u64,
}

/// How well the pages taken as hot were chosen. Pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hot {
    /// Copied inside the boundary as hot.
    pub copied: u64,
    /// Of those, left unprotected during the interval: their writes cost no fault.
    pub unprotected: u64,
    /// Of those left unprotected, changed since the previous checkpoint: well guessed.
    pub hits: u64,
    /// Left unprotected and not changed: a copy for nothing.
    pub misses: u64,
}

/// What copying after the boundary did. Pages, but for `repairs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// Copied while the target ran again, and found unwritten afterwards.
    pub copied: u64,
    /// Written before their copy was taken or checked.
    pub conflicts: u64,
    /// Of those, had from the content saved at the fault.
    pub pre_images: u64,
    /// Further stops made because a conflict could not be repaired otherwise.
    pub repairs: u32,
}

/// First writes to protected pages in the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Pages found written that had been protected: each cost its writer one fault.
    pub write: u64,
    /// Faults seen at the fault itself by the tracker; 0 if it does not see them.
    pub logged: u64,
}

/// Why the target was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopKind {
    /// The stop that makes a checkpoint.
    #[default]
    Boundary,
    /// A pre-copy round.
    Precopy,
    /// A boundary that was given up, because a page was written before it was copied.
    Conflict,
    /// Reading state by calls made inside the target.
    Completion,
}

impl StopKind {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boundary => "boundary",
            Self::Precopy => "precopy",
            Self::Conflict => "conflict",
            Self::Completion => "completion",
        }
    }
}

/// One stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// Why.
    pub kind: StopKind,
    /// When the first thread was interrupted.
    pub at_ns: u64,
    /// From then until every thread had been resumed.
    pub pause_ns: u64,
    /// Pages found written.
    pub pages: u64,
}

/// How long one thread stood still at a boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStall {
    /// Its process.
    pub space: SpaceId,
    /// Its id.
    pub tid: u32,
    /// When it was seen to have stopped.
    pub stopped_ns: u64,
    /// When it was resumed.
    pub resumed_ns: u64,
}

/// Why a tick was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipReason {
    /// The previous tick took longer than a period.
    Late,
    /// The store had no room for another checkpoint.
    Store,
    /// The target could not be stopped in time.
    NotStopped,
    /// Left out to keep the stated budget.
    Budget,
}

impl SkipReason {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Store => "store",
            Self::NotStopped => "not-stopped",
            Self::Budget => "budget",
        }
    }

    /// Why, as a clause.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Late => "the tick before took longer than a period",
            Self::Store => "the store had no room for another checkpoint",
            Self::NotStopped => "the target could not be stopped in time",
            Self::Budget => "left out to keep the budget",
        }
    }
}

/// Ticks that were due and not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// When the first of them was given up.
    pub at_ns: u64,
    /// How many.
    pub ticks: u32,
    /// Why.
    pub reason: SkipReason,
}

/// Pages found written in one 2 MiB cell of an address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heat {
    /// Address space.
    pub space: SpaceId,
    /// Page number divided by [`HEAT_PAGES`].
    pub cell: u64,
    /// Pages, 1 to [`HEAT_PAGES`].
    pub pages: u32,
}

/// Neighbouring pages found written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyRun {
    /// Address space.
    pub space: SpaceId,
    /// First page number.
    pub first: u64,
    /// Pages.
    pub pages: u64,
}

/// A write fault as the tracker saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The thread that wrote.
    pub tid: u32,
    /// When.
    pub at_ns: u64,
    /// The page's number.
    pub page: u64,
}
