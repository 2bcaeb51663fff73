//! The books kept in this process's memory, shared by all connections.

use super::books::{Admission, Books, Excess};
use crate::decision::limits::Limits;
use crate::decision::moment::Moment;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One lock around all books. Taking all limits or none over several shards would need them locked in order; a claim holds
/// this lock for some hundred nanoseconds and never across an await, which one lock serves at any rate HAProxy can ask.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    books: Mutex<Books>,
}

impl MemoryLedger {
    /// Takes every limit of a claim, or none. See [`Books::admit`].
    ///
    /// # Errors
    /// [`Excess`] where a limit is used up.
    pub fn admit(&self, limits: &Limits, pool_key: u64, now: Moment) -> Result<Admission, Excess> {
        self.lock().admit(limits, pool_key, now)
    }

    /// Gives back what an admitted claim took.
    pub fn release(&self, limits: &Limits) {
        self.lock().release(limits);
    }

    /// Forgets the turns of pools that no longer exist.
    pub fn retain_pools(&self, exists: impl Fn(u64) -> bool) {
        self.lock().retain_pools(exists);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Poisoned only by a panic inside the arithmetic, of which each step leaves the maps whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
