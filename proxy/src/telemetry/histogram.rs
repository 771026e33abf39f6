//! Durations in fixed buckets, counted without a lock.
//!
//! The bounds rise by 25 to 50 percent up to 100 ms, where most requests lie, and more coarsely above: a
//! quantile interpolated within its bucket is off by less than a fifth of its value there, typically by a few
//! percent.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{encoding::MetricEncoder, encoding::NoLabelSet};

/// Upper bounds in microseconds, inclusive.
const BOUNDS: [u64; 28] = [
    250, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 15_000, 20_000,
    30_000, 40_000, 50_000, 75_000, 100_000, 150_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

#[derive(Debug)]
pub(super) struct Histogram {
    /// One more than bounds: the last has no bound.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Relaxed) == 0)
    }

    pub(super) fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros)).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().copied()).collect();
        // The count is the sum of what was read, so that the text is consistent in itself.
        let count = counts.iter().sum();
        let sum = seconds(self.sum_micros.load(Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        for (micros, bucket) in
            [(0, 0), (250, 0), (251, 1), (1_000, 3), (60_000_000, 27), (60_000_001, 28)]
        {
            let histogram = Histogram::default();
            assert!(histogram.is_empty());
            histogram.observe(Duration::from_micros(micros));
            assert_eq!(histogram.buckets[bucket].load(Relaxed), 1, "{micros}");
            assert!(!histogram.is_empty());
        }
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS.is_sorted_by(|one, other| one < other));
    }
}
