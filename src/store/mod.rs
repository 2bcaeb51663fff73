//! The embedded store: what the ledger must not forget when herdgate ends, in one SQLite file.
//!
//! Scheme. Deciding never waits for disk: a grant or a settlement is put into a bounded queue, and one thread writes
//! what has gathered there in one transaction, every few milliseconds. The file is in WAL mode with `synchronous=FULL`,
//! so that what a transaction wrote survives a kill and a loss of power (sqlite.org, "Write-Ahead Logging"). A row and
//! what it adds to the budgets are one transaction; a row that comes again changes nothing, and one with better evidence
//! changes the budgets by the difference, on the day and in the books of the first.
//!
//! Where the disk is full or fails, decisions go on from memory, the queue fills and then drops (and counts) what comes,
//! grants first: what they are for, knowing after a crash what was in flight, is worth less than what was used. When
//! the disk is well again the writer notices by itself. One herdgate writes a file: a lock on a file beside it says so.
//! The files have mode 0600; they hold names of keys and users, never a secret or a prompt.

mod apply;
mod backup;
mod fault;
mod file;
mod find;
mod forget;
mod lock;
mod queue;
mod restore;
mod retention;
mod schema;
mod usage;
mod writer;

pub use crate::metrics::ledger_file::{Failing, Health, LedgerFileError};
pub use backup::backup;
pub use fault::OpenStoreError;
pub use find::{Row, StoredLife, find};
pub use forget::Forgotten;
pub use restore::{DayCharge, LATELY_MAX, LATELY_MS, OPEN_MAX, Restored};
pub use retention::SPENT_DAYS;
pub use usage::{By, LINES_MAX, Selection, UsageRow, report};

use crate::ledger::journal::Journal;
use crate::ledger::journal::Keeper;
use crate::ledger::reservation::{Record, Reservation};
use crate::time::clock::Clock;
use jiff::tz::TimeZone;
use queue::{JournalMessage, Queue};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Days a record is kept.
    pub keep_days: u32,
    /// Whether a damaged file is moved aside, and a fresh one begun.
    pub fresh_on_damage: bool,
    /// The clock: for what is too old, and for since when something fails.
    pub clock: Clock,
    /// Where days begin.
    pub zone: TimeZone,
    /// The SQLite VFS that carries the file, by name; `None` is the system's.
    pub vfs: Option<&'static str>,
}

/// The writing end of a file. Dropped, it writes what it still can.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    queue: Arc<Queue>,
    health: Arc<Health>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Longest time that a dropped store takes to write what waits.
const LAST_FLUSH: Duration = Duration::from_secs(5);

impl Journal for Store {
    fn opened(&self, taken: Reservation) {
        self.queue.push(JournalMessage::Opened(taken));
    }

    fn settled(&self, record: Record) {
        self.queue.push(JournalMessage::Settled(record));
    }

    fn released(&self, id: u128) {
        self.queue.push(JournalMessage::Released(id));
    }
}

impl Store {
    /// Opens the file, or makes it. Returns what it remembers.
    ///
    /// # Errors
    /// [`OpenStoreError`], which names the file and says what to do.
    pub fn open(path: &Path, options: Options) -> Result<(Store, Restored), OpenStoreError> {
        let lock = lock::take(path)?;
        let (connection, restored) = restore::open(path, &options)?;
        let health = Arc::new(Health::default());
        let queue = Arc::new(Queue::new(health.clone()));
        let writer = writer::Writer::new(path, options, connection, queue.clone(), health.clone());
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            // Held as long as anything is written.
            let _lock = lock;
            writer.run();
        });
        let thread = thread.map_err(|error| OpenStoreError::system(path, "starting its thread", &error))?;
        Ok((Store { path: path.to_owned(), queue, health, writer: Mutex::new(Some(thread)) }, restored))
    }

    /// Waits until every message sent before is on disk. Returns false where that took longer than `longest`.
    pub fn flush(&self, longest: Duration) -> bool {
        self.queue.flush(longest)
    }

    /// Returns what is known of a request. Reads the disk, so not for where decisions are taken.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn find(&self, id: u128) -> Result<Option<StoredLife>, OpenStoreError> {
        find::find(&self.path, id)
    }

    /// Removes a user's name and books; sums stay. Waits for the disk, so not for where decisions are taken.
    ///
    /// # Errors
    /// What went wrong; where that is the disk, a part of the rows may have been changed.
    pub fn forget(&self, user: &str) -> Result<Forgotten, String> {
        self.queue.forget(user)
    }

    /// Returns how the store fares.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Writes what waits, for at most `longest`, and closes the file. Returns how many messages were not written.
    pub fn close(&self, longest: Duration) -> u64 {
        self.queue.flush(longest);
        self.queue.stop();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has said so already.
            let _ = thread.join();
        }
        self.queue.pending()
    }
}

impl Keeper for Store {
    fn forget(&self, user: &str) -> Result<String, String> {
        Store::forget(self, user).map(|forgotten| forgotten.to_string())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close(LAST_FLUSH);
    }
}
