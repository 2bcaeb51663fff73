//! What deep checks measured of the servers' answers, on its way to the ledger, which learns from it.

use crate::ledger::tokens::estimate::Calibration;
use std::sync::{Arc, Mutex, PoisonError};

/// Measures that may wait; more are dropped, and the next checks bring others.
const PENDING_MAX: usize = 1024;

/// Where they are left. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Calibrations(Arc<Mutex<Vec<Calibration>>>);

impl Calibrations {
    /// Leaves one.
    pub fn leave(&self, found: Calibration) {
        // A panic elsewhere cannot leave half an entry behind.
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < PENDING_MAX {
            pending.push(found);
        }
    }

    /// Takes all that wait, in order.
    pub fn take(&self) -> Vec<Calibration> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
