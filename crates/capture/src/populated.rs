//! The set of pages that have content of their own in the recording.
//!
//! When a page of anonymous memory is given back to the kernel (MADV_DONTNEED, a hole punched by
//! `mremap`), the tracker says "written" and the page is gone. It must become zero in the next
//! checkpoint if it had content before, and needs nothing at all if it had none. This set tells
//! the two apart without asking the store, at one bit a page, in chunks so that sparse address
//! spaces stay small.

use std::collections::BTreeMap;
use std::ops::Range;
use stillframe_image::{PAGE_SIZE, PageNumber};

/// Pages per chunk: 2 MiB of addresses, 64 bytes of bits.
const CHUNK_PAGES: u64 = 512;

/// A set of page numbers.
#[derive(Debug, Default)]
pub struct Populated {
    chunks: BTreeMap<u64, [u64; 8]>,
}

impl Populated {
    /// Adds a page.
    pub fn insert(&mut self, page: PageNumber) {
        let bit = page.0 % CHUNK_PAGES;
        self.chunks.entry(page.0 / CHUNK_PAGES).or_default()[word(bit)] |= 1 << (bit % 64);
    }

    /// Removes a page; says whether it was there.
    #[cfg(test)]
    pub fn remove(&mut self, page: PageNumber) -> bool {
        let bit = page.0 % CHUNK_PAGES;
        let Some(words) = self.chunks.get_mut(&(page.0 / CHUNK_PAGES)) else {
            return false;
        };
        let mask = 1 << (bit % 64);
        let was = words[word(bit)] & mask != 0;
        words[word(bit)] &= !mask;
        was
    }

    /// Whether a page is in the set.
    #[cfg(test)]
    pub fn contains(&self, page: PageNumber) -> bool {
        let bit = page.0 % CHUNK_PAGES;
        self.chunks
            .get(&(page.0 / CHUNK_PAGES))
            .is_some_and(|words| words[word(bit)] & (1 << (bit % 64)) != 0)
    }

    /// Removes all pages of `range` (addresses), appending to `out` those that were there, in
    /// ascending order.
    pub fn drain_range(&mut self, range: Range<u64>, out: &mut Vec<PageNumber>) {
        self.visit(range, true, |page| out.push(page));
    }

    /// Appends to `out` the pages of `range` (addresses) that are in the set, in ascending order.
    pub fn collect_range(&mut self, range: Range<u64>, out: &mut Vec<PageNumber>) {
        self.visit(range, false, |page| out.push(page));
    }

    /// Removes all pages of `range` (addresses).
    pub fn clear_range(&mut self, range: Range<u64>) {
        self.visit(range, true, |_| ());
    }

    fn visit(&mut self, range: Range<u64>, remove: bool, mut found: impl FnMut(PageNumber)) {
        let first = range.start / PAGE_SIZE as u64;
        let end = range.end.div_ceil(PAGE_SIZE as u64);
        if first >= end {
            return;
        }
        let mut empty = Vec::new();
        for (&chunk, words) in self
            .chunks
            .range_mut(first / CHUNK_PAGES..=(end - 1) / CHUNK_PAGES)
        {
            for (index, bits) in words.iter_mut().enumerate() {
                let base = chunk * CHUNK_PAGES + index as u64 * 64;
                let mut here = *bits & span_mask(base, first, end);
                if remove {
                    *bits &= !here;
                }
                while here != 0 {
                    found(PageNumber(base + u64::from(here.trailing_zeros())));
                    here &= here - 1;
                }
            }
            if remove && words.iter().all(|w| *w == 0) {
                empty.push(chunk);
            }
        }
        for chunk in empty {
            self.chunks.remove(&chunk);
        }
    }
}

const fn word(bit: u64) -> usize {
    (bit / 64) as usize
}

/// Bits of the 64 pages from `base` that lie in `first..end`.
const fn span_mask(base: u64, first: u64, end: u64) -> u64 {
    if end <= base || first >= base + 64 {
        return 0;
    }
    let low = if first > base {
        u64::MAX << (first - base)
    } else {
        u64::MAX
    };
    let high = if end < base + 64 {
        u64::MAX >> (base + 64 - end)
    } else {
        u64::MAX
    };
    low & high
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_plain_set() {
        let mut set = Populated::default();
        let mut model = BTreeSet::new();
        let mut state = 12345u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            state >> 33
        };
        for round in 0..20_000 {
            let page = next() % 3000 + if round % 2 == 0 { 0 } else { 1 << 35 };
            match next() % 8 {
                0..=4 => {
                    set.insert(PageNumber(page));
                    model.insert(page);
                }
                5 => assert_eq!(set.remove(PageNumber(page)), model.remove(&page)),
                6 => assert_eq!(set.contains(PageNumber(page)), model.contains(&page)),
                _ => {
                    let end = page + next() % 700;
                    let mut got = Vec::new();
                    let range = page * 4096..end * 4096;
                    if next() % 2 == 0 {
                        set.collect_range(range, &mut got);
                    } else {
                        set.drain_range(range, &mut got);
                        let expected: Vec<u64> = model.range(page..end).copied().collect();
                        assert_eq!(got.iter().map(|p| p.0).collect::<Vec<_>>(), expected);
                        for p in expected {
                            model.remove(&p);
                        }
                        continue;
                    }
                    let expected: Vec<u64> = model.range(page..end).copied().collect();
                    assert_eq!(got.iter().map(|p| p.0).collect::<Vec<_>>(), expected);
                }
            }
        }
    }

    #[test]
    fn an_empty_range_is_nothing() {
        let mut set = Populated::default();
        set.insert(PageNumber(5));
        let mut out = Vec::new();
        set.drain_range(5 * 4096..5 * 4096, &mut out);
        assert!(out.is_empty());
        assert!(set.contains(PageNumber(5)));
    }
}
