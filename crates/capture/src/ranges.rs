//! Sets of addresses as ascending, disjoint ranges.

use std::ops::Range;
use stillframe_image::PAGE_SIZE;

/// Sorts ranges and joins those that touch or overlap.
pub fn join(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|r| r.start);
    ranges.dedup_by(|next, last| {
        let touch = next.start <= last.end;
        if touch {
            last.end = last.end.max(next.end);
        }
        touch
    });
}

/// Appends a range, joining it with the last one if they touch.
pub fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Pages in all of them.
pub fn pages(ranges: &[Range<u64>]) -> u64 {
    ranges
        .iter()
        .map(|r| (r.end - r.start) / PAGE_SIZE as u64)
        .sum()
}

/// The parts of `range` that are not in `without` (ascending, disjoint), in order.
pub fn subtract<'a>(
    range: Range<u64>,
    without: &'a [Range<u64>],
) -> impl Iterator<Item = Range<u64>> + 'a {
    let first = without.partition_point(|w| w.end <= range.start);
    let mut rest = without[first..].iter();
    let mut at = range.start;
    std::iter::from_fn(move || {
        while at < range.end {
            let hole = rest.next().filter(|w| w.start < range.end);
            let (piece, next) = match hole {
                Some(hole) => (at..hole.start.max(at), hole.end),
                None => (at..range.end, range.end),
            };
            at = next;
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    })
}

/// The parts of `range` that are in `others` (ascending, disjoint), in order.
pub fn intersect<'a>(
    range: Range<u64>,
    others: &'a [Range<u64>],
) -> impl Iterator<Item = Range<u64>> + 'a {
    let first = others.partition_point(|o| o.end <= range.start);
    others[first..]
        .iter()
        .take_while(move |o| o.start < range.end)
        .map(move |o| o.start.max(range.start)..o.end.min(range.end))
}

/// Cuts `all` into what is in `chosen` and what is not; both ascending and disjoint, as are the
/// results, which are appended.
pub fn split(
    all: &[Range<u64>],
    chosen: &[Range<u64>],
    inside: &mut Vec<Range<u64>>,
    outside: &mut Vec<Range<u64>>,
) {
    for range in all {
        inside.extend(intersect(range.clone(), chosen));
        outside.extend(subtract(range.clone(), chosen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn joined_ranges_cover_the_same_and_do_not_overlap() {
        let mut ranges = vec![30..40, 0..10, 10..12, 35..50, 5..8, 60..61];
        join(&mut ranges);
        assert_eq!(ranges, [0..12, 30..50, 60..61]);
    }

    #[test]
    fn subtracting_and_intersecting_agree_with_plain_sets() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..2000 {
            let mut some = |count: u64| {
                let mut ranges: Vec<Range<u64>> = (0..next(count))
                    .map(|_| {
                        let start = next(60);
                        start..start + 1 + next(9)
                    })
                    .collect();
                join(&mut ranges);
                ranges
            };
            let (all, chosen) = (some(6), some(8));
            let set = |ranges: &[Range<u64>]| -> BTreeSet<u64> {
                ranges.iter().flat_map(Clone::clone).collect()
            };
            let (mut inside, mut outside) = (Vec::new(), Vec::new());
            split(&all, &chosen, &mut inside, &mut outside);
            let (a, c) = (set(&all), set(&chosen));
            assert_eq!(set(&inside), a.intersection(&c).copied().collect());
            assert_eq!(set(&outside), a.difference(&c).copied().collect());
            for list in [&inside, &outside] {
                assert!(list.iter().all(|r| !r.is_empty()));
                assert!(list.windows(2).all(|w| w[0].end <= w[1].start));
            }
        }
    }
}
