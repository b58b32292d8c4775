//! The default: per page, how likely it is to be written, weighed with measured costs.
//!
//! For each candidate we keep a decayed chance of being written in an interval and a decayed chance
//! of conflict if copied after the boundary. With the costs of the moment these say which class is
//! cheapest. Three things keep it from ever being dearer than choosing nothing:
//!
//! - A page becomes a candidate only when written in two intervals running, or in conflict. So the
//!   table stays small under random writes, and the work follows the dirty set.
//! - *Accounts are kept*: what unprotected pages saved and cost, by their checksums. If the decayed
//!   balance falls clearly below zero, because the past does not tell the future, no page is left
//!   unprotected for a while, longer each time.
//! - Whether a page would still be in conflict cannot be seen while it is copied inside the
//!   boundary. So once in a while, when what that has cost amounts to many repairs, one boundary
//!   copies all such pages after it, and who conflicts is seen anew.

use super::ranges::{Both, Cursor, each_page, pages, push};
use super::{Choice, Costs, PAGE, Policy, Seen};
use std::ops::Range;

/// Most candidates: 64 MiB of memory, half a megabyte of ours.
const MAX_PAGES: usize = 16_384;

/// Most runs of written pages that are remembered for the next boundary.
const MAX_RUNS: usize = 65_536;

/// Weight of the newest interval in a page's chances.
const WEIGHT: f32 = 1.0 / 8.0;

/// Chance given to a new candidate.
const PRIOR: f32 = 0.5;

/// Below this chance a page is no longer a candidate.
const FLOOR: f32 = 0.05;

/// How much better than protecting it leaving a page unprotected must look at first, as a part of
/// the cost of its copy.
const MARGIN: f64 = 0.1;

/// Weight of the newest interval in the balance.
const BALANCE_WEIGHT: f64 = 1.0 / 32.0;

/// Intervals of rest after the first bad balance, doubled each time.
const REST: u32 = 32;

/// Doublings at most.
const MAX_STRIKES: u32 = 6;

/// Repairs that copying likely conflicts inside the boundary must have cost before a probe.
const PROBE: f64 = 32.0;

/// Most that the cost between probes is multiplied by when probes find only conflicts.
const MAX_PATIENCE: f64 = 16.0;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    #[default]
    Cold,
    Protected,
    Unprotected,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    address: u64,
    /// Chance of being written in an interval.
    chance: f32,
    /// Chance of conflict when copied after a boundary.
    early: f32,
    /// What was chosen last, and before that.
    class: Class,
    before: Class,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Adaptive {
    /// Candidates, ascending.
    table: Vec<Page>,
    next: Vec<Page>,
    /// Written at the boundary before.
    previous: Vec<Range<u64>>,
    costs: Costs,
    /// Conflicts per boundary that has any.
    crowd: f64,
    /// What leaving pages unprotected has gained per interval, decayed.
    balance: f64,
    /// Boundaries until pages are left unprotected again.
    rest: u32,
    strikes: u32,
    /// What copying likely conflicts inside boundaries has cost since the last probe.
    spent: f64,
    patience: f64,
    /// The last choice was a probe of this many pages.
    probe: Option<u32>,
    /// Varies which pages are left out when there are too many.
    turn: usize,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            table: Vec::new(),
            next: Vec::new(),
            previous: Vec::new(),
            costs: Costs::default(),
            crowd: 1.0,
            balance: 0.0,
            rest: 0,
            strikes: 0,
            spent: 0.0,
            patience: 1.0,
            probe: None,
            turn: 0,
        }
    }
}

impl Policy for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        self.costs = *seen.costs;
        let conflicts = pages(seen.conflicts);
        if conflicts > 0 {
            self.crowd += (conflicts as f64 - self.crowd) / 8.0;
        }
        let probed_conflicts = self.learn(seen);
        self.judge_probe(probed_conflicts);
        self.judge_balance(seen);
        self.admit(seen);
        self.previous.clear();
        let kept = seen.written.len().min(MAX_RUNS);
        self.previous.extend_from_slice(&seen.written[..kept]);
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        let costs = self.costs;
        let probe =
            self.spent > PROBE * self.patience * costs.repair * costs.threads && costs.repair > 0.0;
        let mut probed = 0;
        let resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        let crowd = self.crowd.max(1.0);
        let mut from = 0;
        while from < self.table.len() {
            // A run of neighbours that all look worth it shares the cost of leaving it out.
            let mut gain = 0.0;
            let mut to = from;
            while let Some(page) = self.table.get(to) {
                let adjacent = to == from || self.table[to - 1].address + PAGE == page.address;
                let more = if adjacent && !resting {
                    gain_unprotected(page, &costs, crowd)
                } else {
                    0.0
                };
                if more <= 0.0 {
                    break;
                }
                gain += more;
                to += 1;
            }
            let unprotected = gain > costs.skip * costs.threads;
            let to = to.max(from + 1);
            for page in &mut self.table[from..to] {
                page.before = page.class;
                page.class = if unprotected {
                    Class::Unprotected
                } else if conflict_cost(page, &costs, crowd) > costs.stopped_copy() {
                    probed += 1;
                    if probe { Class::Cold } else { Class::Protected }
                } else {
                    Class::Cold
                };
                let run = page.address..page.address + PAGE;
                match page.class {
                    Class::Cold => {}
                    Class::Protected => push(&mut out.protected, run),
                    Class::Unprotected => push(&mut out.unprotected, run),
                }
            }
            from = to;
        }
        self.probe = probe.then_some(probed);
        if probe {
            self.spent = 0.0;
        }
    }

    fn forget(&mut self, range: Range<u64>) {
        self.table.retain(|p| !range.contains(&p.address));
        if self
            .previous
            .iter()
            .any(|r| r.start < range.end && range.start < r.end)
        {
            self.previous.clear();
        }
    }
}

impl Adaptive {
    /// Updates the chances of all candidates and drops the hopeless. Gives the conflicts of pages
    /// that a probe had left to be copied after the boundary.
    fn learn(&mut self, seen: &Seen<'_>) -> u32 {
        let mut written = Cursor::new(seen.written);
        let mut unprotected = Cursor::new(seen.unprotected);
        let mut changed = Cursor::new(seen.changed);
        let mut conflicts = Cursor::new(seen.conflicts);
        let probing = self.probe.is_some();
        let extra = self.costs.stopped_copy() - self.costs.after;
        let (mut spent, mut found) = (0.0, 0);
        self.table.retain_mut(|page| {
            let at = page.address;
            let is_written = written.contains(at);
            let is_changed = changed.contains(at);
            let conflict = conflicts.contains(at);
            let evidence = if unprotected.contains(at) {
                Some(is_changed)
            } else if page.class == Class::Unprotected || page.before == Class::Unprotected {
                // Not protected, hence reported as written in any case; or not known yet.
                None
            } else {
                Some(is_written)
            };
            if let Some(hit) = evidence {
                page.chance += (f32::from(u8::from(hit)) - page.chance) * WEIGHT;
            }
            if conflict {
                page.early += (1.0 - page.early) / 2.0;
                found += u32::from(probing);
            } else if is_written && page.class == Class::Cold {
                page.early *= if probing { 0.25 } else { 0.75 };
            } else if is_written && page.class == Class::Protected {
                spent += extra;
            }
            page.chance >= FLOOR
        });
        self.spent += spent;
        found
    }

    /// After a probe: probes that find mostly conflicts are made more rarely.
    fn judge_probe(&mut self, conflicts: u32) {
        let Some(probed) = self.probe.take() else {
            return;
        };
        self.patience = if conflicts * 2 >= probed {
            (self.patience * 2.0).min(MAX_PATIENCE)
        } else {
            1.0
        };
    }

    /// Keeps the account of the unprotected pages.
    fn judge_balance(&mut self, seen: &Seen<'_>) {
        if seen.unprotected.is_empty() {
            return;
        }
        let costs = &self.costs;
        let copied = pages(seen.unprotected) as f64;
        let hits = pages(seen.changed) as f64;
        let saved = hits * (costs.tracked_write() + costs.after.min(costs.stopped_copy()));
        let paid = copied * costs.stopped_copy()
            + seen.unprotected.len() as f64 * costs.skip * costs.threads;
        self.balance += (saved - paid - self.balance) * BALANCE_WEIGHT;
        let slack = costs.stopped_copy();
        if self.balance < -slack {
            self.rest = REST << self.strikes;
            self.strikes = (self.strikes + 1).min(MAX_STRIKES);
            self.balance = 0.0;
            for page in &mut self.table {
                page.chance = page.chance.min(PRIOR);
            }
        } else if self.balance > slack {
            self.strikes = 0;
        }
    }

    /// Makes candidates of pages written twice running and of conflicts.
    fn admit(&mut self, seen: &Seen<'_>) {
        let fresh: u64 = Both::of(seen.written, &self.previous)
            .map(|r| (r.end - r.start) / PAGE)
            .sum::<u64>()
            + pages(seen.conflicts);
        if fresh == 0 {
            return;
        }
        let room = MAX_PAGES.saturating_sub(self.table.len());
        let fresh = usize::try_from(fresh).unwrap_or(usize::MAX);
        // Too many: every n-th, others the next time.
        let stride = fresh.div_ceil(room.max(1)).max(1);
        self.turn = self.turn.wrapping_add(1);
        let mut count = self.turn % stride;
        let mut room = room;

        self.next.clear();
        let mut old = self.table.iter().copied().peekable();
        let mut twice = Both::of(seen.written, &self.previous)
            .flat_map(page_range)
            .peekable();
        let mut conflicts = each_page(seen.conflicts).peekable();
        loop {
            let at = match (twice.peek(), conflicts.peek()) {
                (Some(a), Some(b)) => (*a).min(*b),
                (Some(a), None) | (None, Some(a)) => *a,
                (None, None) => break,
            };
            twice.next_if_eq(&at);
            let conflict = conflicts.next_if_eq(&at).is_some();
            while let Some(page) = old.next_if(|p| p.address < at) {
                self.next.push(page);
            }
            if old.peek().is_some_and(|p| p.address == at) || room == 0 {
                continue;
            }
            if count == 0 {
                self.next.push(Page {
                    address: at,
                    chance: PRIOR,
                    early: if conflict { 0.5 } else { 0.0 },
                    class: Class::Cold,
                    before: Class::Cold,
                });
                room -= 1;
                count = stride;
            }
            count -= 1;
        }
        self.next.extend(old);
        std::mem::swap(&mut self.table, &mut self.next);
    }
}

/// What copying the page after the boundary is expected to cost when it is written.
fn conflict_cost(page: &Page, costs: &Costs, crowd: f64) -> f64 {
    let repair = costs.repair * costs.threads / crowd + costs.conflict;
    costs.after + f64::from(page.early) * repair
}

/// What leaving the page unprotected is expected to gain per interval. Stays with what was chosen
/// unless the other is clearly better.
fn gain_unprotected(page: &Page, costs: &Costs, crowd: f64) -> f64 {
    let copy = costs.stopped_copy();
    let otherwise = conflict_cost(page, costs, crowd).min(copy);
    let gain = f64::from(page.chance) * (costs.tracked_write() + otherwise) - copy;
    if page.class == Class::Unprotected {
        gain
    } else {
        gain - MARGIN * copy
    }
}

fn page_range(range: Range<u64>) -> impl Iterator<Item = u64> {
    const STEP: usize = PAGE as usize;
    range.step_by(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(first: u64, end: u64) -> Range<u64> {
        first * PAGE..end * PAGE
    }

    /// A boundary that finds `written` as the tracker would after the last choice.
    fn boundary(policy: &mut Adaptive, choice: &mut Choice, dirty: &[Range<u64>], costs: &Costs) {
        let (mut changed, mut written) = (Vec::new(), Vec::new());
        super::super::ranges::divide(dirty, &choice.unprotected, &mut changed, &mut written);
        policy.observe(&Seen {
            written: &written,
            unprotected: &choice.unprotected,
            changed: &changed,
            conflicts: &[],
            costs,
        });
        policy.choose(choice);
    }

    #[test]
    fn pages_written_in_every_interval_are_left_unprotected_until_they_no_longer_are() {
        let costs = Costs::default().all_in_stop();
        let (mut policy, mut choice) = (Adaptive::default(), Choice::default());
        for _ in 0..16 {
            boundary(&mut policy, &mut choice, &[p(5, 9), p(20, 24)], &costs);
        }
        assert_eq!(choice.unprotected, [p(5, 9), p(20, 24)]);
        for _ in 0..16 {
            boundary(&mut policy, &mut choice, &[p(5, 9)], &costs);
        }
        assert_eq!(choice.unprotected, [p(5, 9)]);
        policy.forget(p(6, 7));
        boundary(&mut policy, &mut choice, &[p(5, 6), p(7, 9)], &costs);
        assert_eq!(choice.unprotected, [p(5, 6), p(7, 9)]);
    }

    #[test]
    fn conflicts_are_copied_inside_the_boundary_and_probed_now_and_then() {
        let costs = Costs {
            fault: 0.0,
            ..Costs::default()
        };
        let (mut policy, mut choice) = (Adaptive::default(), Choice::default());
        let dirty = [p(5, 9)];
        let mut observe = |policy: &mut Adaptive, conflicts: &[Range<u64>]| {
            policy.observe(&Seen {
                written: &dirty,
                unprotected: &[],
                changed: &[],
                conflicts,
                costs: &costs,
            });
            policy.choose(&mut choice);
            choice.protected.clone()
        };
        assert_eq!(observe(&mut policy, &[p(6, 7)]), [p(6, 7)]);
        let mut probes = 0;
        for _ in 0..200_000 {
            probes += u32::from(observe(&mut policy, &[]).is_empty());
        }
        assert!(
            probes > 5,
            "a page that is not in conflict any more is let go"
        );
    }

    #[test]
    fn when_the_past_does_not_tell_the_future_nothing_is_left_unprotected_for_long() {
        let costs = Costs::default().all_in_stop();
        let (mut policy, mut choice) = (Adaptive::default(), Choice::default());
        let mut chosen = 0;
        for round in 0..2000 {
            // Written until it has just been believed, then not.
            let on = choice.unprotected.is_empty();
            let dirty = [p(5, 50)];
            let dirty = if on { &dirty[..] } else { &[] };
            boundary(&mut policy, &mut choice, dirty, &costs);
            if round > 1000 {
                chosen += u32::from(!choice.unprotected.is_empty());
            }
        }
        assert!(chosen < 20, "{chosen} of 1000");
    }
}
