//! Warnings about peers, at most one a second, so that a peer that sends rubbish cannot fill the disk.

use crate::decision::moment::Moment;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds between two warnings.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Lets one warning a second pass, and counts those in between. The connections of one listener share it.
#[derive(Debug, Default)]
pub struct LogThrottle {
    /// Monotonic time before which no other warning is written.
    silent_until_ns: AtomicU64,
    passed_over: AtomicU64,
}

impl LogThrottle {
    /// Returns `Some` where a warning may be written now, with the number of those left out since the last one.
    pub fn admit(&self, now: Moment) -> Option<u64> {
        let until = self.silent_until_ns.load(Ordering::Relaxed);
        let next = now.mono_ns.saturating_add(INTERVAL_NS);
        let free = now.mono_ns >= until
            && self.silent_until_ns.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if free {
            Some(self.passed_over.swap(0, Ordering::Relaxed))
        } else {
            self.passed_over.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_a_second_says_how_many_were_passed_over() {
        let throttle = LogThrottle::default();
        let start = Moment { mono_ns: 5, unix_ms: 0 };
        let cases = [(0, Some(0)), (0, None), (999_999_999, None), (1_000_000_000, Some(2)), (2_500_000_000, Some(0))];
        for (after_ns, expected) in cases {
            assert_eq!(throttle.admit(start.plus_ns(after_ns)), expected, "{after_ns}");
        }
    }
}
