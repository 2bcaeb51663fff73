//! The only place that reads time. Everything else is handed a [`Moment`].

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
    /// A clock whose monotonic origin is now.
    #[allow(clippy::disallowed_methods)] // this file is where they are allowed
    pub fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Nanoseconds on the monotonic clock alone, which takes half the time: [`Moment::mono_ns`].
    pub fn mono_ns(&self) -> u64 {
        // One second ahead of the origin, so that subtracting a short span never reaches zero.
        let mono = self.origin.elapsed().as_nanos().saturating_add(1_000_000_000);
        u64::try_from(mono).unwrap_or(u64::MAX)
    }

    /// This moment on both clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Moment { mono_ns: self.mono_ns(), unix_ms: i64::try_from(unix).unwrap_or(i64::MAX) }
    }
}

/// When a timer that starts now ends, for the runtime's timers only. It is the runtime's own clock, which tests can halt.
pub fn timer(lasting: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + lasting
}
