//! What the ledger's store tells: whether it is written, what waits, what was dropped.

use super::{Family, Sample, Value};
use crate::store::{Fault, Health};
use crate::time::date;
use serde::Serialize;

/// How the ledger's file does, as `/status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStanding {
    /// Grants and ends of requests that wait to be written.
    pub pending: u64,
    /// Those that were not, because too much waited.
    pub dropped: u64,
    /// Why it cannot be written; absent where it can.
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
    /// Since when.
    pub since: String,
}

/// How a store stands now.
pub(super) fn standing(health: &Health) -> StoreStanding {
    let failing = health.failing().map(|failing| StoreFailing {
        fault: failing.fault.as_str(),
        what: failing.what,
        since: date::format(failing.since_unix_ms),
    });
    let dropped = health.dropped_grants().saturating_add(health.dropped_ends());
    StoreStanding { pending: health.pending(), dropped, failing }
}

/// The families of a store.
pub(super) fn families(health: &Health) -> Vec<Family> {
    let one = |value| vec![Sample::new(&[], value)];
    let gauge = |number: u64| Value::Gauge(i64::try_from(number).unwrap_or(i64::MAX));
    let dropped = [("grant", health.dropped_grants()), ("end", health.dropped_ends())];
    let dropped = dropped.map(|(what, count)| Sample::new(&[("what", what)], Value::Counter(count))).into();
    let faults =
        Fault::ALL.map(|fault| Sample::new(&[("fault", fault.as_str())], Value::Counter(health.faults(fault))));
    vec![
        Family {
            name: "herdgate_store_pending",
            help: "Grants and ends of requests that wait to be written to the ledger's file",
            of: one(gauge(health.pending())),
        },
        Family {
            name: "herdgate_store_written",
            help: "Grants and ends of requests written to the ledger's file",
            of: one(Value::Counter(health.written())),
        },
        Family {
            name: "herdgate_store_commits",
            help: "Transactions of the ledger's file",
            of: one(Value::Counter(health.commits())),
        },
        Family {
            name: "herdgate_store_dropped",
            help: "Grants and ends of requests that were not written because too much waited",
            of: dropped,
        },
        Family {
            name: "herdgate_store_faults",
            help: "Tries to write the ledger's file that failed, by what they failed with",
            of: faults.into(),
        },
        Family {
            name: "herdgate_store_failing",
            help: "1 while the ledger's file cannot be written",
            of: one(Value::Gauge(i64::from(health.failing().is_some()))),
        },
    ]
}
