//! The genetic policy of speculative memory checkpointing (Vogt et al., 2015).
//!
//! A population of sixteen guesses, each a bit per page. Each drives two boundaries in turn: at the
//! first its pages are left unprotected, at the second it is judged by the copies made plus the
//! faults outside its set. The source weighs a fault as eight copies; here the measured costs say,
//! since with this kernel's tracking a fault costs about as much as a copy. When all have been
//! judged, the next generation is bred: the best lives on, the others are crossed from winners of
//! tournaments of two, page by page, and mutated.

use super::list::{List, Random};
use super::{Choice, PAGE, Policy, Seen};
use crate::ranges::{Cursor, each_page, pages, push};
use std::ops::Range;

/// Guesses in a population: the bits of [`Gene::bits`].
const POPULATION: usize = 16;

/// Most pages.
const MAX_GENES: usize = 4096;

/// One bit in this many is flipped when bred.
const MUTATION: u64 = 128;

/// One page.
#[derive(Clone, Copy, Debug)]
struct Gene {
    /// Bit n: guess n has it.
    bits: u16,
    /// Written or changed in this generation.
    used: bool,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Genetic {
    genes: List<Gene>,
    /// Cost of each guess, nanoseconds.
    spent: [f64; POPULATION],
    current: usize,
    /// The current guess drives its second boundary.
    second: bool,
    random: Random,
}

impl Default for Genetic {
    fn default() -> Self {
        Self {
            genes: List::default(),
            spent: [0.0; POPULATION],
            current: 0,
            second: false,
            random: Random(2),
        }
    }
}

impl Policy for Genetic {
    fn name(&self) -> &'static str {
        "genetic"
    }

    fn observe(&mut self, seen: &Seen<'_>) {
        let mut written = Cursor::new(seen.written);
        let mut changed = Cursor::new(seen.changed);
        self.genes.retain(|at, gene| {
            gene.used |= written.contains(at) | changed.contains(at);
            true
        });
        let random = &mut self.random;
        let fresh = each_page(seen.written).map(|at| {
            let bits = random.bits().to_le_bytes();
            let bits = u16::from_le_bytes([bits[0], bits[1]]);
            (at, Gene { bits, used: true })
        });
        self.genes.add(fresh, pages(seen.written), MAX_GENES);

        if !self.second {
            self.second = true;
            return;
        }
        let costs = seen.costs;
        let write = costs.tracked_write() + costs.after.min(costs.stopped_copy());
        self.spent[self.current] = pages(seen.unprotected) as f64 * costs.stopped_copy()
            + seen.unprotected.len() as f64 * costs.skip * costs.threads
            + pages(seen.written) as f64 * write;
        self.second = false;
        self.current += 1;
        if self.current == POPULATION {
            self.breed();
            self.current = 0;
        }
    }

    fn choose(&mut self, out: &mut Choice) {
        out.clear();
        let mask = 1_u16 << self.current;
        for (at, gene) in self.genes.pages() {
            if gene.bits & mask != 0 {
                push(&mut out.unprotected, *at..*at + PAGE);
            }
        }
    }

    fn forget(&mut self, range: Range<u64>) {
        self.genes.forget(&range);
    }
}

impl Genetic {
    fn breed(&mut self) {
        let best = (0..POPULATION)
            .min_by(|a, b| self.spent[*a].total_cmp(&self.spent[*b]))
            .unwrap_or(0);
        let mut parents = [(best, best); POPULATION];
        for pair in &mut parents[1..] {
            *pair = (self.winner(), self.winner());
        }
        let random = &mut self.random;
        self.genes.retain(|_, gene| {
            let coin = random.bits();
            let mut bits = 0;
            for (child, (a, b)) in parents.iter().enumerate() {
                let parent = if coin >> child & 1 == 0 { a } else { b };
                bits |= (gene.bits >> parent & 1) << child;
            }
            // One flip among the sixteen, as often as each bit is to be flipped; never in the best.
            let flip = random.below(MUTATION);
            if flip > 0 && flip < POPULATION as u64 {
                bits ^= 1 << flip;
            }
            gene.bits = bits;
            std::mem::replace(&mut gene.used, false)
        });
    }

    /// The better of two guesses drawn at random.
    fn winner(&mut self) -> usize {
        let mut draw = || usize::try_from(self.random.below(POPULATION as u64)).unwrap_or(0);
        let (a, b) = (draw(), draw());
        if self.spent[a] <= self.spent[b] { a } else { b }
    }
}
