//! When pre-copy pays.
//!
//! A round costs the target one more stop (find, protect, go) and saves it from standing still
//! while the pages found are copied. So it pays when copying takes clearly longer than stopping
//! and scanning; both are measured as the recording runs.

use std::time::Duration;
use stillframe_image::Phases;

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.25;

/// How much belief in rounds comes back per tick without one.
const FORGIVENESS: f64 = 0.002;

/// Most rounds before a full checkpoint.
const FULL_ROUNDS: u32 = 6;

/// A round that found no more than this many pages leaves little for the boundary.
const FEW: u64 = 1024;

/// Measurements of recent ticks.
#[derive(Debug, Default)]
pub struct Pace {
    /// Pages written per interval.
    dirty: Option<f64>,
    /// Nanoseconds to stop, look and resume.
    stop_ns: Option<f64>,
    /// Nanoseconds to copy a page.
    page_ns: Option<f64>,
    /// Share of the pages copied early that were not written again before the boundary.
    lasting: Option<f64>,
    /// Pages of the last rounds of this tick.
    round: Option<u64>,
    before: Option<u64>,
    early: u64,
}

impl Pace {
    /// Rounds to make before the next boundary, at most.
    pub fn rounds(&mut self, full: bool) -> u32 {
        self.round = None;
        self.before = None;
        self.early = 0;
        if full {
            return FULL_ROUNDS;
        }
        let lasting = self.lasting.unwrap_or(1.0);
        match (self.dirty, self.stop_ns, self.page_ns) {
            (Some(dirty), Some(stop), Some(page)) if lasting * dirty * page > 2.0 * stop => 1,
            _ => 0,
        }
    }

    /// Whether another round of this tick would gain nothing.
    pub fn settled(&self, full: bool) -> bool {
        if !full {
            return true;
        }
        match (self.before, self.round) {
            (_, Some(now)) if now <= FEW => true,
            (Some(before), Some(now)) => now > before / 4 * 3,
            _ => false,
        }
    }

    /// Takes in a round: pages found, how long the target stood still, how long copying took.
    pub fn round(&mut self, pages: u64, stalled: Duration, copying: Duration) {
        self.before = self.round;
        self.round = Some(pages);
        self.early += pages;
        blend(&mut self.stop_ns, stalled.as_nanos() as f64);
        if pages > 64 {
            blend(&mut self.page_ns, copying.as_nanos() as f64 / pages as f64);
        }
    }

    /// Takes in a boundary that copied `pages`.
    pub fn boundary(&mut self, pages: u64, phases: &Phases) {
        blend(&mut self.dirty, (pages + self.early) as f64);
        if self.early > 0 {
            let again = pages as f64 / self.early as f64;
            blend(&mut self.lasting, (1.0 - again).max(0.0));
        } else if let Some(lasting) = &mut self.lasting {
            // Nothing is learnt about rounds that are not made.
            *lasting = (*lasting + FORGIVENESS).min(1.0);
        }
        blend(
            &mut self.stop_ns,
            (phases.stop + phases.layout + phases.scan + phases.resume) as f64,
        );
        if pages > 64 {
            blend(&mut self.page_ns, phases.copy as f64 / pages as f64);
        }
    }
}

fn blend(average: &mut Option<f64>, value: f64) {
    *average = Some(average.map_or(value, |old| old + (value - old) * WEIGHT));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(copy: u64) -> Phases {
        Phases {
            stop: 50_000,
            scan: 200_000,
            copy,
            ..Phases::default()
        }
    }

    #[test]
    fn few_pages_are_copied_in_the_stop() {
        let mut pace = Pace::default();
        assert_eq!(pace.rounds(false), 0);
        for _ in 0..10 {
            pace.boundary(100, &phases(100_000));
            assert_eq!(pace.rounds(false), 0);
        }
    }

    #[test]
    fn many_pages_are_copied_early_until_they_become_few() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.boundary(5_000, &phases(5_000_000));
        }
        assert_eq!(pace.rounds(false), 1);
        pace.round(5_000, Duration::from_micros(250), Duration::from_millis(5));
        assert!(pace.settled(false));
        pace.boundary(80, &phases(80_000));
        assert_eq!(
            pace.rounds(false),
            1,
            "what was copied early counts as written"
        );
        for _ in 0..30 {
            pace.boundary(10, &phases(10_000));
        }
        assert_eq!(pace.rounds(false), 0);
    }

    #[test]
    fn a_target_that_writes_everything_again_is_not_copied_early() {
        let mut pace = Pace::default();
        let mut rounds = 0;
        for _ in 0..100 {
            if pace.rounds(false) > 0 {
                rounds += 1;
                pace.round(
                    16_000,
                    Duration::from_micros(300),
                    Duration::from_millis(16),
                );
            }
            pace.boundary(16_000, &phases(16_000_000));
        }
        assert!((1..30).contains(&rounds), "{rounds}");
    }

    #[test]
    fn rounds_before_a_full_checkpoint_end_when_they_stop_shrinking() {
        let mut pace = Pace::default();
        assert_eq!(pace.rounds(true), FULL_ROUNDS);
        let copying = Duration::from_millis(100);
        pace.round(100_000, Duration::from_millis(3), copying);
        assert!(!pace.settled(true));
        pace.round(20_000, Duration::from_millis(1), copying);
        assert!(!pace.settled(true));
        pace.round(18_000, Duration::from_millis(1), copying);
        assert!(pace.settled(true));
    }
}
