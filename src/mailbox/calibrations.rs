//! Measurements of the servers' answers: deep checks leave them, and the ledger learns from them.

use crate::ledger::tokens::estimate::Calibration;
use std::sync::{Arc, Mutex, PoisonError};

/// Most measurements that may wait; further ones are dropped, and the next checks bring others.
const PENDING_MAX: usize = 1024;

/// Measurements that wait. Clones are cheap and share one store.
#[derive(Debug, Clone, Default)]
pub struct Calibrations(Arc<Mutex<Vec<Calibration>>>);

impl Calibrations {
    /// Adds a measurement.
    pub fn leave(&self, found: Calibration) {
        // A panic elsewhere cannot leave half an entry behind.
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < PENDING_MAX {
            pending.push(found);
        }
    }

    /// Takes all measurements that wait, in order.
    pub fn take(&self) -> Vec<Calibration> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
