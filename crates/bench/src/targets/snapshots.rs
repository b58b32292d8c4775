//! Snapshots by `fork`, as databases take them: a peer to compare with.
//!
//! A thread of the program forks it at a fixed rate. The child is the snapshot: it stands still
//! until the next one is taken, and every page written meanwhile is copied by the kernel on first
//! write. Nothing is stored, so this is less than what a recorder does.

use super::Outcome;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stillframe_linux::twin::Twin;

/// Takes `hz` snapshots per second while `work` runs; the outcome carries what each fork took.
pub fn during(hz: f64, work: impl FnOnce() -> Outcome) -> Outcome {
    let done = AtomicBool::new(false);
    let period = Duration::from_secs_f64(1.0 / hz.clamp(0.01, 10_000.0));
    std::thread::scope(|scope| {
        let forker = scope.spawn(|| {
            let mut took = Vec::new();
            let mut last: Option<Twin> = None;
            let mut due = Instant::now();
            while !done.load(Ordering::Relaxed) {
                due += period;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let begun = Instant::now();
                let Ok(twin) = Twin::of_this_process() else {
                    break;
                };
                took.push(begun.elapsed().as_secs_f64() * 1e6);
                // Its end, with the freeing of its memory, is part of what it costs.
                drop(last.replace(twin));
            }
            took
        });
        let mut outcome = work();
        done.store(true, Ordering::Relaxed);
        outcome.fork_us = forker.join().unwrap_or_default();
        outcome.fork_us.sort_by(f64::total_cmp);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_taken_while_the_work_runs() {
        let outcome = during(200.0, || {
            std::thread::sleep(Duration::from_millis(100));
            Outcome::default()
        });
        assert!(!outcome.fork_us.is_empty());
        assert!(outcome.fork_us.iter().all(|us| *us > 0.0));
        assert!(outcome.fork_us.is_sorted());
    }
}
