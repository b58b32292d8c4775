//! Sets of checkpoint numbers, kept as ranges: what retention removes comes in long stretches.

use crate::bytes::Malformed;
use serde::{Deserialize, Serialize};

/// Numbers, as half-open ranges that ascend and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// The range that holds a number.
    pub fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|r| r.0 <= number);
        let last = *self.0.get(after.checked_sub(1)?)?;
        (number < last.1).then_some(last)
    }

    /// Whether it holds a number.
    pub fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// Whether it holds all numbers of a half-open range.
    pub fn contains_all(&self, from: u64, to: u64) -> bool {
        from >= to || self.range_of(from).is_some_and(|r| to <= r.1)
    }

    /// Whether it holds any number of a half-open range.
    pub fn meets(&self, from: u64, to: u64) -> bool {
        let i = self.0.partition_point(|r| r.1 <= from);
        from < to && self.0.get(i).is_some_and(|r| r.0 < to)
    }

    /// The first number from `number` on that it does not hold.
    pub fn next_outside(&self, number: u64) -> u64 {
        self.range_of(number).map_or(number, |r| r.1)
    }

    /// Adds a half-open range.
    pub fn add(&mut self, mut from: u64, mut to: u64) {
        if from >= to {
            return;
        }
        let begin = self.0.partition_point(|r| r.1 < from);
        let mut end = begin;
        while let Some(r) = self.0.get(end).filter(|r| r.0 <= to) {
            from = from.min(r.0);
            to = to.max(r.1);
            end += 1;
        }
        self.0.splice(begin..end, [(from, to)]);
    }

    /// Refuses what [`Ranges::add`] cannot have made.
    ///
    /// # Errors
    /// If they do not ascend.
    pub fn checked(self) -> Result<Self, Malformed> {
        let each = self.0.iter().all(|r| r.0 < r.1);
        if each && self.0.is_sorted_by(|a, b| a.1 < b.0) {
            Ok(self)
        } else {
            Err(Malformed("its ranges do not ascend"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_a_set_would_have_it(parts in prop::collection::vec((0u64..60, 0u64..9), 0..20)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, n) in parts {
                ranges.add(from, from + n);
                set.extend(from..from + n);
            }
            for i in 0..80 {
                prop_assert_eq!(ranges.contains(i), set.contains(&i));
                let next = (i..).find(|n| !set.contains(n));
                prop_assert_eq!(Some(ranges.next_outside(i)), next);
                for j in i..80 {
                    prop_assert_eq!(ranges.contains_all(i, j), (i..j).all(|n| set.contains(&n)));
                    prop_assert_eq!(ranges.meets(i, j), (i..j).any(|n| set.contains(&n)));
                }
            }
            prop_assert!(ranges.checked().is_ok());
        }
    }
}
