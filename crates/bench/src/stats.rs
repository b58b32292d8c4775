//! Medians, percentiles, and what else is said about many values.

use serde::{Deserialize, Serialize};

/// Nearest-rank percentile of values in ascending order; `None` of none. `p` in 0 to 100.
pub fn percentile(sorted: &[f64], p: f64) -> Option<f64> {
    let rank = (p / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied()
}

/// The median; of an even number of values, the mean of the two in the middle. `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The mean; 0 of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The median of few values, with how far they lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; zeroes of none.
    pub fn of(values: &[f64]) -> Self {
        let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(0.0);
        Self {
            median: median(values).unwrap_or(0.0),
            min: fold(f64::min),
            max: fold(f64::max),
        }
    }
}

/// How many values are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Half are not above.
    pub p50: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

impl Distribution {
    /// Of `values`; zeroes of none.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |p| percentile(&values, p).unwrap_or(0.0);
        Self {
            p50: at(50.0),
            p99: at(99.0),
            max: at(100.0),
            mean: mean(&values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), Some(50.0));
        assert_eq!(percentile(&values, 99.0), Some(99.0));
        assert_eq!(percentile(&values, 100.0), Some(100.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(percentile(&[7.0], 99.0), Some(7.0));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn spreads_and_distributions() {
        let spread = Spread::of(&[1.2, 1.0, 1.1]);
        assert_eq!((spread.median, spread.min, spread.max), (1.1, 1.0, 1.2));
        assert_eq!(Spread::of(&[]), Spread::default());
        let d = Distribution::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((d.p50, d.p99, d.max, d.mean), (100.0, 198.0, 200.0, 100.5));
    }
}
