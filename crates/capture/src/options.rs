//! What the user asked of a recording.

use crate::files::FilesPolicy;
use std::path::PathBuf;
use std::time::Duration;
use stillframe_store::retention::Bound;

/// How pre-copy rounds are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precopy {
    /// As many as pay, judged from what recent ticks found.
    Auto,
    /// This many before every boundary.
    Fixed(u32),
}

/// When pages are copied that the boundary found written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// As is cheaper for the target, judged from what recent boundaries found.
    Auto,
    /// In the stop.
    Now,
    /// After it; in a second stop what was written first.
    After,
}

/// How written pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerChoice {
    /// The best that can be had.
    Auto,
    /// Asynchronous write protection, found by scanning.
    WpAsync,
    /// The same with a log of the faults.
    Bpf,
    /// Soft-dirty bits, for older kernels.
    SoftDirty,
}

/// Options of a recording.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory to create.
    pub output: PathBuf,
    /// Replace an existing recording.
    pub force: bool,
    /// Checkpoints a second, greater than zero; with a budget or a limit of the pause, at most.
    pub hz: f64,
    /// Share of the target's speed that recording may cost, 0 to 1. The rate follows.
    pub budget: Option<f64>,
    /// Pause that nine in ten boundaries should stay below. Rounds and rate follow.
    pub max_pause: Option<Duration>,
    /// Take checkpoints only where the target names a point or asks for one; `hz` means nothing.
    pub at_points: bool,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Stop after this many checkpoints.
    pub count: Option<u64>,
    /// What the recording may grow to; older checkpoints are removed.
    pub keep: Bound,
    /// Pre-copy rounds.
    pub precopy: Precopy,
    /// When written pages are copied.
    pub copying: Copying,
    /// How written pages are found.
    pub tracker: TrackerChoice,
    /// Record the processes that the target makes, too.
    pub follow: bool,
    /// Policy that chooses hot pages, one of [`crate::speculation::NAMES`].
    pub speculate: String,
    /// Note in the account exactly which pages were written.
    pub exact_account: bool,
    /// Compare every checkpoint with an independent copy of memory taken at its boundary.
    pub paranoid: bool,
    /// Keep a copy of the executable and of every other mapped file in the recording.
    pub objects: bool,
    /// What is recorded of files that the target writes.
    pub files: FilesPolicy,
    /// Memory for previous contents of pages, bytes.
    pub shadow_bytes: u64,
    /// zstd level.
    pub level: i32,
    /// Most memory in one shared mapping that is copied at every boundary, bytes; larger ones are
    /// left out and named.
    pub shared_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            output: PathBuf::from("run.still"),
            force: false,
            hz: 100.0,
            budget: None,
            max_pause: None,
            at_points: false,
            duration: None,
            count: None,
            keep: Bound::default(),
            precopy: Precopy::Auto,
            copying: Copying::Auto,
            tracker: TrackerChoice::Auto,
            follow: false,
            speculate: crate::speculation::NAMES[0].to_owned(),
            exact_account: false,
            paranoid: false,
            objects: true,
            files: FilesPolicy::default(),
            shadow_bytes: 1 << 30,
            level: 1,
            shared_limit: 1 << 30,
        }
    }
}

impl Options {
    /// Time between two ticks. Longer than anything runs, if there are none.
    pub fn period(&self) -> Duration {
        if self.at_points {
            return Duration::from_secs(100 * 365 * 86_400);
        }
        Duration::from_secs_f64(1.0 / self.hz)
    }
}
