//! Ascending lists of page ranges: walking, dividing, joining. All in one pass, no allocation but
//! for what is appended.

use super::PAGE;
pub use crate::ranges::pages;
use std::ops::Range;

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

    const fn p(first: u64, end: u64) -> Range<u64> {
        first * PAGE..end * PAGE
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
