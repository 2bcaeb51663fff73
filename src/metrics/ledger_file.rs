//! State of the ledger's file for metrics, `/status` and the log: counters, messages that wait, and the present failure.

use super::family::{Family, Label};
use super::load;
use crate::time::date;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

closed_enum! {
    /// Kind of a failed write: a closed set, for metrics.
    #[derive(thiserror::Error)]
    #[error("{}", self.as_str())]
    pub enum LedgerFileError {
        /// The disk is full.
        Full = "full",
        /// The system could not read or write.
        Io = "io",
        /// Another process holds the file's lock.
        Busy = "busy",
        /// The file is damaged.
        Damaged = "damaged",
        /// Anything else.
        Other = "other",
    }
}

/// Counts of the file's writer. All accesses are relaxed, because each number stands alone.
#[derive(Debug, Default)]
pub struct Health {
    pending: AtomicU64,
    dropped_grants: AtomicU64,
    dropped_ends: AtomicU64,
    written: AtomicU64,
    commits: AtomicU64,
    faults: [AtomicU64; LedgerFileError::COUNT],
    failing: Mutex<Option<Failing>>,
}

/// Present failure of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The kind of fault.
    pub fault: LedgerFileError,
    /// What was said last.
    pub what: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
}

impl Health {
    /// Returns the number of messages that wait to be written.
    pub fn pending(&self) -> u64 {
        load(&self.pending)
    }

    /// Returns the number of messages that are on disk.
    pub fn written(&self) -> u64 {
        load(&self.written)
    }

    /// Returns the number of transactions that wrote them.
    pub fn commits(&self) -> u64 {
        load(&self.commits)
    }

    /// Returns the number of grants that were not written down because too much waited: after a crash they would be unknown.
    pub fn dropped_grants(&self) -> u64 {
        load(&self.dropped_grants)
    }

    /// Returns the number of ends of requests that were not written down because too much waited: what they used is lost
    /// with this process.
    pub fn dropped_ends(&self) -> u64 {
        load(&self.dropped_ends)
    }

    /// Returns the number of writes that failed with `fault`.
    pub fn faults(&self, fault: LedgerFileError) -> u64 {
        load(&self.faults[fault.index()])
    }

    /// Returns the present failure.
    pub fn failing(&self) -> Option<Failing> {
        self.lock().clone()
    }

    /// Notes how many messages wait to be written.
    pub(crate) fn set_pending(&self, messages: u64) {
        self.pending.store(messages, Ordering::Relaxed);
    }

    /// Counts a message that was dropped.
    pub(crate) fn dropped(&self, is_grant: bool) {
        let count = if is_grant { &self.dropped_grants } else { &self.dropped_ends };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a transaction of `messages`. Returns the failure that it ended, if any.
    pub(crate) fn wrote(&self, messages: usize) -> Option<Failing> {
        self.written.fetch_add(messages as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.lock().take()
    }

    /// Counts a write that failed. Returns whether the one before had succeeded.
    pub(crate) fn failed(&self, fault: LedgerFileError, what: String, now_unix_ms: i64) -> bool {
        self.faults[fault.index()].fetch_add(1, Ordering::Relaxed);
        let mut failing = self.lock();
        let since_unix_ms = failing.as_ref().map_or(now_unix_ms, |before| before.since_unix_ms);
        failing.replace(Failing { fault, what, since_unix_ms }).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of the file.
    pub(super) fn standing(&self) -> StoreStanding {
        let failing = self.failing().map(|failing| StoreFailing {
            fault: failing.fault.as_str(),
            what: failing.what,
            since: date::format(failing.since_unix_ms),
        });
        let dropped = self.dropped_grants().saturating_add(self.dropped_ends());
        StoreStanding { pending: self.pending(), dropped, failing }
    }

    /// Returns its metrics.
    pub(super) fn families(&self) -> Vec<Family> {
        vec![
            Family::gauge(
                "herdgate_ledger_file_pending",
                "Grants and ends of requests that wait to be written to the ledger's file",
                self.pending(),
            ),
            Family::counter(
                "herdgate_ledger_file_written",
                "Grants and ends of requests written to the ledger's file",
                self.written(),
            ),
            Family::counter("herdgate_ledger_file_commits", "Transactions of the ledger's file", self.commits()),
            Family::counters(
                "herdgate_ledger_file_dropped",
                "Grants and ends of requests that were not written because too much waited",
                Label::closed("what", ["grant", "end"]),
                [self.dropped_grants(), self.dropped_ends()],
            ),
            Family::counters(
                "herdgate_ledger_file_faults",
                "Failed tries to write the ledger's file, by fault",
                Label::closed("fault", LedgerFileError::WORDS),
                self.faults.iter().map(load),
            ),
            Family::gauge(
                "herdgate_ledger_file_failing",
                "1 while the ledger's file cannot be written",
                i64::from(self.failing().is_some()),
            ),
        ]
    }
}

/// State of the ledger's file, as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStanding {
    /// Grants and ends of requests that wait to be written.
    pub pending: u64,
    /// Grants and ends that were dropped, because too many waited.
    pub dropped: u64,
    /// Why the file cannot be written; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<StoreFailing>,
}

/// Why the ledger's file cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreFailing {
    /// The kind of fault.
    pub fault: &'static str,
    /// What was said last.
    pub what: String,
    /// Time of the first failed write since the last that succeeded.
    pub since: String,
}
