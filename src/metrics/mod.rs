//! Metrics: recorded here, exported by `render`, written as text by `classic` and `openmetrics`.
//!
//! Recording is an addition or three to atomics in arrays indexed by closed enums: no lock, no look-up, no allocation, and
//! no label that a client can choose. All series exist from the start, so their number never grows with traffic. What the
//! View knows (servers, keys) is read from it at the scrape.

mod classic;
pub mod document;
mod family;
mod labels;
mod latency;
pub mod ledger_file;
mod openmetrics;
mod render;
pub mod shared_store;

pub use labels::{DecisionLabel, Direction, FetchFault, FrameLabel, Port, Proof, SettleLabel, WaitLabel};
pub use ledger_file::{StoreFailing, StoreStanding};

use crate::decision::reason::Code;
use crate::decision::view::View;
use crate::ledger::reservation::{Evidence, Record};
use crate::ledger::tokens::estimate::{Comparison, Witness};
use latency::Latencies;
use ledger_file::Health;
use shared_store::Counts;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text 0.0.4.
    Classic,
    /// OpenMetrics text 1.0.0.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the media type.
    pub fn content_type(self) -> &'static str {
        match self {
            TextFormat::Classic => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Counters of one ingress.
#[derive(Debug, Default)]
struct Decisions {
    outcomes: [AtomicU64; DecisionLabel::COUNT],
    durations: Latencies,
}

/// Counters of one port.
#[derive(Debug, Default)]
struct Connections {
    open: AtomicI64,
    total: AtomicU64,
    rejected: AtomicU64,
}

/// All metrics of the process. All accesses are relaxed, because each number stands alone and guards no other memory.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By the ports that decide.
    decisions: [Decisions; Port::INGRESSES.len()],
    connections: [Connections; Port::COUNT],
    frames: [AtomicU64; FrameLabel::COUNT],
    usage_lines: [AtomicU64; SettleLabel::COUNT],
    jwts: [AtomicU64; Proof::COUNT],
    jwks_fetched: AtomicU64,
    jwks_failed: [AtomicU64; FetchFault::COUNT],
    waiting: AtomicU64,
    waits: [AtomicU64; WaitLabel::COUNT],
    waited_ms: AtomicU64,
    /// By witness, then whole and stream, then estimated and exact.
    estimates: [[[AtomicU64; 2]; 2]; Witness::COUNT],
    slots_open: AtomicU64,
    slots_expired: AtomicU64,
    usage_silent: AtomicU64,
    settled: [AtomicU64; Evidence::COUNT],
    llm_tokens: [[AtomicU64; Evidence::COUNT]; Direction::COUNT],
    shadowed: [AtomicU64; Code::COUNT],
    reserved_milli: AtomicU64,
    clock_in_doubt: AtomicU64,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    /// Empty where the ledger is kept in memory alone.
    ledger_file: OnceLock<Arc<Health>>,
    /// Empty where limits are this process's own.
    shared_store: OnceLock<Arc<Counts>>,
}

impl Metrics {
    /// Returns fresh metrics, all zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Counts a decision that took `ns` nanoseconds. Only SPOP and HTTP decide.
    pub fn decision(&self, ingress: Port, outcome: DecisionLabel, ns: u64) {
        let Some(decisions) = self.decisions_of(ingress) else { return };
        decisions.outcomes[outcome.index()].fetch_add(1, Ordering::Relaxed);
        decisions.durations.record(ns);
    }

    /// Counts the outcome of a request that waited.
    pub fn outcome(&self, ingress: Port, outcome: DecisionLabel) {
        if let Some(decisions) = self.decisions_of(ingress) {
            decisions.outcomes[outcome.index()].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn decisions_of(&self, ingress: Port) -> Option<&Decisions> {
        let position = Port::INGRESSES.iter().position(|port| *port == ingress)?;
        self.decisions.get(position)
    }

    /// Sets how many requests wait for a server now.
    pub fn waiting(&self, count: usize) {
        self.waiting.store(count as u64, Ordering::Relaxed);
    }

    /// Returns how many requests wait for a server now.
    pub fn waiting_now(&self) -> u64 {
        load(&self.waiting)
    }

    /// Counts the end of a wait; `ms` is how long a request that was served had waited.
    pub fn waited(&self, waited: WaitLabel, ms: u64) {
        self.waits[waited.index()].fetch_add(1, Ordering::Relaxed);
        self.waited_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Counts a connection opened.
    pub fn connection_opened(&self, port: Port) {
        let connections = &self.connections[port.index()];
        connections.open.fetch_add(1, Ordering::Relaxed);
        connections.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection closed.
    pub fn connection_closed(&self, port: Port) {
        self.connections[port.index()].open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection turned away because too many were open.
    pub fn connection_rejected(&self, port: Port) {
        self.connections[port.index()].rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a SPOP frame.
    pub fn frame(&self, frame: FrameLabel) {
        self.frames[frame.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a usage line.
    pub fn usage_line(&self, settled: SettleLabel) {
        self.usage_lines[settled.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the check of a JWT.
    pub fn token(&self, proof: Proof) {
        self.jwts[proof.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a fetch of an issuer's key set; `None` is a success.
    pub fn jwks_fetch(&self, fault: Option<FetchFault>) {
        let count = fault.map_or(&self.jwks_fetched, |fault| &self.jwks_failed[fault.index()]);
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets how many slots are open and whether usage lines have stopped coming; adds the slots that have expired since the
    /// last call.
    pub fn slots(&self, open: usize, expired: usize, silent: bool) {
        self.slots_open.store(open as u64, Ordering::Relaxed);
        self.slots_expired.fetch_add(expired as u64, Ordering::Relaxed);
        self.usage_silent.store(u64::from(silent), Ordering::Relaxed);
    }

    /// Sets the state of the estimates: sums that only grow, by who knew the exact figure and whether the answer was a stream.
    pub fn estimates(&self, compared: [[Comparison; 2]; Witness::COUNT]) {
        for (forms, compared) in self.estimates.iter().zip(compared) {
            for ([estimated, exact], sums) in forms.iter().zip(compared) {
                estimated.store(sums.estimated, Ordering::Relaxed);
                exact.store(sums.exact, Ordering::Relaxed);
            }
        }
    }

    /// Counts a request that was charged, and the LLM tokens it was charged for.
    pub fn settled(&self, record: &Record) {
        let evidence = record.evidence.index();
        self.settled[evidence].fetch_add(1, Ordering::Relaxed);
        for (direction, amount) in [(Direction::Input, record.tokens.prompt), (Direction::Output, record.tokens.output)]
        {
            self.llm_tokens[direction.index()][evidence].fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Counts a request that a shadow limit let through.
    pub fn shadowed(&self, code: Code) {
        self.shadowed[code.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Sets what is reserved for requests in flight, in thousandths of a token, and whether the wall clock is doubted.
    pub fn reserved(&self, milli: u64, clock_in_doubt: bool) {
        self.reserved_milli.store(milli, Ordering::Relaxed);
        self.clock_in_doubt.store(u64::from(clock_in_doubt), Ordering::Relaxed);
    }

    /// Exports the counts of a shared store from now on. Once.
    pub fn show_shared_store(&self, counts: Arc<Counts>) {
        // Twice is a fault of the wiring, and keeps the first.
        let _ = self.shared_store.set(counts);
    }

    /// Exports the state of the ledger's file from now on. Once.
    pub fn show_ledger_file(&self, health: Arc<Health>) {
        // There is one file for the life of a process.
        let _ = self.ledger_file.set(health);
    }

    /// Returns the state of the ledger's file, where there is one.
    pub fn ledger_file(&self) -> Option<StoreStanding> {
        self.ledger_file.get().map(|health| health.standing())
    }

    /// Counts a reload of the configuration; `ok` is false where the old one was kept.
    pub fn config_reload(&self, ok: bool) {
        let count = if ok { &self.reloads_ok } else { &self.reloads_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all metrics as text, with those of the View's servers and keys.
    ///
    /// # Errors
    /// None in practice: writing to a `String` does not fail.
    pub fn render(&self, view: &View, format: TextFormat) -> Result<String, fmt::Error> {
        let families: Vec<_> = render::subjects(self, view).into_iter().flat_map(|subject| subject.families).collect();
        let mut text = String::with_capacity(16 * 1024);
        match format {
            TextFormat::Classic => classic::encode(&mut text, &families)?,
            TextFormat::OpenMetrics => openmetrics::encode(&mut text, families)?,
        }
        Ok(text)
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
