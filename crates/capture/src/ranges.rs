//! Sets of pages as ascending, disjoint ranges of addresses: walking, dividing, joining. All in one
//! pass, no allocation but for what is appended.

use std::ops::Range;
use stillframe_image::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Appends a range, joined with the last if they touch. Ranges must come in ascending order.
pub fn push(out: &mut Vec<Range<u64>>, next: Range<u64>) {
    if next.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
        _ => out.push(next),
    }
}

/// Appends a range, joined with the last if that ends where it begins. Ranges may come in any order.
pub fn append(out: &mut Vec<Range<u64>>, next: Range<u64>) {
    match out.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => out.push(next),
    }
}

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

/// Pages in a list.
#[must_use]
pub fn pages(list: &[Range<u64>]) -> u64 {
    list.iter()
        .map(|r| r.end.saturating_sub(r.start) / PAGE)
        .sum()
}

/// Whether an address is in a list (ascending, disjoint).
#[must_use]
pub fn contains(list: &[Range<u64>], address: u64) -> bool {
    let at = list.partition_point(|r| r.end <= address);
    list.get(at).is_some_and(|r| r.start <= address)
}

/// Takes off the front of `rest` the ranges with no gap longer than `gap` between them.
pub fn take_near<'a>(rest: &mut &'a [Range<u64>], gap: u64) -> Option<&'a [Range<u64>]> {
    if rest.is_empty() {
        return None;
    }
    let near = rest
        .windows(2)
        .take_while(|w| w[1].start - w[0].end <= gap)
        .count();
    let (group, after) = rest.split_at(near + 1);
    *rest = after;
    Some(group)
}

/// Addresses of the pages in a list.
pub fn each_page(list: &[Range<u64>]) -> impl Iterator<Item = u64> + '_ {
    const STEP: usize = PAGE as usize;
    list.iter().flat_map(|r| r.clone().step_by(STEP))
}

/// Answers "is it in the list?" for ascending addresses.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [Range<u64>],
}

impl<'a> Cursor<'a> {
    /// At the beginning of `list`.
    #[must_use]
    pub const fn new(list: &'a [Range<u64>]) -> Self {
        Self { rest: list }
    }

    /// Whether `address` is in the list; it must not be less than in earlier calls.
    pub fn contains(&mut self, address: u64) -> bool {
        while let [first, rest @ ..] = self.rest {
            if address < first.end {
                return address >= first.start;
            }
            self.rest = rest;
        }
        false
    }
}

/// The parts of a range outside a list.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    run: Range<u64>,
    holes: &'a [Range<u64>],
}

impl<'a> Pieces<'a> {
    /// Of `run`, what is not in `holes`.
    #[must_use]
    pub fn outside(run: Range<u64>, holes: &'a [Range<u64>]) -> Self {
        let first = holes.partition_point(|h| h.end <= run.start);
        Self {
            run,
            holes: holes.get(first..).unwrap_or_default(),
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        while !self.run.is_empty() {
            let piece = match self.holes {
                [hole, rest @ ..] if hole.start < self.run.end => {
                    let piece = self.run.start..hole.start.max(self.run.start);
                    self.run.start = hole.end.max(self.run.start);
                    self.holes = rest;
                    piece
                }
                _ => std::mem::replace(&mut self.run, 0..0),
            };
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }
}

/// Divides `list` into what is `inside` of `other` and what is `outside`.
pub fn divide(
    list: &[Range<u64>],
    other: &[Range<u64>],
    inside: &mut Vec<Range<u64>>,
    outside: &mut Vec<Range<u64>>,
) {
    let mut other = other;
    for range in list {
        let mut at = range.start;
        while let [first, rest @ ..] = other {
            if first.end <= at {
                other = rest;
                continue;
            }
            if first.start >= range.end {
                break;
            }
            let from = first.start.max(at);
            push(outside, at..from);
            at = first.end.min(range.end);
            push(inside, from..at);
            if at >= range.end {
                break;
            }
        }
        push(outside, at..range.end);
    }
}

/// The pages that both lists have, as ranges.
#[derive(Clone, Debug)]
pub struct Both<'a> {
    a: &'a [Range<u64>],
    b: &'a [Range<u64>],
}

impl<'a> Both<'a> {
    /// Of `a` and `b`.
    #[must_use]
    pub const fn of(a: &'a [Range<u64>], b: &'a [Range<u64>]) -> Self {
        Self { a, b }
    }
}

impl Iterator for Both<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        while let ([a, rest_a @ ..], [b, rest_b @ ..]) = (self.a, self.b) {
            let common = a.start.max(b.start)..a.end.min(b.end);
            if a.end <= b.end {
                self.a = rest_a;
            } else {
                self.b = rest_b;
            }
            if !common.is_empty() {
                return Some(common);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const fn p(first: u64, end: u64) -> Range<u64> {
        first * PAGE..end * PAGE
    }

    #[test]
    fn joined_ranges_cover_the_same_and_do_not_overlap() {
        let mut ranges = vec![30..40, 0..10, 10..12, 35..50, 5..8, 60..61];
        join(&mut ranges);
        assert_eq!(ranges, [0..12, 30..50, 60..61]);
    }

    #[test]
    fn dividing_agrees_with_plain_sets() {
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
            divide(&all, &chosen, &mut inside, &mut outside);
            let common: Vec<_> = all
                .iter()
                .flat_map(|r| intersect(r.clone(), &chosen))
                .collect();
            assert_eq!(
                common
                    .iter()
                    .flat_map(Clone::clone)
                    .collect::<BTreeSet<u64>>(),
                set(&inside)
            );
            let (a, c) = (set(&all), set(&chosen));
            assert_eq!(set(&inside), a.intersection(&c).copied().collect());
            assert_eq!(set(&outside), a.difference(&c).copied().collect());
            for list in [&inside, &outside] {
                assert!(list.iter().all(|r| !r.is_empty()));
                assert!(list.windows(2).all(|w| w[0].end <= w[1].start));
            }
        }
    }

    #[test]
    fn pieces_leave_out_the_holes() {
        let holes = [p(1, 2), p(4, 6), p(9, 12)];
        let all = |run| Pieces::outside(run, &holes).collect::<Vec<_>>();
        assert_eq!(all(p(0, 10)), [p(0, 1), p(2, 4), p(6, 9)]);
        assert_eq!(all(p(5, 9)), [p(6, 9)]);
        assert_eq!(all(p(4, 6)), []);
        assert_eq!(all(p(10, 14)), [p(12, 14)]);
        assert_eq!(all(p(20, 21)), [p(20, 21)]);
        assert_eq!(all(p(3, 3)), []);
    }

    #[test]
    fn dividing_loses_and_doubles_nothing() {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        divide(
            &[p(0, 4), p(6, 7), p(8, 20)],
            &[p(1, 2), p(3, 9), p(10, 11), p(19, 30)],
            &mut inside,
            &mut outside,
        );
        assert_eq!(
            inside,
            [p(1, 2), p(3, 4), p(6, 7), p(8, 9), p(10, 11), p(19, 20)]
        );
        assert_eq!(outside, [p(0, 1), p(2, 3), p(9, 10), p(11, 19)]);
    }

    #[test]
    fn both_finds_what_is_common() {
        let a = [p(0, 4), p(6, 7), p(8, 20)];
        let b = [p(2, 7), p(9, 10), p(12, 13), p(30, 31)];
        let both: Vec<_> = Both::of(&a, &b).collect();
        assert_eq!(both, [p(2, 4), p(6, 7), p(9, 10), p(12, 13)]);
    }

    #[test]
    fn a_cursor_answers_ascending_questions() {
        let list = [p(1, 3), p(5, 6)];
        let mut cursor = Cursor::new(&list);
        let found: Vec<u64> = (0..8).filter(|n| cursor.contains(n * PAGE)).collect();
        assert_eq!(found, [1, 2, 5]);
    }
}
