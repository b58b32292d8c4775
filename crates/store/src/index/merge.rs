//! Merging runs.

use super::Entry;
use super::run::{Run, RunError, RunIter};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Runs of one size merged into one of the next.
pub const FAN: usize = 4;

/// Which of the runs at the end of the list to merge: `Some(n)` for the last n. Sizes are entries,
/// oldest first. A run's tier is the number of times `FAN` goes into it above `unit`; as many of
/// one tier as `FAN` become one, so each entry is rewritten once per tier.
pub fn due(sizes: &[u64], unit: u64) -> Option<usize> {
    let tier = |n: u64| (n / unit.max(1)).max(1).ilog(FAN as u64);
    let newest = tier(*sizes.last()?);
    let same = sizes
        .iter()
        .rev()
        .take_while(|n| tier(**n) <= newest)
        .count();
    (same >= FAN).then_some(same)
}

/// All entries of several runs from a key on, ascending.
#[derive(Debug)]
pub struct Merged {
    heap: BinaryHeap<Reverse<(Entry, usize)>>,
    iters: Vec<RunIter>,
    /// The number of the first run.
    base: usize,
}

impl Merged {
    /// Begins at a key. `base` is the number of the first run, for errors.
    ///
    /// # Errors
    /// If a block is damaged; with the number of the run.
    pub fn new(
        runs: &[Arc<Run>],
        base: usize,
        from: (u32, u64, u64),
    ) -> Result<Self, (usize, RunError)> {
        let mut merged = Self {
            base,
            heap: BinaryHeap::with_capacity(runs.len()),
            iters: runs.iter().map(|r| r.iter_from(from)).collect(),
        };
        for i in 0..runs.len() {
            merged.pull(i)?;
        }
        Ok(merged)
    }

    fn pull(&mut self, i: usize) -> Result<(), (usize, RunError)> {
        if let Some(e) = self.iters[i].next().map_err(|e| (self.base + i, e))? {
            self.heap.push(Reverse((e, i)));
        }
        Ok(())
    }

    /// The next entry.
    ///
    /// # Errors
    /// If a block is damaged; with the number of the run.
    pub fn next(&mut self) -> Result<Option<Entry>, (usize, RunError)> {
        let Some(Reverse((entry, i))) = self.heap.pop() else {
            return Ok(None);
        };
        self.pull(i)?;
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_runs_grows_with_the_logarithm() {
        let mut sizes: Vec<u64> = Vec::new();
        let mut most = 0;
        for _ in 0..4096 {
            sizes.push(100);
            while let Some(n) = due(&sizes, 100) {
                let merged = sizes.drain(sizes.len() - n..).sum();
                sizes.push(merged);
            }
            most = most.max(sizes.len());
        }
        assert!(most <= 3 * 7, "{most} runs");
        assert_eq!(sizes.iter().sum::<u64>(), 409_600);
    }
}
