//! What each policy would have cost, computed from what was written when.
//!
//! A policy that runs inside a recording changes what the recording sees, and the machine is never
//! the same twice. So policies are compared here: over the exact dirty sets of a run, with stated
//! costs, and beside the *oracle*, which knows what will be written. The oracle is a lower bound
//! (it pays neither for repairs nor for leaving out runs), not a policy.

use super::{Choice, Costs, PAGE, Policy, Seen};
use crate::ranges::{Both, Cursor, divide, each_page, pages, push};
use crate::speculation::list::Random;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use stillframe_image::SpaceId;
use stillframe_image::account::Account;

/// Most pages of an interval that are taken from an account, 64 GiB: no damage shall keep us busy
/// for ever.
const MAX_DIRTY: u64 = 1 << 24;

/// End of what a process can address.
const TOP: u64 = 1 << 56;

/// One interval of a run. Lists ascending, neighbours joined, page-aligned addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Pages written in it.
    pub dirty: Vec<Range<u64>>,
    /// Those of them that were written so early that a copy taken after the boundary before would
    /// have come too late.
    pub early: Vec<Range<u64>>,
}

/// What a policy cost over a run: nanoseconds of the target's thread time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// First writes to protected pages.
    pub faults: f64,
    /// Protecting, copying and leaving out, in the boundaries.
    pub stopped: f64,
    /// Copying after the boundaries.
    pub after: f64,
    /// Conflicts and their repair.
    pub conflicts: f64,
    /// Pages copied inside boundaries because they were hot.
    pub hot: u64,
    /// Pages copied though not written.
    pub needless: u64,
    /// Boundaries followed by a repair.
    pub repairs: u64,
    /// Intervals.
    pub intervals: u64,
}

impl Spent {
    /// All of it, in microseconds per interval.
    #[must_use]
    pub fn us_per_interval(&self) -> f64 {
        let all = self.faults + self.stopped + self.after + self.conflicts;
        all / 1000.0 / (self.intervals.max(1) as f64)
    }
}

/// Runs a policy over a run.
pub fn simulate(policy: &mut dyn Policy, run: &[Interval], costs: &Costs) -> Spent {
    let mut spent = Spent::default();
    let mut choice = Choice::default();
    let mut lists = Lists::default();
    for (n, interval) in run.iter().enumerate() {
        let next_early = run.get(n + 1).map_or(&[][..], |next| &next.early);
        lists.boundary(interval, next_early, &choice, costs, &mut spent);
        policy.observe(&Seen {
            written: &lists.written,
            unprotected: &choice.unprotected,
            changed: &lists.changed,
            conflicts: &lists.conflicts,
            costs,
        });
        policy.choose(&mut choice);
        spent.intervals += 1;
    }
    spent
}

/// The state of a simulated address space, and room to work in.
#[derive(Debug, Default)]
struct Lists {
    /// Not protected during the interval.
    open: Vec<Range<u64>>,
    next_open: Vec<Range<u64>>,
    /// Open or written: what a tracker that looked everywhere would report.
    reported: Vec<Range<u64>>,
    written: Vec<Range<u64>>,
    changed: Vec<Range<u64>>,
    conflicts: Vec<Range<u64>>,
    inside: Vec<Range<u64>>,
    after: Vec<Range<u64>>,
    scratch: Vec<Range<u64>>,
}

impl Lists {
    fn boundary(
        &mut self,
        interval: &Interval,
        next_early: &[Range<u64>],
        choice: &Choice,
        costs: &Costs,
        spent: &mut Spent,
    ) {
        for list in [
            &mut self.next_open,
            &mut self.reported,
            &mut self.written,
            &mut self.changed,
            &mut self.conflicts,
            &mut self.inside,
            &mut self.after,
            &mut self.scratch,
        ] {
            list.clear();
        }
        divide(
            &interval.dirty,
            &self.open,
            &mut self.scratch,
            &mut self.after,
        );
        spent.faults += pages(&self.after) as f64 * costs.fault;
        self.after.clear();

        union(&self.open, &interval.dirty, &mut self.reported);
        divide(
            &self.reported,
            &choice.unprotected,
            &mut self.next_open,
            &mut self.written,
        );
        Both::of(&choice.unprotected, &interval.dirty).for_each(|r| push(&mut self.changed, r));
        choice.divide(&self.written, &mut self.inside, &mut self.after);
        Both::of(&self.after, next_early).for_each(|r| push(&mut self.conflicts, r));

        let (left_open, inside) = (pages(&choice.unprotected), pages(&self.inside));
        spent.hot += left_open + inside;
        spent.needless += left_open - pages(&self.changed);
        spent.stopped += (left_open + inside) as f64 * costs.stopped_copy()
            + pages(&self.written) as f64 * costs.protect * costs.threads
            + choice.unprotected.len() as f64 * costs.skip * costs.threads;
        spent.after += pages(&self.after) as f64 * costs.after;
        if !self.conflicts.is_empty() {
            spent.conflicts += pages(&self.conflicts) as f64 * costs.conflict;
            spent.conflicts += costs.repair * costs.threads;
            spent.repairs += 1;
        }
        std::mem::swap(&mut self.open, &mut self.next_open);
    }
}

/// Appends what is in `a` or in `b`.
fn union(mut a: &[Range<u64>], mut b: &[Range<u64>], out: &mut Vec<Range<u64>>) {
    loop {
        let next = match (a, b) {
            ([x, rest @ ..], [y, ..]) if x.start <= y.start => {
                a = rest;
                x
            }
            ([x, rest @ ..], []) => {
                a = rest;
                x
            }
            (_, [y, rest @ ..]) => {
                b = rest;
                y
            }
            ([], []) => return,
        };
        push(out, next.clone());
    }
}

/// One page under the oracle: the least that its past can have cost.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// If it is protected now, without its last copy.
    protected: f64,
    /// If it is not.
    open: f64,
    /// The interval it was last written in.
    last: u64,
}

/// The least that any policy can have cost over the run, microseconds per interval.
///
/// For each page by itself the cheapest sequence of decisions is found, with all of the future known,
/// by dynamic programming over its two states. Needs memory for every page the run touches.
#[must_use]
pub fn oracle(run: &[Interval], costs: &Costs) -> f64 {
    let copy = costs.stopped_copy();
    // A page found written can be copied inside the boundary at will.
    let quiet = costs.after.min(copy);
    let early = (costs.after + costs.conflict).min(copy);
    let protect = costs.protect * costs.threads;
    let mut fates: HashMap<u64, Fate> = HashMap::new();
    for (now, interval) in (0_u64..).zip(run) {
        let mut earlies = Cursor::new(&interval.early);
        for at in each_page(&interval.dirty) {
            let is_early = earlies.contains(at);
            let fate = fates.entry(at).or_insert(Fate {
                protected: -quiet,
                open: f64::INFINITY,
                last: now.wrapping_sub(2),
            });
            let gap = now.wrapping_sub(fate.last) - 1;
            let last_copy = if is_early && gap == 0 { early } else { quiet };
            let faulted = fate.protected + last_copy + costs.fault;
            let kept = fate.open + gap as f64 * copy;
            let here = faulted.min(kept);
            *fate = Fate {
                protected: here + protect,
                open: here + copy,
                last: now,
            };
        }
    }
    let total: f64 = fates
        .values()
        .map(|fate| (fate.protected + quiet).min(fate.open))
        .sum();
    total / 1000.0 / (run.len().max(1) as f64)
}

/// One line of a comparison.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the policy.
    pub policy: &'static str,
    /// What it cost.
    pub spent: Spent,
}

/// Runs all policies over a run. Gives a line for each, and the oracle's microseconds per interval.
#[must_use]
pub fn compare(run: &[Interval], costs: &Costs) -> (Vec<Row>, f64) {
    let rows = super::NAMES
        .iter()
        .filter_map(|name| {
            let mut policy = super::by_name(name)?;
            Some(Row {
                policy: name,
                spent: simulate(policy.as_mut(), run, costs),
            })
        })
        .collect();
    (rows, oracle(run, costs))
}

/// Turns the event accounts of a recording into runs, one for each address space. Only recordings
/// made with the exact dirty sets give any.
///
/// Which pages are written early is read from the fault log if there is one. If not, it is drawn:
/// each page as though its first write came at a random time of the interval, and its copy in the
/// order of addresses. Pages written all the time are in conflict more often than that.
#[derive(Debug)]
pub struct Runs {
    copy_ns: u64,
    random: Random,
    before: Option<u64>,
    runs: BTreeMap<SpaceId, Vec<Interval>>,
}

impl Runs {
    /// `copy_ns`: how long copying a page after the boundary takes.
    #[must_use]
    pub const fn new(copy_ns: u64) -> Self {
        Self {
            copy_ns,
            random: Random(3),
            before: None,
            runs: BTreeMap::new(),
        }
    }

    /// Adds the account of the next checkpoint, which was made at `at_ns`.
    pub fn add(&mut self, at_ns: u64, account: &Account) {
        let begun = self.before.replace(at_ns).unwrap_or(at_ns);
        for run in &account.dirty {
            self.runs.entry(run.space).or_default();
        }
        // The first fault on a page counts, so later ones are put in first.
        let faults: HashMap<u64, u64> = account
            .fault_log
            .iter()
            .rev()
            .map(|fault| (fault.page.saturating_mul(PAGE), fault.at_ns))
            .collect();
        for (space, run) in &mut self.runs {
            let mut dirty: Vec<Range<u64>> = Vec::new();
            let mut room = MAX_DIRTY;
            for r in account.dirty.iter().filter(|r| r.space == *space) {
                let start = r.first.saturating_mul(PAGE);
                let end = start.saturating_add(r.pages.saturating_mul(PAGE));
                // A damaged account may have them in any order, and of any length.
                let follows = dirty.last().is_none_or(|last| last.end <= start);
                if follows && end <= TOP && r.pages <= room {
                    room -= r.pages;
                    push(&mut dirty, start..end);
                }
            }
            let mut early = Vec::new();
            let last = run.last().map_or(&[][..], |last| &last.dirty);
            let length = at_ns.saturating_sub(begun).max(1);
            let mut is_dirty = Cursor::new(&dirty);
            for (n, at) in (1_u64..).zip(each_page(last)) {
                let copied = n.saturating_mul(self.copy_ns);
                let conflict = is_dirty.contains(at)
                    && match faults.get(&at) {
                        Some(fault) => fault.saturating_sub(begun) < copied,
                        None => faults.is_empty() && self.random.below(length) < copied,
                    };
                if conflict {
                    push(&mut early, at..at + PAGE);
                }
            }
            run.push(Interval { dirty, early });
        }
    }

    /// The runs. That of an address space begins with the first interval in which it was written.
    #[must_use]
    pub fn finish(self) -> BTreeMap<SpaceId, Vec<Interval>> {
        self.runs
    }
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]
mod tests {
    use super::*;
    use stillframe_image::account::{DirtyRun, Fault};

    fn account(runs: &[(u32, u64, u64)]) -> Account {
        Account {
            dirty: runs
                .iter()
                .map(|&(space, first, pages)| DirtyRun {
                    space: SpaceId(space),
                    first,
                    pages,
                })
                .collect(),
            ..Account::default()
        }
    }

    #[test]
    fn accounts_become_runs_of_each_space() {
        let mut runs = Runs::new(1000);
        runs.add(0, &account(&[(1, 5, 2)]));
        runs.add(1_000_000, &account(&[(1, 5, 1), (2, 9, 1)]));
        let mut logged = account(&[(1, 5, 1), (2, 9, 1)]);
        let fault = |page, at_ns| Fault {
            tid: 1,
            at_ns,
            page,
        };
        logged.fault_log = vec![
            fault(9, 1_000_500),
            fault(5, 1_900_000),
            fault(9, 1_999_999),
        ];
        runs.add(2_000_000, &logged);
        // Damage: overlapping, and beyond all addresses.
        runs.add(
            3_000_000,
            &account(&[(1, 5, 2), (1, 6, 2), (1, u64::MAX / 2, u64::MAX)]),
        );
        let runs = runs.finish();
        let first = &runs[&SpaceId(1)];
        let page = |n: u64| n * PAGE..(n + 1) * PAGE;
        assert_eq!(first.len(), 4);
        assert_eq!(first[0].dirty, [5 * PAGE..7 * PAGE]);
        assert_eq!(first[3].dirty, [5 * PAGE..7 * PAGE]);
        assert!(first[2].early.is_empty(), "written late");
        let second = &runs[&SpaceId(2)];
        assert_eq!(second.len(), 3);
        assert_eq!(second[1].early, [page(9)], "written before its copy");
    }
}
