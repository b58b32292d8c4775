//! Whether to copy in the stop or after it.
//!
//! Copied in the stop, a page costs the target the time of the copy. Copied after it, it costs
//! nothing, unless the target writes it first: then the boundary has to be made again, and what
//! was copied so far serves as a pre-copy round. So copying after pays as long as the stops that
//! conflicts cost are shorter than the copies they save; both are measured as the recording runs.

use crate::options::Copying;
use crate::speculation::Costs;
use stillframe_image::Phases;

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.1;

/// How fast belief in copying after comes back while it is not tried, per tick.
const FORGIVENESS: f64 = 0.01;

/// As many pages are copied in the stop without further thought: the copy takes as long as the
/// interrupts that stop a thread.
const FEW: u64 = 16;

/// More pages are copied for so long that a failure is remembered better: its weight is this.
const MANY: u64 = 4096;
const DEAR: f64 = 0.5;

/// Measurements of recent boundaries.
#[derive(Debug)]
pub struct Strategy {
    wish: Copying,
    /// Chance that a boundary whose pages are copied after it has to be made again.
    conflict: f64,
    /// Nanoseconds for stop, look and resume.
    stop_ns: f64,
    /// Nanoseconds to copy a page in the stop.
    page_ns: f64,
    /// Pages that a boundary made again had to copy, for each that the first had.
    again: f64,
    /// Pages of the last boundary that conflicted.
    failed: u64,
    processors: usize,
}

impl Strategy {
    /// As the user wishes, with what is typical as long as nothing has been measured. `processors`:
    /// of this machine.
    pub const fn new(wish: Copying, processors: usize) -> Self {
        Self {
            wish,
            conflict: 0.1,
            stop_ns: 300_000.0,
            page_ns: 1000.0,
            again: 0.2,
            failed: 0,
            processors,
        }
    }

    /// Whether `dirty` pages are better copied after the boundary.
    pub fn after(&mut self, dirty: u64) -> bool {
        match self.wish {
            Copying::Now => false,
            Copying::After => dirty > 0,
            Copying::Auto if dirty <= FEW => false,
            Copying::Auto => {
                let now = dirty as f64 * self.page_ns;
                let after = self.conflict * (self.stop_ns + self.again * now);
                if after < now {
                    return true;
                }
                self.conflict *= 1.0 - FORGIVENESS;
                false
            }
        }
    }

    /// A boundary whose `pages` were copied after it: whether it stands.
    pub fn copied_after(&mut self, pages: u64, stands: bool) {
        self.failed = if stands { 0 } else { pages };
        let weight = if pages > MANY { DEAR } else { WEIGHT };
        self.conflict += (f64::from(u8::from(!stands)) - self.conflict) * weight;
    }

    /// What things cost now, for the choice of hot pages. `after`: whether pages are copied after
    /// the boundary. `running`: threads that would otherwise run. `saves`: whether conflicts are
    /// repaired from what the tracker saved. `logs`: whether it knows what was written without
    /// looking at everything.
    pub fn costs(&self, after: bool, running: usize, saves: bool, logs: bool) -> Costs {
        let usual = Costs::default();
        let costs = Costs {
            copy: self.page_ns,
            // Where the target fills the processors, it pays for our time, too.
            after: if running >= self.processors {
                self.page_ns
            } else {
                usual.after
            },
            repair: if saves { 0.0 } else { self.stop_ns },
            skip: if logs { 0.0 } else { usual.skip },
            threads: running.max(1) as f64,
            ..usual
        };
        if after { costs } else { costs.all_in_stop() }
    }

    /// A boundary: pages copied in it, its phases, and whether it was made again.
    pub fn boundary(&mut self, copied: u64, phases: &Phases, again: bool) {
        let stop = phases.stop + phases.layout + phases.scan + phases.threads + phases.resume;
        blend(&mut self.stop_ns, stop as f64);
        if copied > 64 {
            blend(&mut self.page_ns, phases.copy as f64 / copied as f64);
        }
        if again && self.failed > 0 {
            blend(&mut self.again, copied as f64 / self.failed as f64);
        }
    }
}

fn blend(average: &mut f64, value: f64) {
    *average += (value - *average) * WEIGHT;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pages_are_copied_in_the_stop_and_many_after_it() {
        let mut strategy = Strategy::new(Copying::Auto, 2);
        assert!(!strategy.after(3));
        assert!(strategy.after(1000));
    }

    #[test]
    fn a_target_that_always_conflicts_is_copied_in_the_stop_and_tried_again_later() {
        let mut strategy = Strategy::new(Copying::Auto, 2);
        let mut tried = 0;
        for _ in 0..1000 {
            if strategy.after(200) {
                tried += 1;
                strategy.copied_after(200, false);
            }
        }
        assert!((5..200).contains(&tried), "{tried}");
        // It has changed its ways.
        let mut tried = 0;
        for _ in 0..1000 {
            if strategy.after(200) {
                tried += 1;
                strategy.copied_after(200, true);
            }
        }
        assert!(tried > 800, "{tried}");
    }

    #[test]
    fn a_target_that_writes_everything_again_is_copied_in_the_stop_however_much_it_is() {
        let mut strategy = Strategy::new(Copying::Auto, 2);
        let phases = Phases {
            stop: 100_000,
            copy: 30_000_000,
            ..Phases::default()
        };
        let mut tried = 0;
        for _ in 0..1000 {
            if strategy.after(30_000) {
                tried += 1;
                strategy.copied_after(30_000, false);
                strategy.boundary(36_000, &phases, true);
            }
        }
        assert!((5..200).contains(&tried), "{tried}");
    }

    #[test]
    fn the_user_has_the_last_word() {
        assert!(!Strategy::new(Copying::Now, 2).after(100_000));
        assert!(Strategy::new(Copying::After, 2).after(1));
    }
}
