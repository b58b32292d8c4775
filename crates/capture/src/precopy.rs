//! When pre-copy pays.
//!
//! A round costs the target one more stop (find, protect, go) and saves it from standing still
//! while the pages found are copied. So it pays when copying takes clearly longer than stopping
//! and scanning; both are measured as the recording runs.
//!
//! One round is mostly enough. Where very much is written, copying it takes so long that much is
//! written again meanwhile; then rounds follow each other as long as each finds clearly less than
//! the one before, so that the stop does not grow with what was written. A target that writes as fast
//! as it is copied is slowed down instead of being stopped for as long as copying takes: in throttled
//! rounds it stands still for half of the time, a few milliseconds at once.

use std::time::Duration;
use stillframe_image::Phases;

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.25;

/// How much belief in rounds comes back per tick without one.
const FORGIVENESS: f64 = 0.002;

/// Most rounds before a boundary.
const ROUNDS: u32 = 16;

/// A round that found no more than this many pages leaves little for the boundary.
const FEW: u64 = 1024;

/// The same for the first round before an ordinary boundary: each further one protects pages that
/// are written again, which costs the target a fault more.
const ENOUGH: u64 = 16_384;

/// As many are copied in the stop rather than in a throttled round.
const STOPPED: u64 = 4096;

/// Throttled rounds before a boundary, at most.
const THROTTLED: u32 = 8;

/// What is best done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another round.
    Round,
    /// Another round, with the target slowed down.
    Throttled,
    /// The boundary: a round would gain nothing.
    Boundary,
}

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
    /// Rounds of this tick that found about as much as the one before.
    vain: u32,
    throttled: u32,
    early: u64,
}

impl Pace {
    /// Rounds to make before the next boundary, at most.
    pub fn rounds(&mut self, full: bool) -> u32 {
        self.round = None;
        self.before = None;
        self.vain = 0;
        self.throttled = 0;
        self.early = 0;
        if full {
            return ROUNDS;
        }
        let lasting = self.lasting.unwrap_or(1.0);
        match (self.dirty, self.stop_ns, self.page_ns) {
            (Some(dirty), Some(stop), Some(page)) if lasting * dirty * page > 2.0 * stop => ROUNDS,
            _ => 0,
        }
    }

    /// What is best done next for this tick.
    pub const fn next(&mut self, full: bool) -> Next {
        let Some(now) = self.round else {
            return Next::Round;
        };
        if now <= FEW || (self.before.is_none() && !full && now <= ENOUGH) {
            return Next::Boundary;
        }
        // The first may have been slow for the memory it had to be given.
        if self.vain <= full as u32 {
            return Next::Round;
        }
        if now <= STOPPED || self.throttled >= THROTTLED {
            return Next::Boundary;
        }
        self.throttled += 1;
        Next::Throttled
    }

    /// Takes in a round: pages found, how long the target stood still, how long copying took.
    /// `waited`: for the store, too, so that the next round will not find less.
    pub fn round(&mut self, pages: u64, stalled: Duration, copying: Duration, waited: bool) {
        self.early += pages;
        blend(&mut self.stop_ns, stalled.as_nanos() as f64);
        if waited {
            return;
        }
        self.before = self.round;
        self.round = Some(pages);
        if self.before.is_some_and(|before| pages > before / 4 * 3) {
            self.vain += 1;
        }
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
        assert!(pace.rounds(false) > 0);
        let (stop, copying) = (Duration::from_micros(250), Duration::from_millis(5));
        pace.round(5_000, stop, copying, false);
        assert_eq!(pace.next(false), Next::Boundary);
        pace.boundary(80, &phases(80_000));
        assert!(
            pace.rounds(false) > 0,
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
                let (stop, copying) = (Duration::from_micros(300), Duration::from_millis(16));
                pace.round(16_000, stop, copying, false);
            }
            pace.boundary(16_000, &phases(16_000_000));
        }
        assert!((1..30).contains(&rounds), "{rounds}");
    }

    #[test]
    fn rounds_before_a_full_checkpoint_end_when_they_stop_shrinking() {
        let mut pace = Pace::default();
        assert_eq!(pace.rounds(true), ROUNDS);
        let (stop, copying) = (Duration::from_millis(1), Duration::from_millis(100));
        // The store was slower than the target: nothing is learnt from that.
        pace.round(100_000, stop, 10 * copying, true);
        assert_eq!(pace.next(true), Next::Round);
        pace.round(100_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Round);
        pace.round(20_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Round);
        pace.round(18_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Round);
        pace.round(17_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Throttled);
        pace.round(9_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Throttled);
        pace.round(4_000, stop, copying, false);
        assert_eq!(pace.next(true), Next::Boundary);
    }

    #[test]
    fn a_target_that_cannot_be_caught_up_with_is_stopped_in_the_end() {
        let mut pace = Pace::default();
        pace.rounds(true);
        let (stop, copying) = (Duration::from_millis(1), Duration::from_millis(100));
        let mut throttled = 0;
        loop {
            match pace.next(true) {
                Next::Round => {}
                Next::Throttled => throttled += 1,
                Next::Boundary => break,
            }
            pace.round(200_000, stop, copying, false);
        }
        assert_eq!(throttled, THROTTLED);
    }

    #[test]
    fn rounds_follow_each_other_where_very_much_is_written() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.boundary(200_000, &phases(200_000_000));
        }
        assert_eq!(pace.rounds(false), ROUNDS);
        let mut pages = 200_000;
        let mut rounds = 0;
        loop {
            pace.round(
                pages,
                Duration::from_millis(1),
                Duration::from_nanos(pages * 1000),
                false,
            );
            rounds += 1;
            if pace.next(false) == Next::Boundary {
                break;
            }
            pages /= 2;
        }
        assert!(
            pages <= FEW && rounds <= ROUNDS + 1,
            "{pages} after {rounds}"
        );
    }
}
