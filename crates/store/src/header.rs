//! The first and the last word of a recording: what is being recorded, and how it ended.

use serde::{Deserialize, Serialize};

/// What is recorded, and by what. Written once, before anything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Random identity. All zero asks [`crate::Writer::create`] to draw one.
    pub id: [u8; 16],
    /// Path of the program.
    pub program: Vec<u8>,
    /// Its arguments, NUL after each.
    pub arguments: Vec<u8>,
    /// Process id.
    pub pid: u32,
    /// When the recording began, nanoseconds since the epoch.
    pub started_wall_ns: u64,
    /// Checkpoints asked for per second.
    pub requested_hz: f64,
    /// Mechanism that finds written pages.
    pub tracker: String,
    /// Release of the kernel it ran on.
    pub kernel: String,
    /// Version of the program that wrote it.
    pub writer_version: String,
}

/// How a recording ended. Absent when the recorder was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// When, nanoseconds since the epoch.
    pub ended_wall_ns: u64,
    /// How, e.g. `exited 0`, `stopped by user`, `killed by SIGSEGV`.
    pub how: String,
    /// Ticks that were due and not taken.
    pub skipped: u64,
    /// Anything a reader should know.
    pub notes: Vec<String>,
}
