//! Keeping the account of an interval while it goes on.
//!
//! Everything is written down outside the stops; what a stop has to remember it hands over when
//! the target runs again.

use std::ops::Range;
use std::time::Instant;
use stillframe_image::account::{
    Account, DirtyRun, Fault, HEAT_PAGES, Heat, Skip, SkipReason, StopKind, StopRecord,
};
use stillframe_image::{PAGE_SIZE, SpaceId};
use stillframe_linux::sched::monotonic_ns;

/// Stops and skips noted in one interval, each. What is beyond is in the sums of the tick.
const NOTED: usize = 4096;

/// Single runs of pages noted in one interval where the user wants them all: 64 MiB of account.
const RUNS: usize = 1 << 20;

/// The account of the interval that goes on.
#[derive(Debug)]
pub struct Ledger {
    origin: Instant,
    /// The same by CLOCK_MONOTONIC.
    origin_ns: u64,
    account: Account,
    /// Where runs of pages found written begin (+1) and end (-1), in page numbers, for all looks.
    edges: Vec<(SpaceId, u64, i32)>,
    /// Whether every single page is noted.
    exact: bool,
}

impl Ledger {
    /// Over a recording that begins at `origin`. `exact`: note which pages were written.
    pub fn new(origin: Instant, exact: bool) -> Self {
        Self {
            origin,
            origin_ns: monotonic_ns().saturating_sub(nanos(origin.elapsed())),
            account: Account::default(),
            edges: Vec::new(),
            exact,
        }
    }

    /// Nanoseconds since the recording began.
    pub fn at(&self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.origin))
    }

    /// The account so far.
    pub const fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Notes a stop that began at `begun` and lasted `pause_ns`.
    pub fn stop(&mut self, kind: StopKind, begun: Instant, pause_ns: u64, pages: u64) {
        let at_ns = self.at(begun);
        if self.account.stops.len() < NOTED || kind == StopKind::Boundary {
            self.account.stops.push(StopRecord {
                kind,
                at_ns,
                pause_ns,
                pages,
            });
        }
    }

    /// Notes ticks that are not taken.
    pub fn skip(&mut self, ticks: u32, reason: SkipReason) {
        let at_ns = self.at(Instant::now());
        let room = self.account.skips.len() < NOTED;
        match self.account.skips.last_mut() {
            Some(last) if last.reason == reason => last.ticks = last.ticks.saturating_add(ticks),
            _ if room => self.account.skips.push(Skip {
                at_ns,
                ticks,
                reason,
            }),
            _ => {}
        }
    }

    /// Notes pages found written at one look.
    pub fn look(&mut self, space: SpaceId, dirty: &[Range<u64>]) {
        for range in dirty {
            let (first, end) = (range.start / PAGE_SIZE as u64, range.end / PAGE_SIZE as u64);
            self.edges.push((space, first, 1));
            self.edges.push((space, end, -1));
            self.account.faults.write += end - first;
        }
    }

    /// Notes faults that a tracker saw. `logged` moves as many as there is room for, gives the number
    /// there were, and times them by CLOCK_MONOTONIC. `room`: in this interval.
    pub fn faults(&mut self, logged: impl FnOnce(&mut Vec<Fault>, usize) -> u64, room: usize) {
        let log = &mut self.account.fault_log;
        let before = log.len();
        let count = logged(log, room.saturating_sub(before));
        for fault in &mut log[before..] {
            fault.at_ns = fault.at_ns.saturating_sub(self.origin_ns);
        }
        self.account.faults.logged += count;
        let kept = (log.len() - before) as u64;
        if room > 0 {
            self.account.faults_dropped += count.saturating_sub(kept);
        }
    }

    /// Ends the interval.
    pub fn close(&mut self) -> Account {
        let mut account = std::mem::take(&mut self.account);
        self.edges.sort_unstable();
        let mut place = (SpaceId(0), 0);
        let mut depth = 0i32;
        for (space, page, step) in self.edges.drain(..) {
            if depth > 0 {
                note(&mut account, self.exact, place, page - place.1, depth);
            }
            depth += step;
            place = (space, page);
        }
        account
    }
}

/// Notes a run of pages that were found written in `depth` looks.
fn note(account: &mut Account, exact: bool, place: (SpaceId, u64), pages: u64, depth: i32) {
    if pages == 0 {
        return;
    }
    let looks = usize::try_from(depth).unwrap_or(1);
    if account.repeats.len() < looks {
        account.repeats.resize(looks, 0);
    }
    let count = u32::try_from(pages).unwrap_or(u32::MAX);
    account.repeats[looks - 1] = account.repeats[looks - 1].saturating_add(count);
    let (space, first) = place;
    let mut at = first;
    while at < first + pages {
        let cell = at / HEAT_PAGES;
        let end = ((cell + 1) * HEAT_PAGES).min(first + pages);
        let count = u32::try_from(end - at).unwrap_or(0);
        match account.heat.last_mut() {
            Some(last) if (last.space, last.cell) == (space, cell) => last.pages += count,
            _ => account.heat.push(Heat {
                space,
                cell,
                pages: count,
            }),
        }
        at = end;
    }
    if exact {
        let room = account.dirty.len() < RUNS;
        match account.dirty.last_mut() {
            Some(last) if last.space == space && last.first + last.pages == first => {
                last.pages += pages;
            }
            _ if room => account.dirty.push(DirtyRun {
                space,
                first,
                pages,
            }),
            _ => {}
        }
    }
}

pub fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn range(first: u64, end: u64) -> Range<u64> {
        first * PAGE..end * PAGE
    }

    #[test]
    fn repeats_heat_and_runs_follow_from_the_looks() {
        let mut ledger = Ledger::new(Instant::now(), true);
        ledger.look(SpaceId(0), &[range(500, 520), range(600, 601)]);
        ledger.look(SpaceId(0), &[range(510, 515)]);
        ledger.look(SpaceId(1), &[range(3, 4)]);
        ledger.stop(StopKind::Boundary, Instant::now(), 5, 26);
        ledger.skip(1, SkipReason::Late);
        ledger.skip(2, SkipReason::Late);
        let account = ledger.close();
        assert_eq!(account.repeats, [15 + 1 + 1, 5]);
        assert_eq!(account.faults.write, 27);
        let cell = |space, cell, pages| Heat {
            space: SpaceId(space),
            cell,
            pages,
        };
        assert_eq!(account.heat, [cell(0, 0, 12), cell(0, 1, 9), cell(1, 0, 1)]);
        let run = |space, first, pages| DirtyRun {
            space: SpaceId(space),
            first,
            pages,
        };
        assert_eq!(
            account.dirty,
            [run(0, 500, 20), run(0, 600, 1), run(1, 3, 1)]
        );
        assert_eq!(account.skips.len(), 1);
        assert_eq!(account.skips[0].ticks, 3);
        assert_eq!(account.stops.len(), 1);
        assert_eq!(ledger.close(), Account::default());
    }
}
