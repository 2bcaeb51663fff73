//! Every metric: its name, labels and help text, in one place.
//!
//! Recording is an addition or three to atomics in arrays indexed by closed enums: no lock, no look-up, no allocation, and
//! no label that a client can choose. All series exist from the start, so their number never grows with traffic. What the
//! View knows (servers, keys) is read from it at the scrape.

mod store;

pub use store::{StoreFailing, StoreStanding};

use crate::decision::fleet::ServerState;
use crate::decision::fleet::consistency::Disagreement;
use crate::decision::reason::Code;
use crate::decision::view::View;
use crate::gate::Settled;
use crate::gate::wait::Waited;
use crate::jwks::FetchFault;
use crate::ledger::reservation::{Evidence, Record};
use crate::ledger::tokens::estimate::{Compared, Witness};
use crate::store::Health;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Which port a connection came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// SPOP
    Spop,
    /// nginx handoff, auth_request, catalog
    Http,
    /// agent-check
    AgentCheck,
    /// metrics, status
    Metrics,
    /// control socket
    Control,
}

impl Port {
    /// Every port.
    pub const ALL: [Port; 5] = [Port::Spop, Port::Http, Port::AgentCheck, Port::Metrics, Port::Control];
    /// The ports that decisions come in on.
    const INGRESSES: [Port; 2] = [Port::Spop, Port::Http];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Port::Spop => "spop",
            Port::Http => "http",
            Port::AgentCheck => "agent_check",
            Port::Metrics => "metrics",
            Port::Control => "control",
        }
    }
}

/// How a decision went: the label pair `outcome`, `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Allowed.
    Allow,
    /// Answered by herdgate itself.
    Answer,
    /// Refused with this code.
    Refuse(Code),
}

/// Allow, answer, and one for each code.
const OUTCOMES: usize = 2 + Code::ALL.len();

impl Outcome {
    fn all() -> impl Iterator<Item = Outcome> {
        [Outcome::Allow, Outcome::Answer].into_iter().chain(Code::ALL.into_iter().map(Outcome::Refuse))
    }

    fn position(self) -> usize {
        match self {
            Outcome::Allow => 0,
            Outcome::Answer => 1,
            Outcome::Refuse(code) => 2 + code as usize,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Answer => "answer",
            Outcome::Refuse(_) => "refuse",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Outcome::Allow | Outcome::Answer => "none",
            Outcome::Refuse(code) => code.as_str(),
        }
    }
}

/// SPOP frames, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    /// HAPROXY-HELLO received.
    Hello,
    /// NOTIFY received.
    Notify,
    /// ACK sent.
    Ack,
    /// HAPROXY-DISCONNECT received.
    DisconnectReceived,
    /// AGENT-DISCONNECT sent for a framing fault.
    DisconnectSent,
}

impl Frame {
    /// Every kind.
    pub const ALL: [Frame; 5] =
        [Frame::Hello, Frame::Notify, Frame::Ack, Frame::DisconnectReceived, Frame::DisconnectSent];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Frame::Hello => "hello",
            Frame::Notify => "notify",
            Frame::Ack => "ack",
            Frame::DisconnectReceived => "disconnect_received",
            Frame::DisconnectSent => "disconnect_sent",
        }
    }
}

/// What a token's proof came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// It was proven before, and that still holds.
    Remembered,
    /// Its signature was checked and its claims hold.
    Proven,
    /// It was refused.
    Refused,
}

impl Proof {
    /// Every kind.
    pub const ALL: [Proof; 3] = [Proof::Remembered, Proof::Proven, Proof::Refused];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Proof::Remembered => "remembered",
            Proof::Proven => "proven",
            Proof::Refused => "refused",
        }
    }
}

/// Upper bounds of the duration buckets in nanoseconds, 1 µs to 100 ms.
const BOUNDS_NS: [u64; 16] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
];

/// Durations in buckets; the last bucket is for what exceeds every bound.
#[derive(Debug, Default)]
struct Durations {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    fn record(&self, ns: u64) {
        let position = BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(bucket) = self.buckets.get(position) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// What is counted for one ingress.
#[derive(Debug, Default)]
struct Decisions {
    outcomes: [AtomicU64; OUTCOMES],
    durations: Durations,
}

/// What is counted for one port.
#[derive(Debug, Default)]
struct Connections {
    open: AtomicI64,
    total: AtomicU64,
    rejected: AtomicU64,
}

/// All metrics of the process. Relaxed throughout: each number stands alone, and none guards other memory.
#[derive(Debug, Default)]
pub struct Metrics {
    decisions: [Decisions; Port::INGRESSES.len()],
    connections: [Connections; Port::ALL.len()],
    frames: [AtomicU64; Frame::ALL.len()],
    usage_lines: [AtomicU64; Settled::ALL.len()],
    tokens: [AtomicU64; Proof::ALL.len()],
    jwks_fetched: AtomicU64,
    jwks_failed: [AtomicU64; FetchFault::ALL.len()],
    waiting: AtomicU64,
    waits: [AtomicU64; Waited::ALL.len()],
    waited_ms: AtomicU64,
    /// By witness, then whole and stream, then estimated and exact.
    estimates: [[[AtomicU64; 2]; 2]; Witness::ALL.len()],
    slots_open: AtomicU64,
    slots_expired: AtomicU64,
    usage_silent: AtomicU64,
    settled: [[AtomicU64; 3]; Evidence::ALL.len()],
    shadowed: [AtomicU64; Code::ALL.len()],
    reserved_milli: AtomicU64,
    clock_in_doubt: AtomicU64,
    /// Absent where no store is shared.
    shared: OnceLock<Arc<crate::shared_store::Counts>>,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    /// Empty where the ledger is kept in memory alone.
    store: OnceLock<Arc<Health>>,
}

impl Metrics {
    /// Fresh metrics, all zero.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Counts a decision; `ns` is what it took, in nanoseconds. Only SPOP and HTTP decide.
    pub fn decision(&self, ingress: Port, outcome: Outcome, ns: u64) {
        let Some(decisions) = self.decisions.get(ingress as usize) else { return };
        if let Some(count) = decisions.outcomes.get(outcome.position()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        decisions.durations.record(ns);
    }

    /// Counts what a request that waited came to.
    pub fn outcome(&self, ingress: Port, outcome: Outcome) {
        let count = self.decisions.get(ingress as usize).and_then(|of| of.outcomes.get(outcome.position()));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many requests wait for a server now.
    pub fn waiting(&self, count: usize) {
        self.waiting.store(count as u64, Ordering::Relaxed);
    }

    /// Requests that wait for a server now.
    pub fn waiting_now(&self) -> u64 {
        load(&self.waiting)
    }

    /// Counts what waiting for a server came to; `ms` is how long one that was served waited.
    pub fn waited(&self, waited: Waited, ms: u64) {
        self.waits[waited as usize].fetch_add(1, Ordering::Relaxed);
        self.waited_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Counts a connection opened.
    pub fn connection_opened(&self, port: Port) {
        let connections = &self.connections[port as usize];
        connections.open.fetch_add(1, Ordering::Relaxed);
        connections.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection closed.
    pub fn connection_closed(&self, port: Port) {
        self.connections[port as usize].open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a connection turned away at the cap.
    pub fn connection_rejected(&self, port: Port) {
        self.connections[port as usize].rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a SPOP frame.
    pub fn frame(&self, frame: Frame) {
        self.frames[frame as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a usage line.
    pub fn usage_line(&self, settled: Settled) {
        self.usage_lines[settled as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a token.
    pub fn token(&self, proof: Proof) {
        self.tokens[proof as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a fetch of an issuer's key set; `None` where it went well.
    pub fn jwks_fetch(&self, fault: Option<FetchFault>) {
        let count = fault.map_or(&self.jwks_fetched, |fault| &self.jwks_failed[fault as usize]);
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How the slots stand: open now, expired since the last call, and whether usage lines have stopped coming.
    pub fn slots(&self, open: usize, expired: usize, silent: bool) {
        self.slots_open.store(open as u64, Ordering::Relaxed);
        self.slots_expired.fetch_add(expired as u64, Ordering::Relaxed);
        self.usage_silent.store(u64::from(silent), Ordering::Relaxed);
    }

    /// How the estimates stand: sums that only grow, by who knew the exact figure and whether the answer was a stream.
    pub fn estimates(&self, compared: [[Compared; 2]; Witness::ALL.len()]) {
        for (forms, compared) in self.estimates.iter().zip(compared) {
            for ([estimated, exact], sums) in forms.iter().zip(compared) {
                estimated.store(sums.estimated, Ordering::Relaxed);
                exact.store(sums.exact, Ordering::Relaxed);
            }
        }
    }

    /// Counts what a request was charged.
    pub fn settled(&self, record: &Record) {
        let counts = &self.settled[record.evidence as usize];
        for (count, amount) in counts.iter().zip([1, record.tokens_in, record.tokens_out]) {
            count.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Counts a request that a shadow limit let through.
    pub fn shadowed(&self, code: Code) {
        self.shadowed[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What requests on their way hold, in thousandths of a token, and whether the wall clock is not believed.
    pub fn reserved(&self, milli: u64, clock_in_doubt: bool) {
        self.reserved_milli.store(milli, Ordering::Relaxed);
        self.clock_in_doubt.store(u64::from(clock_in_doubt), Ordering::Relaxed);
    }

    /// Shows the counts of a shared store from now on. Once.
    pub fn share_store(&self, counts: Arc<crate::shared_store::Counts>) {
        // Twice is a fault of the wiring, and keeps the first.
        let _ = self.shared.set(counts);
    }

    /// Tells of this store from now on.
    pub fn tell_of_store(&self, health: Arc<Health>) {
        // There is one store for the life of a process.
        let _ = self.store.set(health);
    }

    /// How the ledger's store does, where there is one.
    pub fn store(&self) -> Option<StoreStanding> {
        self.store.get().map(|health| store::standing(health))
    }

    /// Counts a reload of the configuration; `ok` is false where the old one was kept.
    pub fn config_reload(&self, ok: bool) {
        let count = if ok { &self.reloads_ok } else { &self.reloads_failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything as OpenMetrics text, with what this View says of servers and keys.
    ///
    /// # Errors
    /// None in practice: writing to a `String` does not fail.
    pub fn render(&self, view: &View) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let of_store = self.store.get().map(|health| store::families(health)).unwrap_or_default();
        let families = self.families(view).into_iter().chain(of_store).collect();
        registry.register_collector(Box::new(Scrape(families)));
        if let Some(shared) = self.shared.get() {
            registry.register_collector(Box::new(crate::shared_store::Scraped(shared.clone())));
        }
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn families(&self, view: &View) -> Vec<Family> {
        let mut decided = Vec::new();
        let mut took = Vec::new();
        for (ingress, decisions) in Port::INGRESSES.into_iter().zip(&self.decisions) {
            for (outcome, count) in Outcome::all().zip(&decisions.outcomes) {
                let labels =
                    vec![("ingress", ingress.as_str()), ("outcome", outcome.label()), ("code", outcome.code())];
                decided.push(Sample::new(&labels, Value::Counter(load(count))));
            }
            let buckets = decisions.durations.buckets.iter().map(load).collect();
            let value = Value::Durations { buckets, sum_ns: load(&decisions.durations.sum_ns) };
            took.push(Sample::new(&[("ingress", ingress.as_str())], value));
        }
        let ports = || Port::ALL.into_iter().zip(&self.connections);
        let port_samples = |value: &dyn Fn(&Connections) -> Value| {
            ports().map(|(port, connections)| Sample::new(&[("port", port.as_str())], value(connections))).collect()
        };
        let frames = Frame::ALL
            .into_iter()
            .zip(&self.frames)
            .map(|(frame, count)| Sample::new(&[("kind", frame.as_str())], Value::Counter(load(count))))
            .collect();
        let state_of = |name: &str| view.fleet.servers.get(name).map_or(ServerState::Unknown, |server| server.state);
        let servers = ServerState::ALL
            .into_iter()
            .map(|state| {
                let count = view.policy.servers.iter().filter(|server| state_of(&server.name) == state).count();
                Sample::new(&[("state", state.as_str())], Value::gauge(count))
            })
            .collect();
        let server_up = view
            .policy
            .servers
            .iter()
            .map(|server| {
                let up = state_of(&server.name).is_live();
                Sample::new(&[("server", &server.name)], Value::Gauge(i64::from(up)))
            })
            .collect();
        let quarantined = view
            .policy
            .servers
            .iter()
            .map(|server| {
                let odd = |found: &&Disagreement| found.odd.contains(&server.name);
                let count = view.roster.disagreements.iter().filter(odd).count();
                Sample::new(&[("server", &server.name)], Value::gauge(count))
            })
            .collect();
        let usage = Settled::ALL
            .into_iter()
            .zip(&self.usage_lines)
            .map(|(settled, count)| Sample::new(&[("result", settled.as_str())], Value::Counter(load(count))))
            .collect();
        let mut estimates = Vec::new();
        for (witness, forms) in Witness::ALL.into_iter().zip(&self.estimates) {
            for (sums, form) in forms.iter().zip(["whole", "stream"]) {
                for (count, kind) in sums.iter().zip(["estimated", "exact"]) {
                    let labels = [("from", witness.as_str()), ("answer", form), ("kind", kind)];
                    estimates.push(Sample::new(&labels, Value::Counter(load(count))));
                }
            }
        }
        let tokens = Proof::ALL
            .into_iter()
            .zip(&self.tokens)
            .map(|(proof, count)| Sample::new(&[("result", proof.as_str())], Value::Counter(load(count))))
            .collect();
        let by_evidence = |which: usize| -> Vec<Sample> {
            let counts = Evidence::ALL.into_iter().zip(&self.settled);
            counts
                .map(|(evidence, counts)| {
                    Sample::new(&[("evidence", evidence.as_str())], Value::Counter(load(&counts[which])))
                })
                .collect()
        };
        let shadowed = Code::ALL
            .into_iter()
            .zip(&self.shadowed)
            .map(|(code, count)| Sample::new(&[("code", code.as_str())], Value::Counter(load(count))))
            .collect();
        let failed = FetchFault::ALL.into_iter().map(FetchFault::as_str).zip(&self.jwks_failed);
        let fetches = [("ok", &self.jwks_fetched)]
            .into_iter()
            .chain(failed)
            .map(|(result, count)| Sample::new(&[("result", result)], Value::Counter(load(count))))
            .collect();
        let issuers = |number: &dyn Fn(&str) -> usize| -> Vec<Sample> {
            let issuers = view.policy.issuers.iter();
            issuers.map(|issuer| Sample::new(&[("issuer", &issuer.name)], Value::gauge(number(&issuer.name)))).collect()
        };
        let issuer_keys = issuers(&|issuer| view.rings.get(issuer).map_or(0, |loaded| loaded.ring.len()));
        let issuer_failures = issuers(&|issuer| {
            view.rings.fetched(issuer).map_or(0, |fetched| usize::try_from(fetched.failures).unwrap_or(usize::MAX))
        });
        let waits = Waited::ALL
            .into_iter()
            .zip(&self.waits)
            .map(|(waited, count)| Sample::new(&[("result", waited.as_str())], Value::Counter(load(count))))
            .collect();
        let one = |value| vec![Sample::new(&[], value)];
        let reloads = [("ok", &self.reloads_ok), ("failed", &self.reloads_failed)]
            .map(|(result, count)| Sample::new(&[("result", result)], Value::Counter(load(count))))
            .into();
        let build = Sample::new(&[], Value::Info(vec![("version".into(), env!("CARGO_PKG_VERSION").into())]));
        vec![
            Family { name: "herdgate_decisions", help: "Decisions by ingress, outcome and public code", of: decided },
            Family {
                name: "herdgate_decision_duration_seconds",
                help: "Time a decision took, from the question read to the verdict",
                of: took,
            },
            Family {
                name: "herdgate_connections",
                help: "Connections open now",
                of: port_samples(&|connections| Value::Gauge(connections.open.load(Ordering::Relaxed))),
            },
            Family {
                // Not `herdgate_connections_total`: in OpenMetrics that would be a second family of the gauge's name.
                name: "herdgate_connections_accepted",
                help: "Connections accepted",
                of: port_samples(&|connections| Value::Counter(load(&connections.total))),
            },
            Family {
                name: "herdgate_connections_rejected",
                help: "Connections turned away because too many were open",
                of: port_samples(&|connections| Value::Counter(load(&connections.rejected))),
            },
            Family { name: "herdgate_spop_frames", help: "SPOP frames by kind", of: frames },
            Family { name: "herdgate_servers", help: "Model servers by state", of: servers },
            Family { name: "herdgate_server_up", help: "1 where the model server takes requests", of: server_up },
            Family {
                name: "herdgate_quarantined_models",
                help: "Models a server has with other content than the rest of the fleet, taken out of the pool",
                of: quarantined,
            },
            Family { name: "herdgate_usage_lines", help: "Usage lines by what they came to", of: usage },
            Family {
                name: "herdgate_settled",
                help: "Requests charged, by how what they used is known",
                of: by_evidence(0),
            },
            Family {
                name: "herdgate_tokens_in",
                help: "Prompt tokens charged, by how they are known",
                of: by_evidence(1),
            },
            Family {
                name: "herdgate_tokens_out",
                help: "Generated tokens charged, by how they are known",
                of: by_evidence(2),
            },
            Family {
                name: "herdgate_tokens_reserved",
                help: "Tokens held for requests on their way, weighted by cost",
                of: one(Value::Gauge(i64::try_from(load(&self.reserved_milli) / 1000).unwrap_or(i64::MAX))),
            },
            Family { name: "herdgate_shadowed", help: "Requests that a shadow limit let through", of: shadowed },
            Family {
                name: "herdgate_clock_in_doubt",
                help: "1 while the wall clock has jumped forward and budgets do not follow it yet",
                of: one(Value::Gauge(i64::from(load(&self.clock_in_doubt) > 0))),
            },
            Family {
                name: "herdgate_slots_open",
                help: "Requests granted whose end is not known yet",
                of: one(Value::Gauge(i64::try_from(load(&self.slots_open)).unwrap_or(i64::MAX))),
            },
            Family {
                name: "herdgate_slots_expired",
                help: "Slots ended by time because no usage line came",
                of: one(Value::Counter(load(&self.slots_expired))),
            },
            Family {
                name: "herdgate_usage_silent",
                help: "1 while usage lines have stopped coming though requests are granted",
                of: one(Value::Gauge(i64::from(load(&self.usage_silent) > 0))),
            },
            Family {
                name: "herdgate_waiting",
                help: "Requests that wait here for a server",
                of: one(Value::Gauge(i64::try_from(load(&self.waiting)).unwrap_or(i64::MAX))),
            },
            Family { name: "herdgate_waits", help: "Requests that waited here by what that came to", of: waits },
            Family {
                name: "herdgate_waited_milliseconds",
                help: "Time that requests waited here that were then served",
                of: one(Value::Counter(load(&self.waited_ms))),
            },
            Family {
                name: "herdgate_estimate_tokens",
                help: "Tokens of answers of which both an estimate and the exact figure are known",
                of: estimates,
            },
            Family { name: "herdgate_config_reloads", help: "Reloads of the configuration by result", of: reloads },
            Family {
                name: "herdgate_keys",
                help: "API keys loaded, revoked and expired ones included",
                of: vec![Sample::new(&[], Value::gauge(view.keys.len()))],
            },
            Family { name: "herdgate_tokens", help: "Tokens (JWT) by what their proof came to", of: tokens },
            Family {
                name: "herdgate_jwks_fetches",
                help: "Fetches of issuers' key sets by what they came to",
                of: fetches,
            },
            Family { name: "herdgate_issuer_keys", help: "Usable keys of each issuer", of: issuer_keys },
            Family {
                name: "herdgate_issuer_failures",
                help: "Fetches of each issuer's keys that failed since one did not",
                of: issuer_failures,
            },
            Family { name: "herdgate_build", help: "The running version", of: vec![build] },
        ]
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

type Labels = Vec<(String, String)>;

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(i64),
    Durations { buckets: Vec<u64>, sum_ns: u64 },
    Info(Labels),
}

impl Value {
    fn gauge(count: usize) -> Value {
        Value::Gauge(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn kind(&self) -> MetricType {
        match self {
            Value::Counter(_) => MetricType::Counter,
            Value::Gauge(_) => MetricType::Gauge,
            Value::Durations { .. } => MetricType::Histogram,
            Value::Info(_) => MetricType::Info,
        }
    }

    fn encode(&self, metric: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Value::Counter(count) => metric.encode_counter::<NoLabelSet, u64, f64>(count, None),
            Value::Gauge(number) => metric.encode_gauge(number),
            Value::Info(info) => metric.encode_info(info),
            Value::Durations { buckets, sum_ns } => {
                let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
                let counted: Vec<_> = bounds.zip(buckets.iter().copied()).collect();
                // The sum of the buckets and not a counter of its own, so that the two never disagree.
                let count = buckets.iter().fold(0_u64, |sum, bucket| sum.saturating_add(*bucket));
                metric.encode_histogram::<NoLabelSet>(*sum_ns as f64 / 1e9, count, &counted, None)
            }
        }
    }
}

#[derive(Debug)]
struct Sample {
    labels: Labels,
    value: Value,
}

impl Sample {
    fn new(labels: &[(&str, &str)], value: Value) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { labels, value }
    }
}

/// One metric name. Counters are named without the `_total` that the text form adds, infos without `_info`.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    of: Vec<Sample>,
}

/// The numbers of one moment, for the encoder.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, of } in &self.0 {
            let Some(first) = of.first() else { continue };
            let mut family = encoder.encode_descriptor(name, help, None, first.value.kind())?;
            for Sample { labels, value } in of {
                if labels.is_empty() {
                    value.encode(&mut family)?;
                } else {
                    value.encode(&mut family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}
