//! What was learned of tokens and bytes, shared: deep checks teach it, settling teaches and asks it, admitting asks it.

use crate::ledger::estimate::Estimates;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The estimates behind a lock of their own, held for some ten nanoseconds and never across an await. Cheap to clone; all
/// clones are one.
#[derive(Clone, Default)]
pub struct Estimator(Arc<Mutex<Estimates>>);

impl Estimator {
    /// Asks or teaches.
    pub fn with<T>(&self, act: impl FnOnce(&mut Estimates) -> T) -> T {
        // Poisoned only by a panic inside the arithmetic, of which each step leaves the sums whole.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Estimator")
    }
}
