//! Running figures of a recording, for the live line and the closing summary.

use std::time::Duration;
use stillframe_image::Tick;
use stillframe_store::Committed;

/// Sub-buckets per power of two: values are known to about 3 %.
const SUB: u32 = 5;

/// A histogram of durations in bounded memory: logarithmic buckets of 32 per power of two, as
/// HdrHistogram arranges them.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Adds one value, nanoseconds.
    pub fn add(&mut self, ns: u64) {
        let bucket = Self::bucket(ns);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// The value below which `share` (0 to 1) of all values lie, nanoseconds; 0 without values.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket).min(self.max);
            }
        }
        self.max
    }

    /// The largest value, nanoseconds.
    pub const fn max(&self) -> u64 {
        self.max
    }

    fn bucket(ns: u64) -> usize {
        let exponent = (u64::BITS - ns.leading_zeros()).saturating_sub(SUB + 1);
        ((exponent << SUB) as u64 + (ns >> exponent)) as usize
    }

    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        let exponent = (bucket >> SUB).saturating_sub(1);
        let mantissa = bucket - (exponent << SUB);
        (mantissa << exponent) | !(u64::MAX << exponent)
    }
}

/// Sums over a recording so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Checkpoints committed.
    pub checkpoints: u64,
    /// Ticks that were due and not taken.
    pub skipped: u64,
    /// Pauses at boundaries, first full checkpoints left out.
    pub pauses: Histogram,
    /// Time the target stood still in all, nanoseconds.
    pub stalled_ns: u64,
    /// Pages found written.
    pub dirty_pages: u64,
    /// Bytes of pages handed to the store.
    pub raw_bytes: u64,
    /// Bytes the recording grew by.
    pub stored_bytes: u64,
    /// Account of the latest checkpoint.
    pub last: Tick,
}

impl Stats {
    /// Takes in a committed checkpoint.
    pub fn add(&mut self, tick: &Tick, committed: &Committed) {
        self.checkpoints += 1;
        if !tick.marks.contains(stillframe_image::Marks::FULL) {
            self.pauses.add(tick.pause_ns());
        }
        self.stalled_ns += tick.pause_ns() + tick.precopy_pause_ns;
        self.dirty_pages += tick.dirty_pages;
        self.skipped += u64::from(tick.skipped);
        self.raw_bytes += committed.raw_bytes;
        self.stored_bytes += committed.stored_bytes;
        self.last = *tick;
    }

    /// Checkpoints per second over `elapsed`.
    pub fn rate(&self, elapsed: Duration) -> f64 {
        let seconds = elapsed.as_secs_f64();
        if seconds > 0.0 {
            self.checkpoints as f64 / seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        for ns in 1..=100_000u64 {
            histogram.add(ns);
        }
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = share * 100_000.0;
            let found = histogram.quantile(share) as f64;
            assert!(
                (found - exact).abs() <= exact * 0.04 + 1.0,
                "{share}: {found} for {exact}"
            );
        }
        assert_eq!(histogram.max(), 100_000);
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }

    #[test]
    fn extremes_have_buckets() {
        let mut histogram = Histogram::default();
        histogram.add(0);
        histogram.add(u64::MAX);
        assert_eq!(histogram.quantile(1.0), u64::MAX);
        assert_eq!(histogram.quantile(0.5), 0);
    }
}
