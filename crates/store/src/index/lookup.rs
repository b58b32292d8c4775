//! Asking the index.

use super::Entry;
use super::merge::Merged;
use super::run::{Run, RunError};
use std::sync::Arc;

/// The runs of a recording, oldest first, their ranges apart.
#[derive(Clone, Debug, Default)]
pub struct IndexSet {
    /// The runs.
    pub runs: Vec<Arc<Run>>,
    /// Checkpoints whose page tables are lost, ascending.
    pub holes: Vec<u64>,
}

/// Why the index did not answer.
#[derive(Debug)]
pub enum Failed {
    /// This run is damaged: make it again from the log and ask again.
    Run(usize, RunError),
    /// The page tables of this checkpoint are lost, and the answer depends on them.
    Hole(u64),
}

impl IndexSet {
    /// The newest entry of a page in checkpoints `since` to `at`, both included.
    ///
    /// # Errors
    /// If a run is damaged, or the answer may lie in a lost table.
    pub fn newest(
        &self,
        space: u32,
        page: u64,
        since: u64,
        at: u64,
    ) -> Result<Option<Entry>, Failed> {
        let after = self.runs.partition_point(|r| r.first <= at);
        let mut found = None;
        for (i, run) in self.runs.iter().enumerate().take(after).rev() {
            if run.last < since {
                break;
            }
            found = run.newest(space, page, at).map_err(|e| Failed::Run(i, e))?;
            if found.is_some() {
                break;
            }
        }
        let found = found.filter(|e: &Entry| e.checkpoint >= since);
        match self.hole(found.map_or(since, |e| e.checkpoint + 1), at) {
            Some(hole) => Err(Failed::Hole(hole)),
            None => Ok(found),
        }
    }

    /// The first hole in checkpoints `from` to `to`, both included.
    pub fn hole(&self, from: u64, to: u64) -> Option<u64> {
        let i = self.holes.partition_point(|h| *h < from);
        self.holes.get(i).copied().filter(|h| *h <= to)
    }

    /// The runs that may hold entries of checkpoints `from` to `to`, and the number of the first.
    pub fn covering(&self, from: u64, to: u64) -> (usize, &[Arc<Run>]) {
        let begin = self.runs.partition_point(|r| r.last < from);
        let end = self.runs.partition_point(|r| r.first <= to).max(begin);
        (begin, &self.runs[begin..end])
    }

    /// All entries of checkpoints up to `to` in order, from a key on.
    ///
    /// # Errors
    /// If a run is damaged.
    pub fn merged(&self, to: u64, from: (u32, u64, u64)) -> Result<Merged, Failed> {
        self.merged_between(0, to, from)
    }

    /// All entries of the runs that cover checkpoints `since` to `to` in order, from a key on. Some
    /// may be of other checkpoints. The numbers of runs in what it fails with are those of all runs.
    ///
    /// # Errors
    /// If a run is damaged.
    pub fn merged_between(
        &self,
        since: u64,
        to: u64,
        from: (u32, u64, u64),
    ) -> Result<Merged, Failed> {
        let (begin, runs) = self.covering(since, to);
        Merged::new(runs, begin, from).map_err(|(i, e)| Failed::Run(i, e))
    }
}
