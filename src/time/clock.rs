//! The only place that reads time. Everything else gets a [`Moment`] as a parameter.

use crate::decision::moment::Moment;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// Returns a clock whose monotonic origin is now.
    #[allow(clippy::disallowed_methods)] // this file is where they are allowed
    pub fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Returns the nanoseconds of the monotonic clock alone ([`Moment::mono_ns`]), in half the time of [`Clock::now`].
    pub fn mono_ns(&self) -> u64 {
        // One second ahead of the origin, so that subtracting a short span never reaches zero.
        let mono = self.origin.elapsed().as_nanos().saturating_add(1_000_000_000);
        u64::try_from(mono).unwrap_or(u64::MAX)
    }

    /// Returns this moment on both clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Moment { mono_ns: self.mono_ns(), unix_ms: i64::try_from(unix).unwrap_or(i64::MAX) }
    }
}

/// Returns when a timer that starts now ends. Only for the runtime's timers, by the runtime's own clock, which tests can halt.
pub fn timer(lasting: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + lasting
}
