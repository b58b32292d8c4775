//! What ends a recording early.

use std::path::PathBuf;

/// An error of the recorder. One line, naming what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process cannot be attached to.
    #[error(transparent)]
    Attach(#[from] stillframe_linux::tracee::AttachError),
    /// The program cannot be started.
    #[error(transparent)]
    Launch(#[from] stillframe_linux::tracee::LaunchError),
    /// Setting up the tracker failed.
    #[error("cannot set up tracking in process {pid}: {source}")]
    Setup {
        /// The target.
        pid: u32,
        /// Why.
        source: stillframe_linux::Error,
    },
    /// The kernel refused something while recording.
    #[error(transparent)]
    Kernel(#[from] stillframe_linux::Error),
    /// The recording cannot be written.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// The output exists.
    #[error("{} exists; choose another name with -o, or use --force to replace a recording", .0.display())]
    Exists(PathBuf),
    /// The tracker asked for cannot be had.
    #[error(
        "the tracker {name} cannot be used here: {source}; leave out --tracker to use what can be had"
    )]
    NoTracker {
        /// Which.
        name: &'static str,
        /// Why not.
        source: stillframe_linux::Error,
    },
    /// No tracker can be had.
    #[error(transparent)]
    NoTrackerAtAll(#[from] stillframe_linux::features::NoTracker),
    /// There is no such policy.
    #[error("{0} is no policy for hot pages; the policies are {list}", list = crate::speculation::NAMES.join(", "))]
    NoPolicy(String),
    /// The target runs code of another machine.
    #[error("process {0} does not run a 64-bit x86 (x86-64) program; only those can be recorded")]
    NotX86_64(u32),
    /// The target would not stop.
    #[error("process {pid} cannot be stopped: {why}; try again once it has done that")]
    NotStopped {
        /// The target.
        pid: u32,
        /// What it is doing.
        why: String,
    },
    /// Something happened to the target while tracking was being set up.
    #[error("process {pid} changed while tracking was being set up ({event:?}); try again")]
    EndedEarly {
        /// The target.
        pid: u32,
        /// What happened.
        event: stillframe_linux::tracee::Event,
    },
    /// The operating system gave us too little to work with.
    #[error("cannot get {what}: {source}")]
    Resources {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread of ours ended without a result.
    #[error("the {0} thread of the recorder failed; please report this")]
    Thread(&'static str),
}
