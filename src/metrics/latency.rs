//! Durations counted in buckets.

use super::family::SampleValue;
use super::load;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets in nanoseconds, 1 µs to 100 ms.
pub(super) const BOUNDS_NS: [u64; 16] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// One bucket for each bound, and a last one for what exceeds them all.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Latencies {
    /// Counts a duration.
    pub(super) fn record(&self, ns: u64) {
        let position = BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(bucket) = self.buckets.get(position) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Returns what was counted so far.
    pub(super) fn value(&self) -> SampleValue {
        SampleValue::Histogram { buckets: self.buckets.each_ref().map(load), sum_ns: load(&self.sum_ns) }
    }
}
