//! How the store does, for metrics, `/status` and the log: counts that only grow, what waits, and what fails now.

use super::fault::Fault;
use super::queue::Queue;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that each stand alone, so relaxed throughout.
#[derive(Debug, Default)]
pub struct Health {
    queue: Arc<Queue>,
    written: AtomicU64,
    commits: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    failing: Mutex<Option<Failing>>,
}

/// Nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// What it fails with.
    pub fault: Fault,
    /// What was said last.
    pub what: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
}

impl Health {
    pub(super) fn of(queue: Arc<Queue>) -> Health {
        Health { queue, ..Health::default() }
    }

    /// Returns how many messages wait to be written.
    pub fn pending(&self) -> u64 {
        self.queue.counts().pending
    }

    /// Returns how many messages are on disk.
    pub fn written(&self) -> u64 {
        load(&self.written)
    }

    /// Returns how many transactions they took.
    pub fn commits(&self) -> u64 {
        load(&self.commits)
    }

    /// Returns how many grants were not written down because too much waited: after a crash they would be unknown.
    pub fn dropped_grants(&self) -> u64 {
        self.queue.counts().dropped_grants
    }

    /// Returns how many ends of requests were not written down because too much waited: what was used is lost with this
    /// process.
    pub fn dropped_ends(&self) -> u64 {
        self.queue.counts().dropped_ends
    }

    /// Returns how many tries failed with `fault`.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.get(fault as usize).map_or(0, load)
    }

    /// Returns what fails now; `None` where nothing does.
    pub fn failing(&self) -> Option<Failing> {
        self.lock().clone()
    }

    /// Notes that a transaction of so many messages is on disk. Returns what had failed until then.
    pub(super) fn wrote(&self, messages: usize) -> Option<Failing> {
        self.written.fetch_add(messages as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.lock().take()
    }

    /// Notes that a try failed. Returns whether the one before had not.
    pub(super) fn failed(&self, fault: Fault, what: String, now_unix_ms: i64) -> bool {
        if let Some(count) = self.faults.get(fault as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut failing = self.lock();
        let since_unix_ms = failing.as_ref().map_or(now_unix_ms, |before| before.since_unix_ms);
        failing.replace(Failing { fault, what, since_unix_ms }).is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
