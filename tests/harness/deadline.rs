//! Waiting for a condition, with a bound.

use super::Fault;
use herdgate::time::clock::Clock;
use std::time::Duration;

/// Asks `condition` until it holds; a fault that names `what` once `limit` is over.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<(), Fault> {
    let watch = Stopwatch::new();
    while !condition() {
        if watch.elapsed() > limit {
            return Err(format!("not within {limit:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Time since it was made.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Clock,
    start_ns: u128,
}

impl Stopwatch {
    /// Starts now.
    pub fn new() -> Stopwatch {
        let clock = Clock::new();
        let start_ns = clock.now().mono_ns;
        Stopwatch { clock, start_ns: start_ns.into() }
    }

    /// Returns how long ago that was.
    pub fn elapsed(&self) -> Duration {
        let ns = u128::from(self.clock.now().mono_ns).saturating_sub(self.start_ns);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}
