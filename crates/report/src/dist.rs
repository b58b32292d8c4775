//! Distributions: exact quantiles of a few numbers per checkpoint, and logarithmic histograms.

use serde::Serialize;

/// What a set of values looks like. In the unit of the values; all zero without values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// Their sum.
    pub total: u64,
    /// Their mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 % are not larger.
    pub p90: u64,
    /// 99 % are not larger.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Distribution {
    /// Of `values`, which are sorted for it. The quantile `q` of n values is the one at position
    /// `round(q (n - 1))`, as `still ls` has it.
    pub fn of(values: &mut [u64]) -> Self {
        values.sort_unstable();
        let last = values.len().saturating_sub(1) as f64;
        let at = |q: f64| values.get((last * q).round() as usize).copied();
        let total = values.iter().copied().fold(0, u64::saturating_add);
        let count = values.len() as u64;
        Self {
            count,
            total,
            mean: if count == 0 {
                0.0
            } else {
                total as f64 / count as f64
            },
            p50: at(0.5).unwrap_or(0),
            p90: at(0.9).unwrap_or(0),
            p99: at(0.99).unwrap_or(0),
            max: at(1.0).unwrap_or(0),
        }
    }
}

/// One bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Smallest value it takes.
    pub from: u64,
    /// Smallest value that it no longer takes.
    pub to: u64,
    /// Values in it.
    pub count: u64,
}

/// Bars per power of ten.
const PER_DECADE: u32 = 10;

/// Histogram with ten bars to a power of ten, from the first bar that has a value to the last.
pub fn histogram(values: &[u64]) -> Vec<Bin> {
    let bar = |v: u64| (v.max(1) as f64).log10() * f64::from(PER_DECADE);
    let edge = |i: u32| 10f64.powf(f64::from(i) / f64::from(PER_DECADE)).ceil() as u64;
    let index = |v: u64| {
        // The logarithm may round across an edge; the edges decide.
        let guess = bar(v) as u32;
        if v >= edge(guess + 1) {
            guess + 1
        } else if guess > 0 && v < edge(guess) {
            guess - 1
        } else {
            guess
        }
    };
    let mut counts = [0u64; 20 * PER_DECADE as usize];
    for &v in values {
        if let Some(count) = counts.get_mut(index(v) as usize) {
            *count += 1;
        }
    }
    let first = counts.iter().position(|c| *c > 0);
    let last = counts.iter().rposition(|c| *c > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    (first..=last)
        .map(|i| Bin {
            from: if i == 0 { 0 } else { edge(i as u32) },
            to: edge(i as u32 + 1),
            count: counts[i],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles() {
        let mut values: Vec<u64> = (1..=101).rev().collect();
        let d = Distribution::of(&mut values);
        assert_eq!((d.p50, d.p90, d.p99, d.max), (51, 91, 100, 101));
        assert_eq!((d.count, d.total), (101, 5151));
        assert_eq!(Distribution::of(&mut []), Distribution::default());
        assert_eq!(Distribution::of(&mut [u64::MAX, 1]).total, u64::MAX);
    }

    proptest! {
        #[test]
        fn every_value_is_in_its_bar(values in proptest::collection::vec(any::<u64>(), 0..50), shift in 0u32..60) {
            let values: Vec<u64> = values.iter().map(|v| v >> shift).collect();
            let bins = histogram(&values);
            prop_assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), values.len() as u64);
            for bin in &bins {
                let inside = values
                    .iter()
                    .filter(|v| **v >= bin.from && (**v < bin.to || bin.to == u64::MAX))
                    .count();
                prop_assert_eq!(inside as u64, bin.count, "{:?}", bin);
            }
            for pair in bins.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
            }
        }
    }
}
