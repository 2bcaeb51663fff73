//! The only place that reads time. Everything else is handed a [`Moment`].

use crate::decision::moment::Moment;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// This moment on both clocks.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Moment {
        // One second ahead of the origin, so that subtracting a short span never reaches zero.
        let mono = self.origin.elapsed().as_nanos().saturating_add(1_000_000_000);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Moment { mono_ns: u64::try_from(mono).unwrap_or(u64::MAX), unix_ms: i64::try_from(unix).unwrap_or(i64::MAX) }
    }
}
