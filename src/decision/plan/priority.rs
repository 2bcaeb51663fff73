//! The urgency of a plan's requests, and their place in a queue.

/// The urgency of a plan's requests (`priority`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// In turn.
    #[default]
    Normal,
    /// After those that came up to [`LOW_WAITS_MS`] later, and refused first.
    Low,
}

impl Priority {
    /// Returns the word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

/// How long requests of low priority let others pass, in milliseconds. After that they have their turn: behind a queue
/// that never ends they would otherwise wait for ever.
pub const LOW_WAITS_MS: u64 = 30_000;

/// The class of high priority. HAProxy serves lower classes first, and 0 is the default (`set-priority-class`, -2047 to
/// 2047).
const HIGH_CLASS: i32 = -1;

/// The range of `set-priority-offset` in milliseconds, both ways (HAProxy configuration manual, 20 bits of a key).
const OFFSET_MAX_MS: i64 = 524_287;

/// A request's place in the proxy's queue for a server that is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueuePlace {
    /// The class, if it is not the default: lower classes are served first.
    pub class: Option<i32>,
    /// Milliseconds by which the request counts as later than it came (or earlier, if negative).
    pub offset_ms: i32,
}

impl QueuePlace {
    /// Returns the place of a request that came at `now_ms` and whose caller has its turn at `start_ms`.
    pub fn new(priority: Priority, start_ms: u64, now_ms: u64) -> QueuePlace {
        let ahead = i64::try_from(start_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now_ms);
        let waits = if priority == Priority::Low { LOW_WAITS_MS } else { 0 };
        let offset = ahead.saturating_add_unsigned(waits).clamp(-OFFSET_MAX_MS, OFFSET_MAX_MS);
        QueuePlace {
            class: (priority == Priority::High).then_some(HIGH_CLASS),
            offset_ms: i32::try_from(offset).unwrap_or(0),
        }
    }
}

/// How long requests may wait (`[queue]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Longest time a request waits in herdgate for a server, in nanoseconds.
    pub timeout_ns: u64,
    /// Expected wait above which requests of low priority are refused, in nanoseconds.
    pub shed_wait_ns: u64,
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings { timeout_ns: 60_000_000_000, shed_wait_ns: 30_000_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_within_haproxys_range_and_say_who_is_first() {
        let cases = [
            (Priority::Normal, 5_000, 5_000, None, 0),
            (Priority::Normal, 7_500, 5_000, None, 2_500),
            (Priority::Normal, 4_000, 5_000, None, -1_000),
            (Priority::Low, 5_000, 5_000, None, 30_000),
            (Priority::High, 7_500, 5_000, Some(-1), 2_500),
            (Priority::Low, u64::MAX, 0, None, 524_287),
            (Priority::Normal, 0, u64::MAX, None, -524_287),
        ];
        for (priority, start_ms, now_ms, class, offset_ms) in cases {
            assert_eq!(
                QueuePlace::new(priority, start_ms, now_ms),
                QueuePlace { class, offset_ms },
                "{start_ms} at {now_ms}"
            );
        }
    }
}
