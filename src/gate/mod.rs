//! One decision from inquiry to verdict: judge, admit, choose, record. Every ingress calls [`Gate::decide`].

pub mod audit;
pub mod case;
mod catalog;
pub mod failures;
pub mod id;
pub mod last_used;
pub mod proven_tokens;
pub mod receipt;
pub mod recent;
mod settle;
mod shared_store;
pub mod state;
pub mod wait;

pub use case::{DEADLINE_NS, Decision, Question};
pub use id::{DecisionId, Ticket};
pub use shared_store::{ForeignLine, Sharing};

use crate::decision::fleet::roster::PoolKey;
use crate::decision::plan::limits::{Quota, Scope};
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use crate::ledger::account::{ExhaustedLimit, LimitExcess};
use crate::ledger::calendar::Day;
use crate::ledger::journal::Journal;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::plan::Denial;
use crate::ledger::reservation::{Evidence, Reservation};
use crate::mailbox::calibrations::Calibrations;
use crate::mailbox::wanted::MissingKeyBoard;
use crate::metrics::Metrics;
use crate::net::log_throttle::LogThrottle;
use crate::time::clock::Clock;
use arc_swap::ArcSwapOption;
use audit::Audit;
use failures::Failures;
use jiff::tz::TimeZone;
use last_used::LastUsed;
use proven_tokens::ProvenTokens;
use receipt::Receipts;
use recent::Recent;
use state::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use wait::WaitQueue;

/// Parts that a gate is built from, all of them before the first decision.
pub struct GateParts {
    /// The current view.
    pub state: Arc<State>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
    /// Issuer and reader of receipts.
    pub receipts: Receipts,
    /// The last decisions, for `herdgate explain ID`.
    pub recent: Arc<Recent>,
    /// Where days and months begin. Stored budgets count in it, so it stays for the life of the process.
    pub time_zone: TimeZone,
    /// Requests that may wait at once.
    pub waiters_max: usize,
    /// Journal of what must outlive the process; absent where nothing is kept.
    pub journal: Option<Arc<dyn Journal>>,
    /// What an earlier run left behind; only where there is a journal.
    pub inheritance: Inheritance,
    /// The shared store; absent where limits are counted in this process alone.
    pub sharing: Option<Sharing>,
    /// Settings that a reload may change.
    pub settings: GateSettings,
}

impl GateParts {
    /// Returns the parts of a gate without journal and shared store, in UTC and at the default settings.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>, clock: Clock, receipts: Receipts) -> GateParts {
        GateParts {
            state,
            metrics,
            clock,
            receipts,
            recent: Arc::default(),
            time_zone: TimeZone::UTC,
            waiters_max: wait::WAITERS_MAX,
            journal: None,
            inheritance: Inheritance::default(),
            sharing: None,
            settings: GateSettings::default(),
        }
    }
}

/// What an earlier run left behind.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Requests that were in flight.
    pub open: Vec<Reservation>,
    /// What each scope was charged on each day (in the ledger's time zone), in thousandths of a token.
    pub charged: Vec<(Scope, Day, u64)>,
    /// Requests settled lately, and how that is known.
    pub settled: Vec<(u128, Evidence)>,
}

/// Settings of a gate that a reload may change. [`Gate::apply`] applies all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateSettings {
    /// Longest a request counts as in flight, in nanoseconds (`[ledger] max_stream`).
    pub max_stream_ns: u64,
    /// Failed credentials that one network may have (`[auth] failures`); `None`: any number.
    pub failures: Option<Quota>,
}

impl Default for GateSettings {
    /// Returns an hour, and any number of failures.
    fn default() -> GateSettings {
        GateSettings { max_stream_ns: 3_600_000_000_000, failures: None }
    }
}

/// Everything a decision needs, shared by all connections.
pub struct Gate {
    /// The current view.
    pub state: Arc<State>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
    /// The audit log.
    pub audit: Audit,
    /// When each secret was last used.
    pub last_used: LastUsed,
    /// The last decisions, for `herdgate explain ID`.
    pub recent: Arc<Recent>,
    /// Measurements of deep checks, for the ledger to learn from.
    pub calibrations: Calibrations,
    ledger: MemoryLedger,
    /// Absent where nothing limits failed credentials.
    failures: ArcSwapOption<Failures>,
    receipts: Receipts,
    throttle: LogThrottle,
    tokens: ProvenTokens,
    /// Absent where nothing is kept.
    journal: Option<Arc<dyn Journal>>,
    /// When this run began, in seconds since 1970: receipts from before are another run's.
    began_unix_s: i64,
    /// Longest a request may be in flight, in seconds.
    max_stream_s: AtomicI64,
    /// Requests that wait for a server.
    queue: WaitQueue,
    /// Absent where limits are counted in this process alone.
    sharing: Option<Sharing>,
}

impl Gate {
    /// Builds a gate, whose counters begin with what an earlier run left behind.
    pub fn new(parts: GateParts) -> Gate {
        let GateParts { state, metrics, clock, receipts, recent, time_zone, waiters_max, .. } = parts;
        let GateParts { journal, inheritance, sharing, settings, .. } = parts;
        let now = clock.now();
        let ledger = MemoryLedger::default();
        ledger.set_zone(time_zone);
        let Inheritance { open, charged, settled } = inheritance;
        if let Some(sharing) = &sharing {
            metrics.show_shared_store(sharing.counts());
        }
        let gate = Gate {
            tokens: ProvenTokens::new(metrics.clone()),
            state,
            metrics,
            clock,
            audit: Audit::default(),
            last_used: LastUsed::default(),
            recent,
            calibrations: Calibrations::default(),
            ledger,
            failures: ArcSwapOption::empty(),
            receipts,
            throttle: LogThrottle::default(),
            journal,
            began_unix_s: now.unix_ms / 1000,
            max_stream_s: AtomicI64::new(0),
            queue: WaitQueue::new(waiters_max),
            sharing,
        };
        // Before anything is restored, because what was open may be too old by them.
        gate.apply(&settings);
        // Where nothing is recorded, no run came before this one, and no line of such a run can come.
        if gate.journal.is_some() {
            gate.ledger.restore(open, charged.into_iter(), settled.into_iter(), now);
        }
        gate
    }

    /// Applies settings, at start and at every reload.
    pub fn apply(&self, settings: &GateSettings) {
        let GateSettings { max_stream_ns, failures } = *settings;
        self.ledger.set_max_stream_ns(max_stream_ns);
        let max_stream_s = i64::try_from(max_stream_ns / 1_000_000_000).unwrap_or(i64::MAX);
        // A line may come a little after its slot has ended by time.
        self.max_stream_s.store(max_stream_s.saturating_add(60), Ordering::Relaxed);
        if let Some(sharing) = &self.sharing {
            sharing.set_max_stream_ns(max_stream_ns);
        }
        // Another quota than before begins with no failure on record.
        if self.failures.load().as_ref().map(|failures| failures.quota()) != failures {
            self.failures.store(failures.map(|quota| Arc::new(Failures::new(quota))));
        }
    }

    /// Returns the keys of issuers that decisions found missing.
    pub fn wanted(&self) -> Arc<MissingKeyBoard> {
        self.tokens.wanted.clone()
    }

    /// Returns `Some` where a malformed question may be warned of now, with the number of warnings left out since the last one. A
    /// proxy that is configured wrongly must not fill the disk.
    pub fn warning_due(&self) -> Option<u64> {
        self.throttle.admit(self.clock.now())
    }

    /// Returns the bytes per token of this pool's answers and of its prompts, once they were learned.
    pub fn bytes_per_token(&self, pool: PoolKey) -> Option<(f64, f64)> {
        self.ledger.bytes_per_token(pool)
    }

    /// Forgets the users of keys that are gone. Called after keys are published.
    pub fn retain_keys(&self, view: &View) {
        // Only keys with `on_behalf_of` have users.
        let asking = view.keys.iter().filter(|key| key.on_behalf.is_some());
        let scopes: std::collections::HashSet<_> = asking.map(|key| key.scope).collect();
        self.ledger.retain_keys(|scope| scopes.contains(&scope));
    }

    /// Forgets the turns of callers at pools that are gone. Called after a View is published.
    pub fn retain_pools(&self, view: &View) {
        let exists = |key| view.roster.pools.iter().any(|pool| pool.key == key);
        self.ledger.retain_pools(exists);
    }
}

/// Returns the refusal of a claim that was denied.
fn refusal_of(denied: Denial) -> Refusal {
    match denied {
        Denial::Shed { retry_ns } => Refusal { retry_after_s: whole_s(retry_ns), ..Refusal::new(Reason::Shed) },
        Denial::Excess(excess) => refusal(excess),
        Denial::NoServer(refusal) => refusal,
    }
}

/// Returns the refusal by a limit that is used up.
fn refusal(excess: LimitExcess) -> Refusal {
    let LimitExcess { holder, limit, retry_ns, standing } = excess;
    let (reason, standing, tokens) = match limit {
        ExhaustedLimit::Requests => (Reason::RequestRate(holder), standing, None),
        ExhaustedLimit::Concurrency => (Reason::Concurrency(holder), None, None),
        ExhaustedLimit::Tokens => (Reason::TokenRate(holder), None, standing),
        ExhaustedLimit::Budget(window) => (Reason::Budget(holder, window), None, standing),
        ExhaustedLimit::NeverFits { reserved, most } => {
            (Reason::NeverFits { holder, held: reserved, most }, None, None)
        }
    };
    Refusal { retry_after_s: retry_ns.and_then(whole_s), standing, tokens, ..Refusal::new(reason) }
}

/// Returns whole seconds for `Retry-After`: rounded up, and at least one.
fn whole_s(ns: u64) -> Option<u64> {
    Some(ns.div_ceil(1_000_000_000).max(1))
}
