//! The ways in which the ledger writes down what happens, so that it survives the process.

use super::reservation::{Record, Reservation};

/// A journal. Each call returns at once: a decision never waits for a disk.
pub trait Journal: Send + Sync {
    /// Writes down a request that was granted, and its reservation.
    fn opened(&self, taken: Reservation);

    /// Writes down a request that has ended, or whose charge is corrected: a second record of one id replaces the first
    /// where its evidence is better.
    fn settled(&self, record: Record);

    /// Writes down that a request whose verdict never arrived has ended without a charge.
    fn released(&self, id: u128);
}

/// A keeper of users' records, which can forget a user.
pub trait Keeper: Send + Sync {
    /// Forgets a user; takes its time. Returns what was done.
    ///
    /// # Errors
    /// A sentence that says what went wrong.
    fn forget(&self, user: &str) -> Result<String, String>;
}
