//! The workloads, as programs of their own: `still bench target NAME`.
//!
//! A target builds its data, prints `ready PID`, and then does what each line on its standard input
//! says: `go UNITS` does that much work and prints an [`Outcome`] as one line of JSON. At the end of
//! input it ends. So one process can be calibrated, and a recorder can be attached and have its
//! full first checkpoint behind it before the measured work begins. While it waits it does nothing:
//! every run begins from the same state, recorded or not.
//!
//! Transparent huge pages are off in targets, so that a page is 4 KiB whatever the machine's
//! setting, and figures from two machines mean the same.

pub mod annealing;
pub mod pricing;
pub mod random;
pub mod rng;
mod snapshots;

use crate::args::{TargetArgs, TargetName};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Elapsed time, from the first thread's start to the last one's end.
    pub seconds: f64,
    /// Units of work done.
    pub units: u64,
    /// Pages written, where the workload counts them (a page written twice counts twice).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages_written: Option<u64>,
    /// Swaps accepted, of an annealing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
    /// Growth of the wires, of an annealing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<i64>,
    /// A sum over the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<f64>,
    /// Time that each fork snapshot took, microseconds, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fork_us: Vec<f64>,
}

/// A thread's part of a run.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Which thread, from 0.
    pub index: usize,
    /// Its units.
    pub units: u64,
}

/// Runs `work` on `threads` threads, the caller's being the first, over shares of `units`. Returns
/// the elapsed seconds and what each returned.
pub fn on_threads<T: Send>(
    threads: usize,
    units: u64,
    work: impl Fn(Share) -> T + Sync,
) -> (f64, Vec<T>) {
    let share = |index: usize| Share {
        index,
        units: units / threads as u64 + u64::from((index as u64) < units % threads as u64),
    };
    on_slices((0..threads).map(share).collect(), work)
}

/// Runs `work` on one thread per part, the caller's being the first.
pub fn on_slices<P: Send, T: Send>(parts: Vec<P>, work: impl Fn(P) -> T + Sync) -> (f64, Vec<T>) {
    let work = &work;
    let begun = Instant::now();
    let results = std::thread::scope(|scope| {
        let mut parts = parts.into_iter();
        let first = parts.next();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let mut results: Vec<T> = first.map(work).into_iter().collect();
        for other in others {
            match other.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    (begun.elapsed().as_secs_f64(), results)
}

/// `still bench target`: serves until the end of input.
///
/// # Errors
/// If standard input or output fails.
pub fn serve(args: &TargetArgs) -> Result<()> {
    // A refusal costs nothing but comparability; the page size in use shows in the recording.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let threads = usize::from(args.threads);
    match args.name {
        TargetName::Pricing | TargetName::Market => {
            let moving = args.name == TargetName::Market;
            let mut pricing =
                pricing::Pricing::new(args.count.unwrap_or(4_000_000), threads, moving);
            answer(|units| pricing.run(units))
        }
        TargetName::Annealing => {
            let mut annealing = annealing::Annealing::new(args.count.unwrap_or(1_500_000), threads);
            std::hint::black_box(annealing.named());
            answer(|units| annealing.run(units))
        }
        TargetName::Random => {
            let pace = match args.closed {
                Some(rounds) => random::Pace::Closed(rounds),
                None => random::Pace::PerSecond(args.rate),
            };
            let mut random = random::Random::new(args.mib, threads, pace);
            match args.fork_hz {
                Some(hz) => answer(|units| snapshots::during(hz, || random.run(units))),
                None => answer(|units| random.run(units)),
            }
        }
    }
}

/// Prints that the target is ready and serves the lines of standard input.
fn answer(mut run: impl FnMut(u64) -> Outcome) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", std::process::id())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let units = line
            .strip_prefix("go ")
            .and_then(|n| n.trim().parse().ok())
            .with_context(|| format!("a target takes lines `go UNITS`, not {line:?}"))?;
        serde_json::to_writer(&mut out, &run(units))?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for threads in 1..5 {
            for units in [0, 1, 7, 100] {
                let (_, shares) = on_threads(threads, units, |share| share.units);
                assert_eq!(shares.len(), threads);
                assert_eq!(shares.iter().sum::<u64>(), units);
            }
        }
    }

    #[test]
    fn outcomes_come_back_from_json() {
        let outcome = Outcome {
            seconds: 1.5,
            units: 3,
            pages_written: Some(7),
            ..Outcome::default()
        };
        let text = serde_json::to_string(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        assert!(!text.contains("growth"));
    }
}
