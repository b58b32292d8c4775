//! End-to-end scenarios: the real `still` command on real programs.
//!
//! A scenario is written once and has a length: tests run the short form of each, `cargo xtask
//! soak` the full one, so that what is measured at length is what CI watches. Scenarios report a
//! skip at run time when a program or a privilege is missing, which the standard test harness
//! cannot do; hence the small [`runner`], which prints results in the standard harness's words so
//! that one reader sums up both.
//!
//! Targets (in `targets/`) check themselves. The harness checks what a target cannot: checkpoints
//! against invariants, the target's kernel-side state after a recorder was killed, exit codes and
//! messages.
#![forbid(unsafe_code)]

pub mod place;
pub mod process;
pub mod random;
pub mod runner;
pub mod scenarios;
pub mod still;
pub mod terminal;
pub mod truth;

use anyhow::Result;

/// How long scenarios run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Checkpoints that a bit-exactness scenario must reach.
    pub checkpoints: u64,
    /// Recorders that the survival scenario kills.
    pub kills: u32,
    /// Damaged recordings that the torn-file scenario opens.
    pub cases: u32,
    /// Full-sized targets rather than those that suit two cores and a minute.
    pub full: bool,
}

impl Length {
    /// What tests run.
    pub const SHORT: Self = Self {
        checkpoints: 60,
        kills: 20,
        cases: 40,
        full: false,
    };
    /// What the soak runs.
    pub const SOAK: Self = Self {
        checkpoints: 2000,
        kills: 200,
        cases: 1000,
        full: true,
    };
}

/// How a scenario ended, if not with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All checks held. The text is what there is to tell, on one line, and may be empty.
    Passed(String),
    /// Not run, for this reason.
    Skipped(String),
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name, `group::what`.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Length) -> Result<Outcome>,
}

/// Shorthand for a skip.
///
/// # Errors
/// Never.
pub fn skip(reason: impl Into<String>) -> Result<Outcome> {
    Ok(Outcome::Skipped(reason.into()))
}

/// Shorthand for success.
///
/// # Errors
/// Never.
pub fn passed(figures: impl Into<String>) -> Result<Outcome> {
    Ok(Outcome::Passed(figures.into()))
}
