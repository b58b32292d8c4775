//! A bounded list of pages in ascending order, each with a note, and a small source of randomness.

use crate::ranges::{each_page, push};
use std::ops::Range;

/// Pages in ascending order of address. Keeps its memory.
#[derive(Debug)]
pub struct List<T> {
    pages: Vec<(u64, T)>,
    spare: Vec<(u64, T)>,
    turn: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            spare: Vec::new(),
            turn: 0,
        }
    }
}

impl<T: Copy> List<T> {
    /// The pages and their notes.
    pub fn pages(&mut self) -> &mut [(u64, T)] {
        &mut self.pages
    }

    /// Shows every page, ascending, and drops those for which the answer is no.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut T) -> bool) {
        self.pages.retain_mut(|(at, note)| keep(*at, note));
    }

    /// Drops the pages of a range.
    pub fn forget(&mut self, range: &Range<u64>) {
        self.pages.retain(|(at, _)| !range.contains(at));
    }

    /// Adds pages, ascending; those it has already are left as they are. No more than `max` are
    /// kept: of `count` pages (an upper bound of what `fresh` gives) that do not fit, every n-th is
    /// taken, others the next time.
    pub fn add(&mut self, fresh: impl Iterator<Item = (u64, T)>, count: u64, max: usize) {
        if count == 0 {
            return;
        }
        let mut room = max.saturating_sub(self.pages.len());
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let stride = count.div_ceil(room.max(1)).max(1);
        self.turn = self.turn.wrapping_add(1);
        let mut wait = self.turn % stride;
        self.spare.clear();
        let mut old = self.pages.iter().copied().peekable();
        for (at, note) in fresh {
            while let Some(page) = old.next_if(|(address, _)| *address < at) {
                self.spare.push(page);
            }
            if room == 0 || old.peek().is_some_and(|(address, _)| *address == at) {
                continue;
            }
            if wait == 0 {
                self.spare.push((at, note));
                room -= 1;
                wait = stride;
            }
            wait -= 1;
        }
        self.spare.extend(old);
        std::mem::swap(&mut self.pages, &mut self.spare);
    }

    /// Adds all pages of `list`.
    pub fn add_all(&mut self, list: &[Range<u64>], note: T, max: usize) {
        let fresh = each_page(list).map(|at| (at, note));
        self.add(fresh, crate::ranges::pages(list), max);
    }

    /// Keeps `bound` pages, and each with the same chance (selection sampling: Knuth, The Art of
    /// Computer Programming, 3.4.2, algorithm S).
    pub fn thin(&mut self, bound: usize, random: &mut Random) {
        let mut left = self.pages.len();
        let mut wanted = bound;
        if left <= bound {
            return;
        }
        self.pages.retain(|_| {
            let keep = random.below(left as u64) < wanted as u64;
            left -= 1;
            wanted -= usize::from(keep);
            keep
        });
    }

    /// Appends all pages to `out`, as ranges.
    pub fn ranges(&self, out: &mut Vec<Range<u64>>) {
        for (at, _) in &self.pages {
            push(out, *at..*at + super::PAGE);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): repeatable, and good enough for guesses.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        u64::try_from((u128::from(self.bits()) * u128::from(n)) >> 64).unwrap_or(0)
    }

    /// From 0 up to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
