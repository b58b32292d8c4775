//! The default: per page, how likely it is to be written, weighed with measured costs.
//!
//! For each candidate we keep a decayed chance of being written in an interval and a decayed chance
//! of conflict if copied after the boundary. With the costs of the moment these say which class is
//! cheapest. Conflicts share one repair, so copying likely ones inside the boundary pays only
//! together, and only if not too many others remain: candidates are sorted into classes of how
//! likely their conflicts are, and the boundary takes as many classes as make the expected cost of
//! the whole least. Three things keep it from being dearer than choosing nothing:
//!
//! - A page becomes a candidate only when written in two intervals running, or in conflict. So the
//!   table stays small under random writes, and the work follows the dirty set.
//! - *Accounts are kept*: what unprotected pages saved and cost, by their checksums. If the decayed
//!   balance falls clearly below zero, because the past does not tell the future, no page is left
//!   unprotected for a while, longer each time.
//! - Whether a page would still be in conflict cannot be seen while it is copied inside the
//!   boundary. So once in a while, when what that has cost amounts to many repairs, one boundary
//!   copies all such pages after it, and who conflicts is seen anew.

use super::list::List;
use super::{Choice, Costs, MAX_PAGES, PAGE, Policy, Seen};
use crate::ranges::{Both, Cursor, each_page, pages, push};
use std::ops::Range;

/// Most runs of written pages that are remembered for the next boundary.
const MAX_RUNS: usize = 65_536;

/// Weight of the newest interval in a page's chances.
const WEIGHT: f32 = 1.0 / 8.0;

/// Chance of being written given to a candidate that was written twice running.
const PRIOR: f32 = 0.5;

/// Both chances given to a candidate that came by a conflict.
const CONFLICT_PRIOR: f32 = 0.25;

/// Weight of what a probe shows.
const PROBE_WEIGHT: f32 = 0.5;

/// Classes of how likely a conflict is: class n from 2^-n down to 2^-(n+1); what is less likely is
/// never copied inside the boundary for that.
const CLASSES: usize = 9;

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
    candidates: List<Page>,
    /// Written at the boundary before.
    previous: Vec<Range<u64>>,
    costs: Costs,
    /// Chance per boundary that a page of which it is not expected is in conflict.
    strangers: f64,
    /// How many classes of likely conflicts are copied inside the boundary.
    inside: usize,
    /// What one more conflict is expected to cost.
    conflict: f64,
    /// What leaving pages unprotected has gained per interval, decayed.
    balance: f64,
    /// Boundaries until pages are left unprotected again.
    rest: u32,
    strikes: u32,
    /// What copying likely conflicts inside boundaries has cost since the last probe.
    spent: f64,
    patience: f64,
    /// What a probe would cost if all were in conflict.
    probe_cost: f64,
    /// The last choice was a probe of this many pages.
    probe: Option<u32>,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            candidates: List::default(),
            previous: Vec::new(),
            costs: Costs::default(),
            strangers: 0.0,
            inside: 0,
            conflict: 0.0,
            balance: 0.0,
            rest: 0,
            strikes: 0,
            spent: 0.0,
            patience: 1.0,
            probe_cost: f64::INFINITY,
            probe: None,
        }
    }
}

impl Policy for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        self.costs = *seen.costs;
        self.learn(seen);
        if self.rest > 0 {
            self.rest -= 1;
        }
        self.admit(seen);
        self.previous.clear();
        let kept = seen.written.len().min(MAX_RUNS);
        self.previous.extend_from_slice(&seen.written[..kept]);
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        self.weigh();
        let costs = self.costs;
        let (inside, conflict) = (self.inside, self.conflict);
        let resting = self.rest > 0;
        let probe = self.spent > PROBE * self.patience * self.probe_cost;
        let mut probed = 0;
        let table = self.candidates.pages();
        let mut from = 0;
        while from < table.len() {
            // A run of neighbours that all look worth it shares the cost of leaving it out.
            let mut gain = 0.0;
            let mut to = from;
            while let Some((at, page)) = table.get(to) {
                let adjacent = to == from || table[to - 1].0 + PAGE == *at;
                let more = page.gain(&costs, inside, conflict);
                if resting || !adjacent || more <= 0.0 {
                    break;
                }
                gain += more;
                to += 1;
            }
            let unprotected = gain > costs.skip * costs.threads;
            let to = to.max(from + 1);
            for (at, page) in &mut table[from..to] {
                page.before = page.class;
                page.class = if unprotected {
                    Class::Unprotected
                } else if page.class_of_conflict() < inside {
                    probed += 1;
                    if probe { Class::Cold } else { Class::Protected }
                } else {
                    Class::Cold
                };
                let run = *at..*at + PAGE;
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
        self.probe_cost = costs.repair * costs.threads + costs.conflict * f64::from(probed.max(1));
    }

    fn forget(&mut self, range: Range<u64>) {
        self.candidates.forget(&range);
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
    /// Updates the chances of all candidates, drops the hopeless, and does the accounts.
    fn learn(&mut self, seen: &Seen<'_>) {
        let mut written = Cursor::new(seen.written);
        let mut unprotected = Cursor::new(seen.unprotected);
        let mut changed = Cursor::new(seen.changed);
        let mut conflicts = Cursor::new(seen.conflicts);
        let costs = self.costs;
        let (inside, conflict) = (self.inside, self.conflict);
        let probed = self.probe.take();
        let weight = if probed.is_some() {
            PROBE_WEIGHT
        } else {
            WEIGHT
        };
        let (mut found, mut expected) = (0, 0);
        let mut spent = 0.0;
        let mut gained = seen.unprotected.len() as f64 * -costs.skip * costs.threads;
        self.candidates.retain(|at, page| {
            let is_written = written.contains(at);
            let is_changed = changed.contains(at);
            let in_conflict = conflicts.contains(at);
            let evidence = if unprotected.contains(at) {
                gained -= costs.stopped_copy();
                if is_changed {
                    gained += costs.tracked_write() + page.tracked_copy(&costs, inside, conflict);
                }
                Some(is_changed)
            } else if page.class == Class::Unprotected || page.before == Class::Unprotected {
                // Not protected, hence reported as written in any case; or not known yet.
                None
            } else {
                Some(is_written)
            };
            if let Some(hit) = evidence {
                blend(&mut page.chance, hit, WEIGHT);
            }
            if in_conflict {
                found += 1;
                expected += u64::from(page.class_of_conflict() < CLASSES);
            }
            if in_conflict || (is_written && page.class == Class::Cold) {
                blend(&mut page.early, in_conflict, weight);
            } else if is_written && page.class == Class::Protected {
                spent += costs.stopped_copy() - costs.after;
            }
            page.chance >= FLOOR
        });
        self.spent += spent;
        let strange = pages(seen.conflicts) > expected;
        self.strangers += (f64::from(u8::from(strange)) - self.strangers) / 16.0;
        if let Some(probed) = probed {
            // Probes that find mostly conflicts are made more rarely.
            self.patience = if found * 2 >= u64::from(probed) {
                (self.patience * 2.0).min(MAX_PATIENCE)
            } else {
                1.0
            };
        }
        if !seen.unprotected.is_empty() {
            self.account(gained);
        }
    }

    /// Takes in what the unprotected pages of an interval have gained, nanoseconds.
    fn account(&mut self, gained: f64) {
        self.balance += (gained - self.balance) * BALANCE_WEIGHT;
        let slack = self.costs.stopped_copy();
        if self.balance < -slack {
            self.rest = REST << self.strikes;
            self.strikes = (self.strikes + 1).min(MAX_STRIKES);
            self.balance = 0.0;
            for (_, page) in self.candidates.pages() {
                page.chance = page.chance.min(PRIOR);
            }
        } else if self.balance > slack {
            self.strikes = 0;
        }
    }

    /// Decides how many classes of likely conflicts to copy inside the boundary: those that make
    /// the expected cost of copies, conflicts and repair least, conflicts taken as independent.
    fn weigh(&mut self) {
        let costs = &self.costs;
        let extra = costs.stopped_copy() - costs.after;
        let mut copies = [0.0; CLASSES + 1];
        let mut rates = [0.0; CLASSES + 1];
        for (_, page) in self.candidates.pages() {
            if page.class != Class::Unprotected {
                let class = page.class_of_conflict();
                let chance = f64::from(page.chance);
                copies[class] += chance * extra;
                rates[class] += chance * f64::from(page.early);
            }
        }
        let mut copied = 0.0;
        let mut rate: f64 = rates.iter().sum();
        let mut best = f64::INFINITY;
        for inside in 0..=CLASSES {
            let quiet = (1.0 - self.strangers) * (-rate.max(0.0)).exp();
            let repair = costs.repair * costs.threads;
            let cost = copied + rate * costs.conflict + repair * (1.0 - quiet);
            if cost < best {
                best = cost;
                self.inside = inside;
                self.conflict = costs.conflict + repair * quiet;
            }
            copied += copies[inside];
            rate -= rates[inside];
        }
    }

    /// Makes candidates of pages written twice running and of conflicts.
    fn admit(&mut self, seen: &Seen<'_>) {
        let fresh: u64 = Both::of(seen.written, &self.previous)
            .map(|r| (r.end - r.start) / PAGE)
            .sum::<u64>()
            + pages(seen.conflicts);
        let mut twice = Both::of(seen.written, &self.previous)
            .flat_map(page_range)
            .peekable();
        let mut conflicts = each_page(seen.conflicts).peekable();
        let merged = std::iter::from_fn(|| {
            let at = match (twice.peek(), conflicts.peek()) {
                (Some(a), Some(b)) => (*a).min(*b),
                (Some(at), None) | (None, Some(at)) => *at,
                (None, None) => return None,
            };
            let again = twice.next_if_eq(&at).is_some();
            let conflict = conflicts.next_if_eq(&at).is_some();
            let page = Page {
                chance: if again { PRIOR } else { CONFLICT_PRIOR },
                early: if conflict { CONFLICT_PRIOR } else { 0.0 },
                class: Class::Cold,
                before: Class::Cold,
            };
            Some((at, page))
        });
        self.candidates.add(merged, fresh, MAX_PAGES);
    }
}

impl Page {
    /// How likely a conflict is; see [`CLASSES`].
    fn class_of_conflict(&self) -> usize {
        // Of 0 this is infinite, which the conversion cuts.
        ((-self.early.log2()) as usize).min(CLASSES)
    }

    /// What copying the page when it was written is expected to cost if it is protected.
    fn tracked_copy(&self, costs: &Costs, inside: usize, conflict: f64) -> f64 {
        if self.class_of_conflict() < inside {
            costs.stopped_copy()
        } else {
            (costs.after + f64::from(self.early) * conflict).min(costs.stopped_copy())
        }
    }

    /// What leaving the page unprotected is expected to gain per interval. Stays with what was
    /// chosen unless the other is clearly better.
    fn gain(&self, costs: &Costs, inside: usize, conflict: f64) -> f64 {
        let copy = costs.stopped_copy();
        let write = costs.tracked_write() + self.tracked_copy(costs, inside, conflict);
        let gain = f64::from(self.chance) * write - copy;
        if self.class == Class::Unprotected {
            gain
        } else {
            gain - MARGIN * copy
        }
    }
}

/// Moves a chance towards what happened.
fn blend(chance: &mut f32, happened: bool, weight: f32) {
    *chance += (f32::from(u8::from(happened)) - *chance) * weight;
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
        crate::ranges::divide(dirty, &choice.unprotected, &mut changed, &mut written);
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
