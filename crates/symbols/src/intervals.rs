//! Ranges of addresses that may nest, and which of them hold an address.

use std::cmp::Reverse;

/// Furthest that is searched backwards among ranges that nest; real ones nest a few deep.
const DEEPEST: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Interval<T> {
    begin: u64,
    end: u64,
    value: T,
}

/// Ranges, each with a value.
#[derive(Clone, Debug)]
pub(crate) struct Intervals<T> {
    /// Ascending by begin, the longest first.
    all: Vec<Interval<T>>,
    /// The largest end of each range and all before it: where a search backwards may stop.
    reach: Vec<u64>,
}

impl<T: Copy> Intervals<T> {
    /// Of (first address, address after the last, value); empty ranges are dropped.
    pub(crate) fn new(ranges: impl IntoIterator<Item = (u64, u64, T)>) -> Self {
        let mut all: Vec<Interval<T>> = ranges
            .into_iter()
            .filter(|(begin, end, _)| begin < end)
            .map(|(begin, end, value)| Interval { begin, end, value })
            .collect();
        all.sort_by_key(|r| (r.begin, Reverse(r.end)));
        let reach = all
            .iter()
            .scan(0, |furthest: &mut u64, r| {
                *furthest = (*furthest).max(r.end);
                Some(*furthest)
            })
            .collect();
        Self { all, reach }
    }

    /// The ranges that hold an address, the innermost first.
    pub(crate) fn at(&self, address: u64) -> impl Iterator<Item = (u64, u64, T)> {
        let after = self.all.partition_point(|r| r.begin <= address);
        self.all[..after]
            .iter()
            .zip(&self.reach[..after])
            .rev()
            .take(DEEPEST)
            .take_while(move |(_, reach)| **reach > address)
            .filter(move |(r, _)| r.end > address)
            .map(|(r, _)| (r.begin, r.end, r.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_comes_first() {
        let ranges = Intervals::new([
            (10, 50, 'a'),
            (20, 30, 'b'),
            (22, 24, 'c'),
            (60, 61, 'd'),
            (9, 9, 'x'),
        ]);
        let at = |address| ranges.at(address).map(|r| r.2).collect::<String>();
        assert_eq!(at(9), "");
        assert_eq!(at(10), "a");
        assert_eq!(at(23), "cba");
        assert_eq!(at(29), "ba");
        assert_eq!(at(49), "a");
        assert_eq!(at(50), "");
        assert_eq!(at(60), "d");
        assert_eq!(at(u64::MAX), "");
    }
}
