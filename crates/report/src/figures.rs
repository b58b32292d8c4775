//! The figures of a recording. docs/report.md defines each; `still report --json` prints them.
//!
//! Times are nanoseconds, sizes bytes, shares 0 to 1. A figure that cannot be known is absent.

use crate::cost::FaultCost;
use crate::dist::{Bin, Distribution};
use crate::heat::HotCell;
use serde::Serialize;

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Subject {
    /// Where the recording is.
    pub recording: String,
    /// Path of the program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Process id.
    pub pid: u32,
    /// When the recording began, since the epoch.
    pub started_wall_ns: u64,
    /// Checkpoints asked for per second.
    pub requested_hz: f64,
    /// Mechanism that found written pages.
    pub tracker: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of the program that wrote it.
    pub writer_version: String,
    /// Whether a recorder is writing it now.
    pub live: bool,
    /// How it ended; absent if it did not, or its recorder was killed.
    pub how: Option<String>,
    /// Ticks not taken, as the recorder counted them at the end.
    pub skipped: Option<u64>,
    /// What the recorder noted.
    pub notes: Vec<String>,
    /// What is damaged.
    pub damage: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What was recorded.
    pub subject: Subject,
    /// Checkpoints.
    pub checkpoints: Checkpoints,
    /// Rate.
    pub rate: Rate,
    /// Pauses.
    pub pause: Pause,
    /// Standing still.
    pub stall: Stall,
    /// Finding writes.
    pub tracking: Tracking,
    /// Both together.
    pub overhead: Overhead,
    /// Pages and bytes.
    pub pages: Pages,
    /// Copying before the boundary.
    pub precopy: Precopy,
    /// Copying after it.
    pub after: After,
    /// Pages expected to be written.
    pub hot: Hot,
    /// `repeats[n]`: pages found written in n + 1 looks within one interval, summed over intervals.
    pub repeats: Vec<u64>,
    /// The most written cells, hottest first.
    pub cells: Vec<HotCell>,
}

/// Checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Checkpoints {
    /// How many.
    pub count: u64,
    /// Of those, full ones.
    pub full: u64,
    /// Of those, with an account of their interval.
    pub accounts: u64,
    /// Accounts that could not be read.
    pub unreadable: u64,
    /// Number of the first.
    pub first: Option<u64>,
    /// Number of the last.
    pub last: Option<u64>,
    /// From the first to the last: the run time that was looked at.
    pub runtime_ns: u64,
    /// Most threads in one.
    pub threads_max: u32,
    /// Most processes in one.
    pub processes_max: u32,
}

/// Rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Checkpoints a second asked for.
    pub asked_hz: f64,
    /// Reached, from the first to the last.
    pub reached_hz: Option<f64>,
    /// Ticks not taken.
    pub skipped: u64,
    /// Of those: the previous tick took longer than a period.
    pub late: u64,
    /// The store had no room.
    pub store: u64,
    /// The target could not be stopped in time.
    pub not_stopped: u64,
    /// Left out to keep a budget.
    pub budget: u64,
    /// For a reason that was not written down.
    pub unexplained: u64,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// Its lengths.
    pub ns: Distribution,
    /// Its share of all pauses.
    pub share: f64,
}

/// Pauses at boundaries; full checkpoints apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pause {
    /// Boundaries.
    pub boundary: Distribution,
    /// Pauses of full checkpoints.
    pub full: Distribution,
    /// What each checkpoint's pre-copy stops cost together.
    pub precopy: Distribution,
    /// Boundaries by phase.
    pub phases: Vec<Phase>,
    /// Boundaries, logarithmic bars.
    pub histogram: Vec<Bin>,
}

/// Time for which the target stood still.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stall {
    /// In all.
    pub total_ns: u64,
    /// Share of the run time.
    pub share: f64,
    /// At boundaries, the full ones included.
    pub boundary_ns: u64,
    /// For pre-copy.
    pub precopy_ns: u64,
    /// At boundaries given up, and while calls were made inside the target.
    pub other_ns: u64,
    /// Of the total, at the first checkpoint, which lies at the beginning of the run time.
    pub first_ns: u64,
    /// Thread by thread, the one that stood longest first.
    pub threads: Vec<ThreadStall>,
    /// Threads left out of the list.
    pub threads_left_out: u64,
}

/// How long one thread stood at boundaries.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThreadStall {
    /// Its process.
    pub space: u32,
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its process's name.
    pub process: String,
    /// Times it was stopped.
    pub stops: u64,
    /// In all.
    pub total_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Share of the time between its first stop and the end of its last.
    pub share: f64,
}

/// What finding writes cost: an estimate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tracking {
    /// First writes to protected pages.
    pub faults: u64,
    /// Whether they were counted; otherwise it is the number of pages found written, at most that
    /// many faults.
    pub counted: bool,
    /// Faults that the tracker saw one by one.
    pub logged: u64,
    /// What one costs.
    pub cost: FaultCost,
    /// Faults times cost.
    pub total_ns: u64,
    /// Share of the run time, if one thread made all of them.
    pub share: f64,
    /// Faults per second of run time.
    pub per_second: Option<f64>,
    /// Faults per checkpoint, full ones left out.
    pub per_checkpoint: Option<f64>,
}

/// Stalls and tracking together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overhead {
    /// Estimate.
    pub total_ns: u64,
    /// Share of the run time.
    pub share: f64,
    /// Run time over what it would have been.
    pub slowdown: Option<f64>,
    /// Stalls per checkpoint.
    pub stall_per_checkpoint_ns: Option<f64>,
    /// Tracking per checkpoint.
    pub tracking_per_checkpoint_ns: Option<f64>,
}

/// Pages and bytes, full checkpoints included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pages {
    /// Found written.
    pub dirty: u64,
    /// Copied because their mapping cannot be tracked.
    pub untracked: u64,
    /// Found written, per checkpoint, full ones left out.
    pub per_checkpoint: Distribution,
    /// Bytes of the pages put into the recording.
    pub raw_bytes: u64,
    /// Bytes the recording grew by.
    pub stored_bytes: u64,
    /// Raw over stored.
    pub ratio: Option<f64>,
    /// The same without full checkpoints.
    pub ratio_steady: Option<f64>,
}

/// Copying before the boundary, full checkpoints left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Precopy {
    /// Stops made for it.
    pub stops: u64,
    /// Their pauses.
    pub pause_ns: u64,
    /// Pages they found.
    pub found: u64,
    /// Copied while the target ran and not written again.
    pub kept: u64,
    /// `kept / found`.
    pub efficiency: Option<f64>,
    /// Share of the pages found written that the boundary did not have to copy.
    pub share: Option<f64>,
    /// Pause paid for each page kept.
    pub ns_per_page: Option<f64>,
}

/// Copying after the boundary.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct After {
    /// Pages copied.
    pub copied: u64,
    /// Written before their copy was taken.
    pub conflicts: u64,
    /// Of those, had from the content saved at the fault.
    pub pre_images: u64,
    /// Further stops to repair conflicts.
    pub repairs: u64,
    /// Boundaries given up.
    pub given_up: u64,
    /// Conflicts per page copied.
    pub conflict_rate: Option<f64>,
}

/// Pages expected to be written again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hot {
    /// Copied inside the boundary.
    pub copied: u64,
    /// Left unprotected.
    pub unprotected: u64,
    /// Rightly.
    pub hits: u64,
    /// For nothing.
    pub misses: u64,
    /// `hits / (hits + misses)`.
    pub hit_rate: Option<f64>,
}
