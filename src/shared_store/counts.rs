//! What is counted of the store: calls by operation and outcome, how long they took, the breaker and the backlog. Labels come
//! from closed sets.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the store was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Taking a claim.
    Admit,
    /// Charging what was used.
    Settle,
    /// Giving a claim back.
    Release,
    /// Looking up a reservation.
    Find,
    /// Looking for what has expired, and for what others have settled.
    Sweep,
    /// Telling and hearing what is in flight.
    Exchange,
    /// Finding out whether it takes writes.
    Beat,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 7] = [
        Operation::Admit,
        Operation::Settle,
        Operation::Release,
        Operation::Find,
        Operation::Sweep,
        Operation::Exchange,
        Operation::Beat,
    ];

    /// Returns the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Admit => "admit",
            Operation::Settle => "settle",
            Operation::Release => "release",
            Operation::Find => "find",
            Operation::Sweep => "sweep",
            Operation::Exchange => "exchange",
            Operation::Beat => "beat",
        }
    }
}

/// Why the store did not answer, or not with what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Trouble {
    /// It was not asked: the breaker is open.
    Open,
    /// It was not asked: too many calls are waiting for it.
    Busy,
    /// No answer within the deadline. Whether it was carried out is not known.
    Timeout,
    /// No connection, or it broke.
    Connection,
    /// It is a replica.
    ReadOnly,
    /// It loads its data, or its primary is away.
    Loading,
    /// The cluster is down, or the keys are elsewhere.
    Cluster,
    /// It is full, or cannot write its data down.
    Full,
    /// It wants another credential, or forbids what was asked.
    Denied,
    /// It answered with another error.
    Error,
    /// Its answer makes no sense.
    Nonsense,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Trouble; 11] = [
        Trouble::Open,
        Trouble::Busy,
        Trouble::Timeout,
        Trouble::Connection,
        Trouble::ReadOnly,
        Trouble::Loading,
        Trouble::Cluster,
        Trouble::Full,
        Trouble::Denied,
        Trouble::Error,
        Trouble::Nonsense,
    ];

    /// Returns the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Open => "open",
            Trouble::Busy => "busy",
            Trouble::Timeout => "timeout",
            Trouble::Connection => "connection",
            Trouble::ReadOnly => "read_only",
            Trouble::Loading => "loading",
            Trouble::Cluster => "cluster",
            Trouble::Full => "full",
            Trouble::Denied => "denied",
            Trouble::Error => "error",
            Trouble::Nonsense => "nonsense",
        }
    }

    /// Returns whether another connection may help: a name may lead to another server after a failover.
    pub(super) fn wants_reconnect(self) -> bool {
        !matches!(self, Trouble::Open | Trouble::Busy | Trouble::Timeout | Trouble::Full | Trouble::Nonsense)
    }
}

/// Upper bounds of the latency buckets, in nanoseconds.
const BOUNDS_NS: [u64; 9] =
    [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000];

/// One for success, and one for each kind of trouble.
const OUTCOMES: usize = 1 + Trouble::ALL.len();

/// What is counted of one store.
#[derive(Debug, Default)]
pub struct Counts {
    calls: [[AtomicU64; OUTCOMES]; Operation::ALL.len()],
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
    opened: AtomicU64,
    is_up: AtomicU64,
    backlog: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    pub(super) fn call(&self, operation: Operation, trouble: Option<Trouble>, ns: u64) {
        let outcome = trouble.map_or(0, |trouble| 1 + trouble as usize);
        self.calls[operation as usize][outcome].fetch_add(1, Ordering::Relaxed);
        if !matches!(trouble, Some(Trouble::Open | Trouble::Busy)) {
            self.buckets[BOUNDS_NS.partition_point(|bound| *bound < ns)].fetch_add(1, Ordering::Relaxed);
            self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn up(&self, is_up: bool) {
        self.is_up.store(u64::from(is_up), Ordering::Relaxed);
    }

    pub(super) fn backlog(&self, length: usize) {
        self.backlog.store(length as u64, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many calls of an operation went well, or met this trouble.
    pub fn calls(&self, operation: Operation, trouble: Option<Trouble>) -> u64 {
        load(&self.calls[operation as usize][trouble.map_or(0, |trouble| 1 + trouble as usize)])
    }

    /// Returns how often the breaker opened.
    pub fn times_opened(&self) -> u64 {
        load(&self.opened)
    }

    /// Returns how many ends could not be delivered and were given up.
    pub fn times_lost(&self) -> u64 {
        load(&self.lost)
    }
}

/// The counts of one moment, for the encoder.
#[derive(Debug)]
pub struct Scraped(pub Arc<Counts>);

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Scraped(counts) = self;
        let counter = ConstCounter::new(0_u64).metric_type();
        let mut family =
            encoder.encode_descriptor("herdgate_store_calls", "Calls to the shared store", None, counter)?;
        for operation in Operation::ALL {
            for trouble in [None].into_iter().chain(Trouble::ALL.map(Some)) {
                let outcome = trouble.map_or("ok", Trouble::as_str);
                let labels = [("operation", operation.as_str()), ("outcome", outcome)];
                let count = ConstCounter::new(counts.calls(operation, trouble));
                count.encode(family.encode_family(&labels)?)?;
            }
        }
        let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.buckets.iter().map(load)).collect();
        let total = buckets.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let kind = prometheus_client::metrics::MetricType::Histogram;
        let help = "How long calls to the shared store took";
        let mut family = encoder.encode_descriptor("herdgate_store_call_seconds", help, None, kind)?;
        let sum_s = load(&counts.sum_ns) as f64 / 1e9;
        family.encode_histogram::<prometheus_client::encoding::NoLabelSet>(sum_s, total, &buckets, None)?;
        for (name, help, count) in [
            ("herdgate_store_breaker_openings", "How often the shared store was given up for a while", &counts.opened),
            ("herdgate_store_lost", "Ends of requests that the shared store was never told of", &counts.lost),
        ] {
            let count = ConstCounter::new(load(count));
            count.encode(encoder.encode_descriptor(name, help, None, count.metric_type())?)?;
        }
        for (name, help, value) in [
            ("herdgate_store_up", "1 while decisions are taken by the shared store", &counts.is_up),
            ("herdgate_store_backlog", "Ends of requests that wait for the shared store", &counts.backlog),
        ] {
            let gauge = ConstGauge::new(i64::try_from(load(value)).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
