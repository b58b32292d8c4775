//! Random writes over a large array: the workload whose dirty pages can be chosen.
//!
//! *Paced*: a given number of random pages is written per second of wall clock, in small bursts,
//! with arithmetic in between; a run is a fixed amount of that arithmetic. A slowed target still
//! dirties as many pages per interval, so the recorder is measured under the stated load.
//! *Closed*: a run is a fixed number of writes with arithmetic after each; a slowed target writes
//! less often.

use super::rng::{Rng, mix, spin};
use super::{Outcome, Share, on_threads};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Words of 8 bytes in a page.
const PAGE: usize = 512;
/// Rounds of arithmetic in a unit of paced work: some microseconds.
pub const CHUNK: u64 = 2000;
/// Most pages written between two chunks, so that the arithmetic goes on however slow writing is.
const BURST: u64 = 64;

/// How it writes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Pages per second over all threads. A unit of work is [`CHUNK`] rounds of arithmetic.
    PerSecond(f64),
    /// Rounds of arithmetic after each write. A unit of work is a write.
    Closed(u64),
}

/// The array.
#[derive(Debug)]
pub struct Random {
    words: Vec<AtomicU64>,
    threads: usize,
    pace: Pace,
    runs: u64,
}

impl Random {
    /// `mib` MiB, every page touched and different from every other.
    pub fn new(mib: usize, threads: usize, pace: Pace) -> Self {
        let words = mib << 17;
        Self {
            words: (0..words)
                .map(|i| AtomicU64::new(if i % PAGE == 0 { mix(i as u64) } else { 0 }))
                .collect(),
            threads,
            pace,
            runs: 0,
        }
    }

    /// Does `units` of work, see [`Pace`].
    pub fn run(&mut self, units: u64) -> Outcome {
        self.runs += 1;
        let (pace, run, words) = (self.pace, self.runs, &self.words);
        let per_thread = match pace {
            Pace::PerSecond(rate) => rate / self.threads as f64,
            Pace::Closed(_) => 0.0,
        };
        let (seconds, written) = on_threads(self.threads, units, |share| {
            let mut rng = Rng::new(run << 8 | share.index as u64);
            match pace {
                Pace::PerSecond(_) => paced(words, &mut rng, share, per_thread),
                Pace::Closed(rounds) => closed(words, &mut rng, share, rounds),
            }
        });
        Outcome {
            seconds,
            units,
            pages_written: Some(written.iter().sum()),
            ..Outcome::default()
        }
    }
}

fn write(words: &[AtomicU64], rng: &mut Rng) {
    let at = rng.below(words.len() as u64) as usize;
    words[at].store(rng.draw(), Relaxed);
}

/// Writes `rate` pages per second until the share of arithmetic is done. Returns the writes.
fn paced(words: &[AtomicU64], rng: &mut Rng, share: Share, rate: f64) -> u64 {
    let begun = Instant::now();
    let (mut written, mut forgone) = (0u64, 0u64);
    // What could not be written within a tenth of a second will not be written at all.
    let most = (rate / 10.0) as u64 + BURST;
    for _ in 0..share.units {
        rng.stir(spin(rng.peek(), CHUNK));
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        let owed = due.saturating_sub(written + forgone);
        forgone += owed.saturating_sub(most);
        for _ in 0..owed.min(BURST) {
            write(words, rng);
            written += 1;
        }
    }
    written
}

/// Writes once per unit, with `rounds` of arithmetic after each. Returns the writes.
fn closed(words: &[AtomicU64], rng: &mut Rng, share: Share, rounds: u64) -> u64 {
    for _ in 0..share.units {
        write(words, rng);
        rng.stir(spin(rng.peek(), rounds));
    }
    share.units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_loops_write_once_a_unit_all_over() {
        let mut random = Random::new(1, 2, Pace::Closed(1));
        let before: Vec<u64> = random.words.iter().map(|w| w.load(Relaxed)).collect();
        let outcome = random.run(50_001);
        assert_eq!(
            (outcome.units, outcome.pages_written),
            (50_001, Some(50_001))
        );
        for page in 0..random.words.len() / PAGE {
            let range = page * PAGE..(page + 1) * PAGE;
            assert!(
                range
                    .clone()
                    .any(|i| before[i] != random.words[i].load(Relaxed)),
                "page {page} was never written"
            );
        }
    }

    #[test]
    fn pages_differ_at_the_start() {
        let random = Random::new(1, 1, Pace::Closed(0));
        let mut firsts: Vec<u64> = random
            .words
            .iter()
            .step_by(PAGE)
            .map(|w| w.load(Relaxed))
            .collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 256);
    }

    #[test]
    fn paced_writes_never_run_ahead_of_the_clock() {
        let mut random = Random::new(1, 2, Pace::PerSecond(10_000.0));
        let outcome = random.run(2000);
        let written = outcome.pages_written.unwrap() as f64;
        assert!(
            written > 0.0 && written <= outcome.seconds * 10_000.0 + 2.0,
            "{written} {outcome:?}"
        );
    }
}
