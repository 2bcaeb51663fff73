//! Where the ledger writes down what happens, so that it survives the process.

use super::reservation::{Record, Reservation};

/// A journal. Each call returns at once: a decision never waits for a disk.
pub trait Journal: Send + Sync {
    /// A request was granted and holds this.
    fn opened(&self, taken: Reservation);

    /// A request has ended, or is charged otherwise than before: a second record of one id replaces the first where its
    /// evidence is better.
    fn settled(&self, record: Record);

    /// A request whose verdict never arrived was let go, and is not charged.
    fn released(&self, id: u128);
}

/// Who keeps records of users, and can forget them.
pub trait Keeper: Send + Sync {
    /// Forgets a user; takes its time. Answers what was done.
    ///
    /// # Errors
    /// What went wrong.
    fn forget(&self, user: &str) -> Result<String, String>;
}
