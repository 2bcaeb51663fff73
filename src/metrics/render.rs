//! What is exported: one function for each subject, in the order of the reference page.

use super::family::{Family, FamilyKind, Label, Sample, SampleValue};
use super::labels::{DecisionLabel, Direction, FetchFault, FrameLabel, NO_CODE, Port, Proof, SettleLabel, WaitLabel};
use super::{Connections, Metrics, load};
use crate::decision::fleet::ServerState;
use crate::decision::fleet::consistency::Disagreement;
use crate::decision::reason::Code;
use crate::decision::view::View;
use crate::ledger::reservation::Evidence;
use crate::ledger::tokens::estimate::Witness;
use std::sync::atomic::Ordering;

/// Metrics of one subject.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) title: &'static str,
    /// Where these metrics are absent otherwise.
    pub(super) only: Option<&'static str>,
    pub(super) families: Vec<Family>,
}

/// Returns everything that there is to say now.
pub(super) fn subjects(metrics: &Metrics, view: &View) -> Vec<Subject> {
    let always = |title, families| Subject { title, only: None, families };
    let ledger_file = metrics.ledger_file.get().map(|health| health.families());
    let shared_store = metrics.shared_store.get().map(|counts| counts.families());
    vec![
        always("Decisions", decisions(metrics)),
        always("Connections", connections(metrics)),
        always("Model servers", servers(view)),
        always("Requests in flight", in_flight(metrics)),
        always("Waiting for a server", waiting(metrics)),
        always("LLM tokens", llm_tokens(metrics)),
        always("API keys and JWTs", credentials(metrics, view)),
        Subject {
            title: "The ledger's file",
            only: Some("Only where the ledger is kept in a file (`[ledger] path`)."),
            families: ledger_file.unwrap_or_default(),
        },
        Subject {
            title: "The shared store",
            only: Some("Only where limits are shared through Redis or Valkey (`[ledger] store`)."),
            families: shared_store.unwrap_or_default(),
        },
        always("The process", process(metrics)),
    ]
}

fn ingress() -> Label {
    Label::closed("ingress", Port::INGRESSES.map(Port::as_str))
}

fn decisions(metrics: &Metrics) -> Vec<Family> {
    let ingresses = || Port::INGRESSES.into_iter().zip(&metrics.decisions);
    let decided = ingresses().flat_map(|(ingress, decisions)| {
        DecisionLabel::all().zip(&decisions.outcomes).map(move |(outcome, count)| {
            let words = [ingress.as_str(), outcome.as_str(), outcome.code()];
            Sample::new(words, SampleValue::Count(load(count)))
        })
    });
    vec![
        Family {
            name: "herdgate_decisions",
            kind: FamilyKind::Counter,
            help: "Decisions by ingress, outcome and public code",
            labels: vec![
                ingress(),
                Label::closed("outcome", DecisionLabel::WORDS),
                Label::closed("code", [NO_CODE].into_iter().chain(Code::WORDS)),
            ],
            samples: decided.collect(),
        },
        Family::by_word(
            "herdgate_decision_duration_seconds",
            FamilyKind::Histogram,
            "Time from a decision's start, after the question was read, to its verdict",
            ingress(),
            ingresses().map(|(_, decisions)| decisions.durations.value()),
        ),
        Family::counters(
            "herdgate_shadowed",
            "Requests that a shadow limit let through",
            Label::closed("code", Code::WORDS),
            metrics.shadowed.iter().map(load),
        ),
    ]
}

fn connections(metrics: &Metrics) -> Vec<Family> {
    let port = || Label::closed("port", Port::WORDS);
    let open = |connections: &Connections| SampleValue::Gauge(connections.open.load(Ordering::Relaxed));
    vec![
        Family::by_word(
            "herdgate_connections",
            FamilyKind::Gauge,
            "Connections open now",
            port(),
            metrics.connections.iter().map(open),
        ),
        // Not `herdgate_connections_total`: in OpenMetrics that would be a second family of the gauge's name.
        Family::counters(
            "herdgate_connections_accepted",
            "Connections accepted",
            port(),
            metrics.connections.iter().map(|connections| load(&connections.total)),
        ),
        Family::counters(
            "herdgate_connections_rejected",
            "Connections turned away because too many were open",
            port(),
            metrics.connections.iter().map(|connections| load(&connections.rejected)),
        ),
        Family::counters(
            "herdgate_spop_frames",
            "SPOP frames by kind",
            Label::closed("kind", FrameLabel::WORDS),
            metrics.frames.iter().map(load),
        ),
    ]
}

fn servers(view: &View) -> Vec<Family> {
    let names = || view.policy.servers.iter().map(|server| &*server.name);
    let label = || Label::open("server", "`name` of a `[[server]]`");
    let state_of = |name: &str| view.fleet.servers.get(name).map_or(ServerState::Unknown, |server| server.state);
    let in_state = |state| SampleValue::gauge(names().filter(|name| state_of(name) == state).count());
    let quarantined = |name: &str| {
        let odd = |found: &&Disagreement| found.odd.iter().any(|odd| **odd == *name);
        view.roster.disagreements.iter().filter(odd).count()
    };
    vec![
        Family::by_word(
            "herdgate_servers",
            FamilyKind::Gauge,
            "Model servers by state",
            Label::closed("state", ServerState::WORDS),
            ServerState::ALL.map(in_state),
        ),
        Family::by_name(
            "herdgate_server_up",
            "1 where the model server takes requests",
            label(),
            names().map(|name| (name, usize::from(state_of(name).is_live()))),
        ),
        Family::by_name(
            "herdgate_quarantined_models",
            "Models a server has with other content than the rest of the fleet, taken out of the pool",
            label(),
            names().map(|name| (name, quarantined(name))),
        ),
    ]
}

fn in_flight(metrics: &Metrics) -> Vec<Family> {
    vec![
        Family::gauge("herdgate_slots_open", "Requests granted whose end is not known yet", load(&metrics.slots_open)),
        Family::counter(
            "herdgate_slots_expired",
            "Slots ended by time because no usage line came",
            load(&metrics.slots_expired),
        ),
        Family::counters(
            "herdgate_usage_lines",
            "Usage lines of the proxies by result",
            Label::closed("result", SettleLabel::WORDS),
            metrics.usage_lines.iter().map(load),
        ),
        Family::gauge(
            "herdgate_usage_silent",
            "1 while usage lines have stopped coming though requests are granted",
            load(&metrics.usage_silent),
        ),
    ]
}

fn waiting(metrics: &Metrics) -> Vec<Family> {
    vec![
        Family::gauge("herdgate_waiting", "Requests that wait here for a server", load(&metrics.waiting)),
        Family::counters(
            "herdgate_waits",
            "Requests that waited here, by how the wait ended",
            Label::closed("result", WaitLabel::WORDS),
            metrics.waits.iter().map(load),
        ),
        Family::single(
            "herdgate_waited_seconds",
            FamilyKind::Counter,
            "Time that requests waited here before they were served",
            SampleValue::Milliseconds(load(&metrics.waited_ms)),
        ),
    ]
}

/// Values of the label `answer` of what is estimated.
const ANSWERS: [&str; 2] = ["whole", "stream"];

/// Values of the label `kind` of what is estimated.
const KINDS: [&str; 2] = ["estimated", "exact"];

fn llm_tokens(metrics: &Metrics) -> Vec<Family> {
    let evidence = || Label::closed("evidence", Evidence::WORDS);
    let tokens = Direction::ALL.into_iter().zip(&metrics.llm_tokens).flat_map(|(direction, counts)| {
        Evidence::ALL.into_iter().zip(counts).map(move |(evidence, count)| {
            Sample::new([direction.as_str(), evidence.as_str()], SampleValue::Count(load(count)))
        })
    });
    let mut estimates = Vec::new();
    for (witness, forms) in Witness::WORDS.into_iter().zip(&metrics.estimates) {
        for (answer, sums) in ANSWERS.into_iter().zip(forms) {
            let samples = KINDS.into_iter().zip(sums);
            let sample = |(kind, sum)| Sample::new([witness, answer, kind], SampleValue::Count(load(sum)));
            estimates.extend(samples.map(sample));
        }
    }
    vec![
        Family::counters(
            "herdgate_settled",
            "Requests charged, by how their usage is known",
            evidence(),
            metrics.settled.iter().map(load),
        ),
        Family {
            name: "herdgate_llm_tokens",
            kind: FamilyKind::Counter,
            help: "LLM tokens charged, of prompts (input) and generated (output), by how their number is known",
            labels: vec![Label::closed("direction", Direction::WORDS), evidence()],
            samples: tokens.collect(),
        },
        Family::gauge(
            "herdgate_llm_tokens_reserved",
            "LLM tokens reserved for requests in flight, weighted by cost",
            load(&metrics.reserved_milli) / 1000,
        ),
        Family {
            name: "herdgate_estimate_tokens",
            kind: FamilyKind::Counter,
            help: "LLM tokens of answers of which both an estimate and the exact figure are known",
            labels: vec![
                Label::closed("from", Witness::WORDS),
                Label::closed("answer", ANSWERS),
                Label::closed("kind", KINDS),
            ],
            samples: estimates,
        },
    ]
}

fn credentials(metrics: &Metrics, view: &View) -> Vec<Family> {
    let names = || view.policy.issuers.iter().map(|issuer| &*issuer.name);
    let issuer = || Label::open("issuer", "`issuer` of an `[[issuer]]`");
    let keys = |name: &str| view.rings.get(name).map_or(0, |loaded| loaded.ring.len());
    let failures = |name: &str| {
        let failures = view.rings.fetched(name).map_or(0, |fetched| fetched.failures);
        usize::try_from(failures).unwrap_or(usize::MAX)
    };
    let fetches = [&metrics.jwks_fetched].into_iter().chain(&metrics.jwks_failed);
    vec![
        Family::gauge("herdgate_keys", "API keys loaded, revoked and expired ones included", view.keys.len()),
        Family::counters(
            "herdgate_jwt_checks",
            "JWTs checked, by result",
            Label::closed("result", Proof::WORDS),
            metrics.jwts.iter().map(load),
        ),
        Family::counters(
            "herdgate_jwks_fetches",
            "Fetches of issuers' key sets by result",
            Label::closed("result", ["ok"].into_iter().chain(FetchFault::WORDS)),
            fetches.map(load),
        ),
        Family::by_name(
            "herdgate_issuer_keys",
            "Usable keys of each issuer",
            issuer(),
            names().map(|name| (name, keys(name))),
        ),
        Family::by_name(
            "herdgate_issuer_failures",
            "Fetches of each issuer's keys that have failed since the last success",
            issuer(),
            names().map(|name| (name, failures(name))),
        ),
    ]
}

fn process(metrics: &Metrics) -> Vec<Family> {
    vec![
        Family::counters(
            "herdgate_config_reloads",
            "Reloads of the configuration by result",
            Label::closed("result", ["ok", "failed"]),
            [load(&metrics.reloads_ok), load(&metrics.reloads_failed)],
        ),
        Family::gauge(
            "herdgate_clock_in_doubt",
            "1 while the wall clock has jumped forward and budgets do not follow it yet",
            load(&metrics.clock_in_doubt),
        ),
        Family {
            name: "herdgate_build",
            kind: FamilyKind::Info,
            help: "The running version",
            labels: vec![Label::open("version", "its number")],
            samples: vec![Sample::new([env!("CARGO_PKG_VERSION")], SampleValue::Info)],
        },
    ]
}
