//! Metrics of the shared store: calls by operation and outcome, their duration, the breaker and the backlog.

use super::family::{Family, FamilyKind, Label, Sample, SampleValue};
use super::latency::Latencies;
use super::load;
use std::sync::atomic::{AtomicU64, Ordering};

closed_enum! {
    /// Operation of the store.
    pub enum Operation {
        /// Takes a claim.
        Admit = "admit",
        /// Charges what a request used.
        Settle = "settle",
        /// Releases a claim.
        Release = "release",
        /// Looks up a reservation.
        Find = "find",
        /// Looks for reservations that have expired, and for those that others have settled.
        Sweep = "sweep",
        /// Exchanges the requests in flight.
        Exchange = "exchange",
        /// Checks whether the store takes writes.
        Beat = "beat",
    }
}

closed_enum! {
    /// Why the store did not answer, or not with what was asked.
    #[derive(thiserror::Error)]
    #[error("{}", self.as_str())]
    pub enum SharedStoreError {
        /// It was not asked: the breaker is open.
        Open = "open",
        /// It was not asked: too many calls are pending.
        Busy = "busy",
        /// No answer within the deadline. Whether it was carried out is not known.
        Timeout = "timeout",
        /// No connection, or it broke.
        Connection = "connection",
        /// It is a replica.
        ReadOnly = "read_only",
        /// It loads its data, or its primary is away.
        Loading = "loading",
        /// The cluster is down, or the keys are elsewhere.
        Cluster = "cluster",
        /// It is full, or cannot persist its data.
        Full = "full",
        /// It wants another credential, or forbids what was asked.
        Denied = "denied",
        /// It answered with another error.
        Error = "error",
        /// Its answer makes no sense.
        Nonsense = "nonsense",
    }
}

/// All counts. Relaxed throughout: each number stands alone.
#[derive(Debug, Default)]
pub struct Counts {
    went_well: [AtomicU64; Operation::COUNT],
    met: [[AtomicU64; SharedStoreError::COUNT]; Operation::COUNT],
    took: Latencies,
    opened: AtomicU64,
    is_up: AtomicU64,
    backlog: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    /// Counts a call; `ns` is its duration, where the store was asked at all.
    pub(crate) fn call(&self, operation: Operation, trouble: Option<SharedStoreError>, ns: u64) {
        self.of(operation, trouble).fetch_add(1, Ordering::Relaxed);
        if !matches!(trouble, Some(SharedStoreError::Open | SharedStoreError::Busy)) {
            self.took.record(ns);
        }
    }

    /// Counts that the breaker opened.
    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether decisions are taken by the store.
    pub(crate) fn up(&self, is_up: bool) {
        self.is_up.store(u64::from(is_up), Ordering::Relaxed);
    }

    /// Notes how many ends wait to be delivered.
    pub(crate) fn backlog(&self, length: usize) {
        self.backlog.store(length as u64, Ordering::Relaxed);
    }

    /// Counts an end that is given up.
    pub(crate) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of calls of an operation that succeeded, or failed with this trouble.
    pub fn calls(&self, operation: Operation, trouble: Option<SharedStoreError>) -> u64 {
        load(self.of(operation, trouble))
    }

    /// Returns how often the breaker opened.
    pub fn times_opened(&self) -> u64 {
        load(&self.opened)
    }

    /// Returns the number of ends that could not be delivered and were given up.
    pub fn times_lost(&self) -> u64 {
        load(&self.lost)
    }

    fn of(&self, operation: Operation, trouble: Option<SharedStoreError>) -> &AtomicU64 {
        match trouble {
            None => &self.went_well[operation.index()],
            Some(trouble) => &self.met[operation.index()][trouble.index()],
        }
    }

    /// Returns their metrics.
    pub(super) fn families(&self) -> Vec<Family> {
        let outcomes = || [None].into_iter().chain(SharedStoreError::ALL.map(Some));
        let calls = Operation::ALL.into_iter().flat_map(|operation| {
            outcomes().map(move |trouble| {
                let words = [operation.as_str(), trouble.map_or(WELL, SharedStoreError::as_str)];
                Sample::new(words, SampleValue::Count(self.calls(operation, trouble)))
            })
        });
        vec![
            Family {
                name: "herdgate_shared_store_calls",
                kind: FamilyKind::Counter,
                help: "Calls to the shared store",
                labels: vec![
                    Label::closed("operation", Operation::WORDS),
                    Label::closed("outcome", [WELL].into_iter().chain(SharedStoreError::WORDS)),
                ],
                samples: calls.collect(),
            },
            Family::single(
                "herdgate_shared_store_call_duration_seconds",
                FamilyKind::Histogram,
                "Time that calls to the shared store took",
                self.took.value(),
            ),
            Family::counter(
                "herdgate_shared_store_breaker_openings",
                "How often the shared store was given up for a while",
                load(&self.opened),
            ),
            Family::counter(
                "herdgate_shared_store_lost",
                "Ends of requests that the shared store was never told of",
                load(&self.lost),
            ),
            Family::gauge(
                "herdgate_shared_store_up",
                "1 while decisions are taken by the shared store",
                load(&self.is_up),
            ),
            Family::gauge(
                "herdgate_shared_store_backlog",
                "Ends of requests that wait for the shared store",
                load(&self.backlog),
            ),
        ]
    }
}

/// The outcome of a call that went well.
const WELL: &str = "ok";
