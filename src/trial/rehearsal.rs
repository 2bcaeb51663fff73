//! A gate of its own that decides on requests as text, at the times that they name.

use super::account::{ReplayAccount, RequestedOptions};
use super::request::{ReplayUsage, Request, RequestError};
use crate::config::Config;
use crate::decision::caller::blocks::Blocks;
use crate::decision::caller::keyset::KeySet;
use crate::decision::fleet::FleetView;
use crate::decision::inquiry::{BodyShown, Inquiry};
use crate::decision::judge::{requested_model, streams};
use crate::decision::moment::Moment;
use crate::decision::plan::bounds::Output;
use crate::decision::request::body::{BodyReader, KeepAlive};
use crate::decision::request::endpoint::Class;
use crate::decision::request::route::{percent_decoded, route};
use crate::decision::verdict::Verdict;
use crate::decision::view::View;
use crate::explanation::{Step, StepResult, present};
use crate::gate::receipt::Receipts;
use crate::gate::recent::Recent;
use crate::gate::state::State;
use crate::gate::{Decision, Gate, GateParts, Question};
use crate::ledger::slots::SLOTS_MAX;
use crate::ledger::tokens::observed::ObservedUsage;
use crate::metrics::{Metrics, Port};
use crate::time::clock::Clock;
use futures_util::FutureExt as _;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// Puts requests to a gate, one after another.
pub struct Rehearsal {
    gate: Gate,
    view: Arc<View>,
    /// The header that the proxy passes on for keys that name their users.
    passes: String,
    now: Moment,
    /// Requests in flight, by when they end.
    under_way: BinaryHeap<Reverse<(u64, u64)>>,
    /// Receipts of requests in flight, by number.
    receipts: HashMap<u64, (Box<str>, ObservedUsage)>,
    /// Requests put so far; each has its number as the proxy's identifier.
    count: u64,
    /// The first time that a request named, from which the others are measured.
    begun: Option<Moment>,
}

/// A decision, and its request.
pub struct Ruling<'v> {
    /// The decision, as the proxy would get it.
    pub decided: Decision<'v>,
    /// Its account.
    pub account: ReplayAccount<'v>,
    /// Its steps, where they are wanted.
    pub steps: Vec<StepResult>,
}

impl Rehearsal {
    /// Returns a rehearsal without usage, on this configuration, these keys and this fleet. `now` is the time of requests that
    /// name none.
    pub fn new(config: Config, keys: KeySet, fleet: FleetView, blocks: Blocks, passes: &str, now: Moment) -> Rehearsal {
        let state = Arc::new(State::new());
        state.publish_policy(Arc::new(config.policy));
        state.publish_keys(Arc::new(keys));
        state.publish_fleet(Arc::new(fleet));
        state.change_blocks(|_| Some(blocks));
        // Receipts never leave this process.
        let receipts = Receipts::new(rand::random::<[u8; 32]>(), 1);
        let gate = Gate::new(GateParts {
            recent: Arc::new(Recent::holding(0)),
            time_zone: config.settings.ledger.time_zone.clone(),
            settings: config.settings.of_gate(),
            ..GateParts::new(state.clone(), Arc::new(Metrics::new()), Clock::new(), receipts)
        });
        Rehearsal {
            view: state.view().clone(),
            gate,
            passes: passes.to_owned(),
            now,
            under_way: BinaryHeap::new(),
            receipts: HashMap::new(),
            count: 0,
            begun: None,
        }
    }

    /// Returns the view that decisions are made on. Rulings borrow from it.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Decides on a request at the time that it names, after settling all that ended before. The request is settled when its usage
    /// says that it ended, or at once.
    ///
    /// # Errors
    /// What of the request cannot be read; nothing is decided then.
    pub fn put<'v>(&mut self, view: &'v View, request: &Request<'_>, steps: bool) -> Result<Ruling<'v>, RequestError> {
        let (at, bytes) = (request.at_unix_ms()?, request.bytes()?);
        let now = self.advance(at);
        self.count = self.count.saturating_add(1);
        let uid = self.count.to_string();
        let Some(inquiry) = request.inquiry(uid.as_bytes(), &self.passes, &bytes) else {
            let decided = self.gate.refuse_malformed(Port::Spop);
            let account = ReplayAccount::new(view, &decided, RequestedOptions::default());
            return Ok(Ruling { decided, account, steps: Vec::new() });
        };
        let question = Question::new(&inquiry, Port::Spop, now);
        // A gate that shares nothing waits for nobody, so this is ready when first polled.
        let decided = self.gate.decide_at(view, question, now).now_or_never();
        let decided = decided.unwrap_or_else(|| self.gate.refuse_malformed(Port::Spop));
        let wish = wish(view, &inquiry, &decided);
        let steps = if steps { present(view, &inquiry, &decided, wish.model.as_deref()) } else { Vec::new() };
        if let (Verdict::Allow(_), Some(receipt)) = (&decided.verdict, decided.receipt.as_deref()) {
            match request.usage.as_ref().map(|usage| (usage.ms, observed(usage))) {
                Some((Some(ms), seen)) => {
                    self.keep(now.mono_ns.saturating_add(ms.saturating_mul(1_000_000)), receipt, seen);
                }
                Some((None, seen)) => {
                    self.gate.settle_at(receipt, b"", &seen, now);
                }
                // As if its verdict had never arrived: nothing is charged, and nothing learned.
                None => {
                    self.gate.settle_at("", uid.as_bytes(), &ObservedUsage::default(), now);
                }
            }
        }
        let account = ReplayAccount::new(view, &decided, wish);
        Ok(Ruling { decided, account, steps })
    }

    /// Advances to `at`, if that is later, and settles what has ended by then. Where the requests' time goes back, dates go back
    /// with it, and rates do not.
    fn advance(&mut self, at: Option<i64>) -> Moment {
        if let Some(at) = at {
            let begun = self.begun.get_or_insert(Moment { unix_ms: at, ..self.now });
            let passed_ms = u64::try_from(at.saturating_sub(begun.unix_ms)).unwrap_or(0);
            let mono_ns = begun.mono_ns.saturating_add(passed_ms.saturating_mul(1_000_000));
            self.now = Moment { mono_ns: mono_ns.max(self.now.mono_ns), unix_ms: at };
        }
        while let Some(Reverse((due_ns, number))) = self.under_way.peek().copied() {
            if due_ns > self.now.mono_ns {
                break;
            }
            self.under_way.pop();
            self.end(number, due_ns);
        }
        self.now
    }

    fn keep(&mut self, due_ns: u64, receipt: &str, seen: ObservedUsage) {
        // The ledger holds no more than this, and has ended the oldest of them.
        if self.under_way.len() >= SLOTS_MAX
            && let Some(Reverse((_, number))) = self.under_way.pop()
        {
            self.end(number, self.now.mono_ns);
        }
        self.under_way.push(Reverse((due_ns, self.count)));
        self.receipts.insert(self.count, (receipt.into(), seen));
    }

    fn end(&mut self, number: u64, mono_ns: u64) {
        if let Some((receipt, seen)) = self.receipts.remove(&number) {
            self.gate.settle_at(&receipt, b"", &seen, Moment { mono_ns, unix_ms: self.now.unix_ms });
        }
    }
}

/// Returns what a request says it used.
fn observed(usage: &ReplayUsage) -> ObservedUsage {
    ObservedUsage {
        complete: true,
        tokens_in: usage.input,
        tokens_out: usage.output,
        ms: usage.ms,
        ms_served: usage.ms,
        ..ObservedUsage::default()
    }
}

/// Returns what the body asks for, where the decision came as far as reading it.
fn wish(view: &View, inquiry: &Inquiry<'_>, decided: &Decision<'_>) -> RequestedOptions {
    if let Verdict::Refuse(refusal) = &decided.verdict
        && Step::refusing(&refusal.reason) < Step::Model
    {
        return RequestedOptions::default();
    }
    let Ok(route) = route(inquiry.method, inquiry.target) else { return RequestedOptions::default() };
    if let Some(encoded) = route.model_in_path {
        let decoded: Vec<u8> = percent_decoded(encoded).collect();
        return RequestedOptions {
            model: Some(String::from_utf8_lossy(&decoded).into_owned()),
            ..RequestedOptions::default()
        };
    }
    let BodyShown::Bytes { seen, .. } = inquiry.body else { return RequestedOptions::default() };
    if route.endpoint.is_answered_here() {
        return RequestedOptions::default();
    }
    let mut reader = BodyReader::new();
    reader.push(seen);
    let Ok(body) = reader.finish() else { return RequestedOptions::default() };
    let model = match requested_model(&body, route.endpoint) {
        Ok(model) => Some(model.to_owned()),
        // Longer than a model's name can be: its beginning.
        Err(refusal) => refusal.model.map(Into::into),
    };
    let is_metered = route.endpoint.class() == Class::Inference;
    let kinds = view.policy.servers.iter().map(|server| server.kind);
    let output = kinds.map(|kind| Output::asked(kind, route.endpoint, &body)).fold(Output::None, Output::most);
    RequestedOptions {
        model,
        stream: is_metered.then(|| streams(route.endpoint, &body)),
        max_output: match output {
            Output::Bounded { tokens, .. } => Some(tokens),
            _ => None,
        },
        num_ctx: body.num_ctx.and_then(|written| written.value),
        keep_alive: body.keep_alive.and_then(|written| written.value).map(|written| match written {
            KeepAlive::Number(text) | KeepAlive::Text(text) => text.as_str().to_owned(),
        }),
    }
}
