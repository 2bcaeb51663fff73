//! How long requests take, learned from those that ended.

use super::histogram::Histogram;

/// A histogram of durations in milliseconds, from 1 ms to about 50 days. A quantile is right to within 19 %, which a
/// time-out can live with.
#[derive(Debug, Clone, Default)]
pub struct Durations(Histogram);

impl Durations {
    /// Notes one duration, in milliseconds.
    pub fn note(&mut self, ms: u64) {
        self.0.note(ms);
    }

    /// Returns the quantile `permille`/1000 in milliseconds; `None` before anything was noted.
    pub fn quantile_ms(&self, permille: u32) -> Option<u64> {
        self.0.quantile(permille)
    }
}
