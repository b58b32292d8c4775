//! What all policies must keep, and how they compare.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

use super::list::Random;
use super::simulate::{Interval, compare, oracle, simulate};
use super::*;
use crate::ranges::{each_page, pages};
use std::collections::BTreeSet;

fn machines() -> [(&'static str, Costs); 4] {
    Costs::default().situations()
}

/// Checks another policy's choices.
#[derive(Debug)]
struct Checked {
    inner: Box<dyn Policy>,
    seen: BTreeSet<u64>,
}

impl Policy for Checked {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        self.seen.extend(each_page(seen.written));
        self.seen.extend(each_page(seen.conflicts));
        self.inner.observe(seen);
    }

    fn choose(&mut self, out: &mut Choice) {
        self.inner.choose(out);
        for list in [&out.protected, &out.unprotected] {
            for pair in list.windows(2) {
                assert!(pair[0].end < pair[1].start, "ascending and joined");
            }
            assert!(list.iter().all(|r| r.start < r.end && r.start % PAGE == 0));
            assert!(each_page(list).all(|at| self.seen.contains(&at)));
        }
        let both = crate::ranges::Both::of(&out.protected, &out.unprotected);
        assert_eq!(both.count(), 0, "disjoint");
        assert!(pages(&out.protected) + pages(&out.unprotected) <= MAX_PAGES as u64);
    }

    fn forget(&mut self, range: Range<u64>) {
        self.seen.retain(|at| !range.contains(at));
        self.inner.forget(range);
    }
}

fn checked(name: &str) -> Checked {
    Checked {
        inner: by_name(name).unwrap(),
        seen: BTreeSet::new(),
    }
}

/// Writes without rhyme or reason: runs of all lengths, sets that come back, silence.
fn chaos(random: &mut Random, intervals: usize) -> Vec<Interval> {
    let mut run: Vec<Interval> = Vec::new();
    for _ in 0..intervals {
        let mut interval = Interval::default();
        match random.below(4) {
            0 => {}
            1 if !run.is_empty() => {
                let back = usize::try_from(random.below(run.len() as u64)).unwrap();
                interval.dirty.clone_from(&run[back].dirty);
            }
            _ => {
                let mut at = 0;
                for _ in 0..random.below(30) {
                    at += random.below(20) * PAGE;
                    let end = at + random.below(6) * PAGE;
                    crate::ranges::push(&mut interval.dirty, at..end);
                    at = end;
                }
            }
        }
        for at in each_page(&interval.dirty) {
            if random.below(3) == 0 {
                crate::ranges::push(&mut interval.early, at..at + PAGE);
            }
        }
        run.push(interval);
    }
    run
}

#[test]
fn choices_are_ascending_disjoint_bounded_and_of_pages_that_were_seen() {
    for name in NAMES {
        for seed in 0..8 {
            let mut random = Random(seed);
            let mut policy = checked(name);
            for _ in 0..3 {
                let run = chaos(&mut random, 60);
                for (_, costs) in machines() {
                    simulate(&mut policy, &run, &costs);
                    let at = random.below(600) * PAGE;
                    policy.forget(at..at + random.below(100) * PAGE);
                }
            }
        }
        for trace in traces::all(100) {
            simulate(&mut checked(name), &trace.run, &Costs::default());
        }
    }
}

#[test]
fn memory_is_bounded_however_much_is_written() {
    let all = [0..(1 << 20) * PAGE];
    let everything = Interval {
        dirty: all.to_vec(),
        early: all.to_vec(),
    };
    for name in NAMES {
        simulate(
            &mut checked(name),
            &vec![everything.clone(); 4],
            &Costs::default(),
        );
    }
}

#[test]
fn no_policy_is_cheaper_than_the_oracle() {
    for seed in 0..8 {
        let run = chaos(&mut Random(seed), 100);
        for (machine, costs) in machines() {
            let (rows, bound) = compare(&run, &costs);
            for row in rows {
                let cost = row.spent.us_per_interval();
                assert!(
                    cost >= bound - 1e-6,
                    "{machine}, seed {seed}: {} {cost} < {bound}",
                    row.policy
                );
            }
        }
    }
}

#[test]
fn the_oracle_finds_the_best_there_is() {
    // One page, all sequences of decisions: protected and copied early or late, or left open.
    let costs = Costs {
        skip: 0.0,
        repair: 0.0,
        ..Costs::default()
    };
    for pattern in 0_u32..256 {
        // The first choice is made after the first interval.
        let run: Vec<Interval> = (0..9)
            .map(|n| Interval {
                dirty: if n > 0 && pattern >> (n - 1) & 1 == 1 {
                    [PAGE..2 * PAGE].to_vec()
                } else {
                    vec![]
                },
                early: vec![],
            })
            .collect();
        let best = (0_u32..256)
            .map(|plan| {
                let mut policy = Planned { plan, at: 0 };
                simulate(&mut policy, &run, &costs).us_per_interval()
            })
            .fold(f64::INFINITY, f64::min);
        let bound = oracle(&run, &costs);
        assert!((best - bound).abs() < 1e-9, "{pattern:08b}: {best} {bound}");
    }
}

/// Leaves one page unprotected at the boundaries whose bits are set.
#[derive(Debug)]
struct Planned {
    plan: u32,
    at: u32,
}

impl Policy for Planned {
    fn name(&self) -> &'static str {
        "planned"
    }

    fn observe(&mut self, _: &Seen<'_>) {}

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        if self.plan >> self.at & 1 == 1 {
            out.unprotected.push(PAGE..2 * PAGE);
        }
        self.at += 1;
    }

    fn forget(&mut self, _: Range<u64>) {}
}

#[test]
fn the_default_is_never_clearly_dearer_than_nothing() {
    for (machine, costs) in machines() {
        for trace in traces::all(400) {
            let cost = |name| {
                simulate(by_name(name).unwrap().as_mut(), &trace.run, &costs).us_per_interval()
            };
            let (ours, nothing) = (cost("adaptive"), cost("none"));
            assert!(
                ours <= nothing * 1.02 + 1.0,
                "{machine}, {}: {ours} against {nothing}",
                trace.name
            );
        }
    }
}

#[test]
fn the_default_gains_where_there_is_something_to_gain() {
    for (machine, costs) in machines() {
        for trace in traces::all(500) {
            if !matches!(trace.name, "stable" | "phases" | "server") {
                continue;
            }
            let bound = oracle(&trace.run, &costs);
            let cost = |name| {
                simulate(by_name(name).unwrap().as_mut(), &trace.run, &costs).us_per_interval()
            };
            let (ours, nothing) = (cost("adaptive"), cost("none"));
            // A good part of what the oracle gains, which does not pay for leaving out runs.
            assert!(
                nothing - ours >= 0.4 * (nothing - bound) - 1.0,
                "{machine}, {}: {ours} between {bound} and {nothing}",
                trace.name
            );
        }
    }
}

/// `cargo test -p stillframe-capture speculation -- --ignored --nocapture compared`
#[test]
#[ignore = "prints a table"]
fn compared() {
    for (machine, costs) in machines() {
        println!("\n{machine}: us per interval (pages copied as hot, of them needless; repairs)");
        for trace in traces::all(1000) {
            let (rows, bound) = compare(&trace.run, &costs);
            print!("{:<12} oracle {bound:6.0}", trace.name);
            for row in rows {
                let n = row.spent.intervals as f64;
                print!(
                    "  {} {:.0} ({:.0} {:.0}; {:.2})",
                    row.policy,
                    row.spent.us_per_interval(),
                    row.spent.hot as f64 / n,
                    row.spent.needless as f64 / n,
                    row.spent.repairs as f64 / n
                );
            }
            println!();
        }
    }
}
