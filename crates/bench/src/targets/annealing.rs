//! Simulated annealing of the placement of a netlist (Kirkpatrick, Gelatt, Vecchi, "Optimization by
//! Simulated Annealing", 1983), with the shape and schedule of canneal of PARSEC (Bienia et al.,
//! PACT 2008): elements joined by nets lie on a grid; two random elements swap places if that
//! shortens the wires, or by chance `exp(-growth / temperature)` if it lengthens them.
//!
//! Threads swap at the same time without a lock over the whole: each takes two elements, in the
//! order of their numbers, by exchanging their place for a mark that others wait for.

use super::rng::Rng;
use super::{Outcome, Share, on_threads};
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// Place of an element that a thread is moving.
const TAKEN: u32 = u32::MAX;
/// Nets that lead into an element, on average.
const FAN: u64 = 5;
/// Swaps tried per temperature over all threads: PARSEC's.
pub const SWAPS: u64 = 15_000;
/// Temperature at the start, and what it is divided by at each step: PARSEC's.
const START: f64 = 2000.0;
const COOLING: f64 = 1.5;

#[derive(Debug)]
struct Element {
    /// Index into the grid, or [`TAKEN`].
    place: AtomicU32,
    /// Elements whose outputs lead here.
    inputs: Vec<u32>,
    /// Elements that the output leads to.
    outputs: Vec<u32>,
    /// As netlists have it. Never read while annealing, but part of the graph's memory.
    name: String,
}

impl Element {
    /// Where it is; waits while a thread moves it.
    fn place(&self) -> u32 {
        loop {
            let place = self.place.load(Ordering::Acquire);
            if place != TAKEN {
                return place;
            }
            std::hint::spin_loop();
        }
    }

    fn take(&self) -> u32 {
        loop {
            let place = self.place.swap(TAKEN, Ordering::AcqRel);
            if place != TAKEN {
                return place;
            }
            std::hint::spin_loop();
        }
    }
}

/// A netlist and where its elements are.
#[derive(Debug)]
pub struct Annealing {
    elements: Vec<Element>,
    /// Column and row of each place.
    grid: Vec<(i32, i32)>,
    threads: usize,
    runs: u64,
}

/// What one thread's swaps did.
#[derive(Clone, Copy, Debug, Default)]
struct Swaps {
    tried: u64,
    accepted: u64,
    /// Change of the wires' length as each swap saw it; exact only with one thread.
    growth: i64,
}

impl Annealing {
    /// `count` elements (at least 2) with random nets, the same ones every time.
    pub fn new(count: usize, threads: usize) -> Self {
        let mut rng = Rng::new(11);
        let mut elements: Vec<Element> = (0..count)
            .map(|i| Element {
                place: AtomicU32::new(i as u32),
                inputs: Vec::new(),
                outputs: Vec::new(),
                name: format!("element_{i}"),
            })
            .collect();
        for to in 0..count {
            for _ in 0..1 + rng.below(2 * FAN - 1) {
                let from = rng.below(count as u64) as usize;
                if from != to {
                    elements[to].inputs.push(from as u32);
                    elements[from].outputs.push(to as u32);
                }
            }
        }
        let side = (count as f64).sqrt().ceil() as i32;
        let grid = (0..count as i32).map(|i| (i % side, i / side)).collect();
        Self {
            elements,
            grid,
            threads,
            runs: 0,
        }
    }

    fn distance(&self, a: u32, b: u32) -> i64 {
        let (ax, ay) = self.grid[a as usize];
        let (bx, by) = self.grid[b as usize];
        i64::from((ax - bx).abs() + (ay - by).abs())
    }

    /// Length of all wires, counted from scratch.
    pub fn length(&self) -> i64 {
        self.elements
            .iter()
            .map(|e| {
                let place = e.place();
                e.inputs
                    .iter()
                    .map(|from| self.distance(place, self.elements[*from as usize].place()))
                    .sum::<i64>()
            })
            .sum()
    }

    /// How much longer the wires of `a` become when it goes from `old` to `new` while `other` goes
    /// the opposite way. A wire between the two keeps its length.
    fn growth(&self, a: u32, other: u32, old: u32, new: u32) -> i64 {
        let element = &self.elements[a as usize];
        element
            .inputs
            .iter()
            .chain(&element.outputs)
            .filter(|n| **n != other)
            .map(|n| {
                let there = self.elements[*n as usize].place();
                self.distance(new, there) - self.distance(old, there)
            })
            .sum()
    }

    fn swap(&self, a: u32, b: u32) {
        let (first, second) = (a.min(b) as usize, a.max(b) as usize);
        let one = self.elements[first].take();
        let two = self.elements[second].take();
        self.elements[first].place.store(two, Ordering::Release);
        self.elements[second].place.store(one, Ordering::Release);
    }

    /// Tries one swap by the Metropolis rule.
    fn attempt(&self, rng: &mut Rng, temperature: f64, swaps: &mut Swaps) {
        let count = self.elements.len() as u64;
        let a = rng.below(count) as u32;
        let b = rng.below(count) as u32;
        swaps.tried += 1;
        if a == b {
            return;
        }
        let (at_a, at_b) = (
            self.elements[a as usize].place(),
            self.elements[b as usize].place(),
        );
        let growth = self.growth(a, b, at_a, at_b) + self.growth(b, a, at_b, at_a);
        if growth < 0 || rng.fraction() < (-(growth as f64) / temperature).exp() {
            self.swap(a, b);
            swaps.accepted += 1;
            swaps.growth += growth;
        }
    }

    /// Anneals through `steps` temperatures from the start, [`SWAPS`] swaps each.
    pub fn run(&mut self, steps: u64) -> Outcome {
        self.runs += 1;
        let this = &*self;
        let step = Barrier::new(this.threads);
        let (accepted, growth) = (AtomicU64::new(0), AtomicI64::new(0));
        let each = SWAPS.div_ceil(this.threads as u64);
        let (seconds, _) = on_threads(this.threads, 0, |share: Share| {
            let mut rng = Rng::new(this.runs << 8 | share.index as u64);
            let mut temperature = START;
            let mut swaps = Swaps::default();
            for _ in 0..steps {
                temperature /= COOLING;
                for _ in 0..each {
                    this.attempt(&mut rng, temperature, &mut swaps);
                }
                step.wait();
            }
            accepted.fetch_add(swaps.accepted, Ordering::Relaxed);
            growth.fetch_add(swaps.growth, Ordering::Relaxed);
            0
        });
        Outcome {
            seconds,
            units: steps,
            accepted: Some(accepted.into_inner()),
            growth: Some(growth.into_inner()),
            ..Outcome::default()
        }
    }

    /// Bytes of names: what keeps them from being optimised away.
    pub fn named(&self) -> usize {
        self.elements.iter().map(|e| e.name.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permutation(annealing: &Annealing) -> bool {
        let mut places: Vec<u32> = annealing
            .elements
            .iter()
            .map(|e| e.place.load(Ordering::Relaxed))
            .collect();
        places.sort_unstable();
        places.iter().enumerate().all(|(i, p)| i as u32 == *p)
    }

    #[test]
    fn the_growth_of_each_swap_adds_up_to_a_recount() {
        // Few elements, so that swapped ones are often joined to each other.
        for count in [2, 9, 1000] {
            let mut annealing = Annealing::new(count, 1);
            let before = annealing.length();
            let outcome = annealing.run(10);
            assert_eq!(
                annealing.length() - before,
                outcome.growth.unwrap(),
                "{count} elements"
            );
            assert!(outcome.accepted.unwrap() > 0);
        }
    }

    #[test]
    fn a_swap_and_its_opposite_cancel() {
        let annealing = Annealing::new(100, 1);
        let before = annealing.length();
        annealing.swap(3, 77);
        assert_ne!(annealing.elements[3].place(), 3);
        annealing.swap(77, 3);
        assert_eq!(
            (annealing.length(), annealing.elements[3].place()),
            (before, 3)
        );
    }

    #[test]
    fn threads_keep_a_permutation() {
        let mut annealing = Annealing::new(64, 4);
        annealing.run(20);
        assert!(is_permutation(&annealing));
    }

    #[test]
    fn cooling_shortens_the_wires() {
        let mut annealing = Annealing::new(2000, 2);
        let before = annealing.length();
        annealing.run(60);
        assert!(
            annealing.length() < before * 9 / 10,
            "{before} {}",
            annealing.length()
        );
        assert!(is_permutation(&annealing));
    }

    #[test]
    fn nets_are_listed_at_both_ends() {
        let annealing = Annealing::new(500, 1);
        for (i, e) in annealing.elements.iter().enumerate() {
            for from in &e.inputs {
                assert!(
                    annealing.elements[*from as usize]
                        .outputs
                        .contains(&(i as u32))
                );
            }
        }
    }
}
