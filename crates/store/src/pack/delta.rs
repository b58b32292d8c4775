//! Differences between two contents of a page.
//!
//! A difference overwrites 64-bit words rather than XOR-ing them. So it needs to know only *which*
//! words changed since the base, not what they were: a page that changed in twelve words over
//! twelve versions can be stored against the version twelve back without that version's content
//! being at hand. This is what keeps chains short and keyframes rare (see [`crate::shadow`]).

use crate::bytes::{Cursor, Malformed, Page, put_varint};
use stillframe_image::PAGE_SIZE;

/// Words in a page.
pub const WORDS: usize = PAGE_SIZE / 8;
const BLOCK: usize = 64;

/// A set of words of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WordSet([u64; WORDS / 64]);

impl WordSet {
    /// How many.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS / 64]
    }

    /// Copies these words from one page to another.
    pub fn copy(&self, from: &Page, to: &mut Page) {
        let (from, to) = (from.as_chunks::<8>().0, to.as_chunks_mut::<8>().0);
        for (i, bits) in self.0.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let word = i * 64 + bits.trailing_zeros() as usize;
                to[word] = from[word];
                bits &= bits - 1;
            }
        }
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a |= b;
        }
    }
}

/// The words in which two pages differ.
pub fn changed(old: &Page, new: &Page) -> WordSet {
    let mut set = WordSet::default();
    let blocks = old
        .as_chunks::<BLOCK>()
        .0
        .iter()
        .zip(new.as_chunks::<BLOCK>().0);
    for (i, (a, b)) in blocks.enumerate() {
        // The comparison of a block is a handful of vector instructions; most are equal.
        let (a, b) = (words(a), words(b));
        if a.iter().zip(&b).fold(0, |any, (x, y)| any | (x ^ y)) != 0 {
            let mut bits = 0u64;
            for (j, (x, y)) in a.iter().zip(&b).enumerate() {
                bits |= u64::from(x != y) << j;
            }
            set.0[i / 8] |= bits << (8 * (i % 8));
        }
    }
    set
}

fn words(block: &[u8; BLOCK]) -> [u64; BLOCK / 8] {
    let mut words = [0; BLOCK / 8];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

/// Appends the difference that overwrites the words of `set` with those of `new`.
///
/// `old`, where known, lets single bytes be left out; without it whole words are written.
pub fn encode(set: &WordSet, old: Option<&Page>, new: &Page, out: &mut Vec<u8>) {
    let words = new.as_chunks::<8>().0;
    let old = old.map(|o| o.as_chunks::<8>().0);
    let mut at = 0; // first word not dealt with
    let mut next = next_run(set, 0);
    while let Some((start, end)) = next {
        put_varint(out, (start - at) as u64);
        let run = &words[start..end];
        let masks = old.map(|o| &o[start..end]).and_then(|old| {
            let bytes: usize = old.iter().zip(run).map(|(o, n)| differing(o, n)).sum();
            (bytes + run.len() < 8 * run.len()).then_some(old)
        });
        if let Some(old) = masks {
            put_varint(out, (run.len() as u64) << 1 | 1);
            for (o, n) in old.iter().zip(run) {
                out.push((0..8).fold(0, |m, i| m | u8::from(o[i] != n[i]) << i));
            }
            for (o, n) in old.iter().zip(run) {
                out.extend(o.iter().zip(n).filter(|(a, b)| a != b).map(|(_, b)| *b));
            }
        } else {
            put_varint(out, (run.len() as u64) << 1);
            out.extend_from_slice(run.as_flattened());
        }
        at = end;
        next = next_run(set, end);
    }
}

fn differing(a: &[u8; 8], b: &[u8; 8]) -> usize {
    a.iter().zip(b).filter(|(x, y)| x != y).count()
}

/// The next run of set words from `from` on: [start, end).
fn next_run(set: &WordSet, from: usize) -> Option<(usize, usize)> {
    let start = find(set, from, 0)?;
    let end = find(set, start, u64::MAX).unwrap_or(WORDS);
    Some((start, end))
}

/// The first word from `from` on that is set (`flip` 0) or not set (`flip` all ones).
fn find(set: &WordSet, from: usize, flip: u64) -> Option<usize> {
    let mut i = from / 64;
    let mut mask = u64::MAX.checked_shl((from % 64) as u32).unwrap_or(0);
    while i < set.0.len() {
        let bits = (set.0[i] ^ flip) & mask;
        if bits != 0 {
            return Some(i * 64 + bits.trailing_zeros() as usize);
        }
        mask = u64::MAX;
        i += 1;
    }
    None
}

/// Applies a difference to the content of its base.
///
/// # Errors
/// If it reaches beyond the page or ends in the middle. The page is then of no use.
pub fn apply(delta: &[u8], page: &mut Page) -> Result<(), Malformed> {
    let mut c = Cursor::new(delta);
    let words = page.as_chunks_mut::<8>().0;
    let mut at = 0;
    while !c.is_empty() {
        at += c.varint_up_to((WORDS - at) as u64)?;
        let coded = c.varint_up_to(2 * (WORDS - at) as u64 + 1)?;
        let (n, masked) = (coded >> 1, coded & 1 == 1);
        if n == 0 || n > WORDS - at {
            return Err(Malformed("a difference reaches beyond its page"));
        }
        let run = &mut words[at..at + n];
        if masked {
            let masks = c.take(n)?;
            for (word, mask) in run.iter_mut().zip(masks) {
                for (i, byte) in word.iter_mut().enumerate() {
                    if mask >> i & 1 == 1 {
                        *byte = c.u8()?;
                    }
                }
            }
        } else {
            run.as_flattened_mut().copy_from_slice(c.take(8 * n)?);
        }
        at += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(edits: &[(u16, u8)]) -> Page {
        let mut p = [0x55; PAGE_SIZE];
        for (at, value) in edits {
            p[usize::from(*at) % PAGE_SIZE] = *value;
        }
        p
    }

    proptest! {
        #[test]
        fn differences_rebuild_the_page(a: Vec<(u16, u8)>, b: Vec<(u16, u8)>, know_old: bool) {
            let (old, new) = (page(&a), page(&b));
            let set = changed(&old, &new);
            let mut delta = Vec::new();
            encode(&set, know_old.then_some(&old), &new, &mut delta);
            let mut back = old;
            apply(&delta, &mut back).unwrap();
            prop_assert!(back == new);
        }

        #[test]
        fn a_difference_over_several_versions_needs_only_the_words(steps: Vec<Vec<(u16, u8)>>) {
            let first = page(&[]);
            let mut now = first;
            let mut set = WordSet::default();
            for step in &steps {
                let before = now;
                for (at, value) in step {
                    now[usize::from(*at) % PAGE_SIZE] = *value;
                }
                set.add(&changed(&before, &now));
            }
            let mut delta = Vec::new();
            encode(&set, None, &now, &mut delta);
            let mut back = first;
            apply(&delta, &mut back).unwrap();
            prop_assert!(back == now);
        }

        #[test]
        fn any_bytes_are_refused_or_applied(bytes: Vec<u8>) {
            let mut p = [0; PAGE_SIZE];
            let _ = apply(&bytes, &mut p);
        }
    }

    #[test]
    fn a_counter_costs_four_bytes() {
        let mut new = [0u8; PAGE_SIZE];
        new[800] = 1;
        let old = [0u8; PAGE_SIZE];
        let mut delta = Vec::new();
        encode(&changed(&old, &new), Some(&old), &new, &mut delta);
        assert_eq!(delta.len(), 4);
    }

    #[test]
    fn a_full_page_is_one_run() {
        let new = [0xaa; PAGE_SIZE];
        let old = [0u8; PAGE_SIZE];
        let set = changed(&old, &new);
        assert_eq!(set.count(), 512);
        let mut delta = Vec::new();
        encode(&set, Some(&old), &new, &mut delta);
        assert_eq!(delta.len(), PAGE_SIZE + 3);
    }
}
