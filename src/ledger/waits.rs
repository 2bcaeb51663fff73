//! How long a request will probably wait: the requests before it, at the pace at which requests are served. Pure.

use super::durations::Durations;

/// How long servers take for a request, without what it waited before.
#[derive(Debug, Default)]
pub struct Waits {
    served: Durations,
}

/// The length of a round before any request has ended, in milliseconds.
const UNLEARNED_ROUND_MS: u64 = 256;

/// The number of callers that a round is taken for; how many there are is found out as they go on.
const CALLERS_GUESSED: u64 = 4;

impl Waits {
    /// Notes the milliseconds that a server took for a request.
    pub fn note(&mut self, ms: u64) {
        self.served.note(ms);
    }

    /// Returns the nanoseconds until `before` requests are served by servers that take `capacity` at once; `None`
    /// before any time was learned.
    pub fn expected_ns(&self, before: u64, capacity: u64) -> Option<u64> {
        if before == 0 {
            return Some(0);
        }
        let usual_ns = self.served.quantile_ms(500)?.saturating_mul(1_000_000);
        Some(before.saturating_mul(usual_ns) / capacity.max(1))
    }

    /// Returns the milliseconds in which a server of this capacity probably serves each of some callers once.
    pub fn round_ms(&self, capacity: u32) -> u64 {
        let usual_ms = self.served.quantile_ms(500);
        usual_ms.map_or(UNLEARNED_ROUND_MS, |ms| ms.saturating_mul(CALLERS_GUESSED) / u64::from(capacity.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_what_stands_before_at_the_pace_of_all_servers_together() {
        let mut waits = Waits::default();
        assert_eq!((waits.expected_ns(0, 4), waits.expected_ns(1, 4)), (Some(0), None));
        (0..100).for_each(|_| waits.note(1_000));
        let usual = waits.expected_ns(1, 1).unwrap();
        assert!((1_000_000_000..=1_260_000_000).contains(&usual), "{usual}");
        for (before, capacity) in [(8, 4), (1, 0), (u64::MAX, 1), (100, 8)] {
            let expected = before.saturating_mul(usual) / capacity.max(1);
            assert_eq!(waits.expected_ns(before, capacity), Some(expected), "{before} before {capacity}");
        }
    }
}
