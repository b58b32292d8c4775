//! Page ranges cut into pieces that fit a batch.

use std::ops::Range;
use stillframe_image::{PAGE_SIZE, PageNumber};

const PAGE: u64 = PAGE_SIZE as u64;

/// Ranges that together fit one batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The ranges, in the order given.
    pub ranges: Vec<Range<u64>>,
}

impl Chunk {
    /// The pages, in order.
    pub fn pages(&self) -> impl Iterator<Item = PageNumber> + '_ {
        self.ranges
            .iter()
            .flat_map(|r| (r.start / PAGE..r.end / PAGE).map(PageNumber))
    }
}

/// Cuts `ranges` into chunks of at most `limit` pages.
pub fn chunks(ranges: &[Range<u64>], limit: usize) -> impl Iterator<Item = Chunk> + '_ {
    let limit = limit as u64 * PAGE;
    let mut rest = ranges.iter().cloned();
    let mut current = rest.next();
    std::iter::from_fn(move || {
        let mut chunk = Chunk::default();
        let mut room = limit;
        while room > 0 {
            let Some(range) = current.take() else { break };
            let end = range.end.min(range.start + room);
            room -= end - range.start;
            chunk.ranges.push(range.start..end);
            current = if end < range.end {
                Some(end..range.end)
            } else {
                rest.next()
            };
        }
        (!chunk.ranges.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_in_one_chunk_in_order() {
        let ranges: Vec<_> = [(0, 3), (10, 11), (20, 45), (50, 52)]
            .map(|(a, b)| a * PAGE..b * PAGE)
            .into();
        let all: Vec<u64> = ranges
            .iter()
            .flat_map(|r| r.start / PAGE..r.end / PAGE)
            .collect();
        for limit in 1..40 {
            let mut seen = Vec::new();
            for chunk in chunks(&ranges, limit) {
                let pages: Vec<_> = chunk.pages().map(|p| p.0).collect();
                assert!(!pages.is_empty() && pages.len() <= limit);
                seen.extend(pages);
            }
            assert_eq!(seen, all);
        }
        assert_eq!(chunks(&[], 4).count(), 0);
    }
}
