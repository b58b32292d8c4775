//! What the event accounts of a run add up to: faults, hot pages, copies after the boundary, every
//! stop, every thread's stall, and why ticks were not taken.

use crate::stats::Distribution;
use serde::Serialize;
use stillframe_image::account::{Account, SkipReason, StopKind};

/// Sums over the accounts of some runs.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    sums: Sums,
    /// Stops beside the boundary, microseconds each.
    other_stops: Vec<f64>,
    /// Stalls of single threads at boundaries, microseconds.
    stalls: Vec<f64>,
}

/// Plain sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// First writes to protected pages.
    pub faults: u64,
    /// Pages copied inside the boundary because they were expected to be written again.
    pub hot_copied: u64,
    /// Of those left unprotected: changed.
    pub hot_hits: u64,
    /// Of those left unprotected: not changed.
    pub hot_misses: u64,
    /// Pages copied after the boundary.
    pub after_copied: u64,
    /// Pages written before that copy was taken.
    pub conflicts: u64,
    /// Of those, had from the content saved at the fault.
    pub pre_images: u64,
    /// Stops for pre-copy.
    pub precopy_stops: u64,
    /// Stops because of a conflict, and boundaries given up.
    pub conflict_stops: u64,
    /// Stops to read state by calls made inside the target.
    pub completion_stops: u64,
    /// Ticks not taken: the one before took too long.
    pub skipped_late: u64,
    /// Ticks not taken: the store had no room.
    pub skipped_store: u64,
    /// Ticks not taken: the target could not be stopped in time.
    pub skipped_not_stopped: u64,
    /// Ticks not taken: to keep a budget.
    pub skipped_budget: u64,
}

/// What reports say of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AccountFigures {
    /// Sums.
    #[serde(flatten)]
    pub sums: Sums,
    /// Faults per second of the measured time.
    pub faults_per_second: f64,
    /// Single stops beside the boundary, microseconds.
    pub other_stops_us: Distribution,
    /// Stalls of single threads at boundaries, microseconds.
    pub stall_us: Distribution,
}

impl Accounts {
    /// Takes the account of one interval in.
    pub fn add(&mut self, account: &Account) {
        let s = &mut self.sums;
        s.faults += account.faults.write;
        s.hot_copied += account.hot.copied;
        s.hot_hits += account.hot.hits;
        s.hot_misses += account.hot.misses;
        s.after_copied += account.after.copied;
        s.conflicts += account.after.conflicts;
        s.pre_images += account.after.pre_images;
        for stop in &account.stops {
            match stop.kind {
                StopKind::Boundary => continue,
                StopKind::Precopy => s.precopy_stops += 1,
                StopKind::Conflict => s.conflict_stops += 1,
                StopKind::Completion => s.completion_stops += 1,
            }
            self.other_stops.push(stop.pause_ns as f64 / 1e3);
        }
        for stall in &account.stalls {
            let ns = stall.resumed_ns.saturating_sub(stall.stopped_ns);
            self.stalls.push(ns as f64 / 1e3);
        }
        for skip in &account.skips {
            let sum = match skip.reason {
                SkipReason::Late => &mut s.skipped_late,
                SkipReason::Store => &mut s.skipped_store,
                SkipReason::NotStopped => &mut s.skipped_not_stopped,
                SkipReason::Budget => &mut s.skipped_budget,
            };
            *sum += u64::from(skip.ticks);
        }
    }

    /// Takes those of another run in.
    pub fn merge(&mut self, other: &Self) {
        let (s, o) = (&mut self.sums, &other.sums);
        for (sum, more) in [
            (&mut s.faults, o.faults),
            (&mut s.hot_copied, o.hot_copied),
            (&mut s.hot_hits, o.hot_hits),
            (&mut s.hot_misses, o.hot_misses),
            (&mut s.after_copied, o.after_copied),
            (&mut s.conflicts, o.conflicts),
            (&mut s.pre_images, o.pre_images),
            (&mut s.precopy_stops, o.precopy_stops),
            (&mut s.conflict_stops, o.conflict_stops),
            (&mut s.completion_stops, o.completion_stops),
            (&mut s.skipped_late, o.skipped_late),
            (&mut s.skipped_store, o.skipped_store),
            (&mut s.skipped_not_stopped, o.skipped_not_stopped),
            (&mut s.skipped_budget, o.skipped_budget),
        ] {
            *sum += more;
        }
        self.other_stops.extend_from_slice(&other.other_stops);
        self.stalls.extend_from_slice(&other.stalls);
    }

    /// The figures, of `seconds` of measured time.
    pub fn figures(self, seconds: f64) -> AccountFigures {
        AccountFigures {
            sums: self.sums,
            faults_per_second: if seconds > 0.0 {
                self.sums.faults as f64 / seconds
            } else {
                0.0
            },
            other_stops_us: Distribution::of(self.other_stops),
            stall_us: Distribution::of(self.stalls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::account::{Skip, StopRecord, ThreadStall};

    #[test]
    fn accounts_add_up() {
        let mut account = Account::default();
        account.faults.write = 5;
        account.hot.hits = 2;
        account.after.conflicts = 1;
        for (kind, pause_ns) in [
            (StopKind::Precopy, 10_000),
            (StopKind::Conflict, 30_000),
            (StopKind::Boundary, 900_000),
        ] {
            account.stops.push(StopRecord {
                kind,
                pause_ns,
                ..StopRecord::default()
            });
        }
        account.stalls.push(ThreadStall {
            stopped_ns: 1000,
            resumed_ns: 51_000,
            ..ThreadStall::default()
        });
        for (reason, ticks) in [(SkipReason::Late, 3), (SkipReason::Store, 4)] {
            account.skips.push(Skip {
                at_ns: 0,
                ticks,
                reason,
            });
        }
        let mut one = Accounts::default();
        one.add(&account);
        one.add(&account);
        let mut all = one.clone();
        all.merge(&one);
        let f = all.figures(2.0);
        assert_eq!(
            (f.sums.faults, f.sums.hot_hits, f.sums.conflicts),
            (20, 8, 4)
        );
        assert_eq!((f.sums.precopy_stops, f.sums.conflict_stops), (4, 4));
        assert_eq!((f.sums.skipped_late, f.sums.skipped_store), (12, 16));
        assert_eq!((f.other_stops_us.max, f.stall_us.p50), (30.0, 50.0));
        assert_eq!(f.faults_per_second, 10.0);
    }
}
