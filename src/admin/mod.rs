//! The metrics port and the control socket: `/metrics`, `/status`, `/livez`, `/readyz`, without secrets. The metrics port is
//! read-only; what an operator orders (`control`, and which servers to drain) comes over the control socket, whose file's
//! mode says who may.

pub mod control;
mod scrape;

use crate::decision::caller::blocks::Block;
use crate::decision::caller::token::Issuer;
use crate::decision::fleet::roster::Pool;
use crate::decision::fleet::{Preference, ServerState};
use crate::decision::moment::Moment;
use crate::decision::plan::policy::{ModelPattern, Plan};
use crate::decision::plan::server::{Server, ServerKind};
use crate::decision::view::View;
use crate::explanation;
use crate::gate::Gate;
use crate::gate::recent::{self, Recent};
use crate::gate::state::State;
use crate::ledger::journal::Keeper;
use crate::mailbox::drains::Drains;
use crate::metrics::{Metrics, Port, StoreStanding};
use crate::net::http::{self, HttpAnswer};
use crate::net::listen::{self, Bound, ConnectionLimit};
use crate::net::log_throttle::LogThrottle;
use crate::time::clock::Clock;
use crate::time::date;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Most connections at once: scrapers, probes and people.
const CONNECTIONS_MAX: usize = 64;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the two ports show.
pub struct Admin {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    clock: Clock,
    started: Moment,
    /// Milliseconds since 1970; 0 until a configuration was loaded.
    config_loaded_unix_ms: AtomicI64,
    keys_loaded: AtomicBool,
    /// Warnings about peers of both ports.
    complaints: LogThrottle,
    /// Servers that an operator drains.
    drains: Drains,
    /// The last decisions; told over the control socket alone.
    recent: Arc<Recent>,
    /// Knows what was learned of models; absent where nothing is decided.
    gate: Option<Arc<Gate>>,
    /// Who keeps records of users; empty where nobody does.
    keeper: OnceLock<Arc<dyn Keeper>>,
}

impl Admin {
    /// Not ready yet; the process's age counts from here.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>, clock: Clock) -> Admin {
        let started = clock.now();
        Admin {
            state,
            metrics,
            clock,
            started,
            config_loaded_unix_ms: AtomicI64::new(0),
            keys_loaded: AtomicBool::new(false),
            complaints: LogThrottle::default(),
            drains: Drains::default(),
            recent: Arc::new(Recent::holding(0)),
            gate: None,
            keeper: OnceLock::new(),
        }
    }

    /// The same, telling of these decisions.
    #[must_use]
    pub fn telling(self, recent: Arc<Recent>) -> Admin {
        Admin { recent, ..self }
    }

    /// Has this keeper asked from now on.
    pub fn ask_keeper(&self, keeper: Arc<dyn Keeper>) {
        // There is one for the life of a process.
        let _ = self.keeper.set(keeper);
    }

    /// The same, telling what this gate learned of models.
    #[must_use]
    pub fn learning_from(self, gate: Arc<Gate>) -> Admin {
        Admin { gate: Some(gate), ..self }
    }

    /// The servers that an operator drains.
    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    /// Notes that a configuration was published now, at start or by a reload.
    pub fn config_loaded(&self) {
        self.config_loaded_unix_ms.store(self.clock.now().unix_ms, Ordering::Release);
    }

    /// Notes that keys were published.
    pub fn keys_loaded(&self) {
        self.keys_loaded.store(true, Ordering::Release);
    }

    /// Why requests cannot be decided on yet; `Ok` once they can.
    fn readiness(&self, view: &View) -> Result<(), String> {
        if self.config_loaded_unix_ms.load(Ordering::Acquire) == 0 {
            return Err("the configuration is not loaded yet".into());
        }
        if !self.keys_loaded.load(Ordering::Acquire) {
            return Err("the keys are not loaded yet".into());
        }
        let unknown: Vec<&str> = view
            .policy
            .servers
            .iter()
            .filter(|server| state_of(view, server) == ServerState::Unknown)
            .map(|server| &*server.name)
            .collect();
        if !unknown.is_empty() {
            return Err(format!("not probed to an end yet: {}", unknown.join(", ")));
        }
        let names = view.policy.issuers.iter().map(|issuer| &*issuer.name);
        let keyless: Vec<&str> = names.filter(|issuer| view.rings.get(issuer).is_none()).collect();
        if keyless.is_empty() { Ok(()) } else { Err(format!("no keys fetched yet of {}", keyless.join(", "))) }
    }
}

/// Answers on `port` ([`Port::Metrics`] or [`Port::Control`]) until `stop`.
pub async fn serve(bound: Bound, admin: Arc<Admin>, port: Port, stop: CancellationToken) {
    let door = ConnectionLimit { port, connections_max: CONNECTIONS_MAX, metrics: admin.metrics.clone() };
    let ending = stop.clone();
    listen::serve(bound, door, stop, |stream, peer| {
        let admin = admin.clone();
        let ending = ending.clone();
        async move {
            let complaint = || admin.complaints.admit(admin.clock.now());
            http::serve(stream, peer, ending, complaint, |request| {
                let admin = admin.clone();
                // By its socket's file alone: over TCP anybody could write, browsers included.
                let may_order = port == Port::Control && peer.is_local();
                async move {
                    let path = request.uri().path().to_owned();
                    if let Some(order) = path.strip_prefix("/servers/").filter(|_| may_order) {
                        return obey(&admin, request.method(), order);
                    }
                    if let Some(id) = path.strip_prefix("/decisions/").filter(|_| may_order) {
                        return decision(&admin, request.method(), id);
                    }
                    if may_order && request.method() == Method::POST && path == "/forget" {
                        let said = control::forget(admin.keeper.get().cloned(), request.into_body()).await;
                        return plain(StatusCode::from_u16(said.0).unwrap_or_default(), TEXT, said.1);
                    }
                    if may_order && request.method() == Method::POST && control::is_command(&path) {
                        let said = control::obey(&admin.state, &admin.clock, &path, request.into_body()).await;
                        return plain(StatusCode::from_u16(said.0).unwrap_or_default(), TEXT, said.1);
                    }
                    answer(&admin, request.method(), &path, request.headers())
                }
            })
            .await;
        }
    })
    .await;
}

fn answer(admin: &Admin, method: &Method, path: &str, headers: &HeaderMap) -> HttpAnswer {
    let route: fn(&Admin, &View, &HeaderMap) -> HttpAnswer = match path {
        "/metrics" => scrape::answer,
        "/status" => |admin, view, _| status(admin, view),
        "/livez" => |_, _, _| plain(StatusCode::OK, TEXT, "alive\n"),
        "/readyz" => |admin, view, _| match admin.readiness(view) {
            Ok(()) => plain(StatusCode::OK, TEXT, "ready\n"),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        _ => return plain(StatusCode::NOT_FOUND, TEXT, "unknown path\n"),
    };
    if method != Method::GET && method != Method::HEAD {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read-only\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    route(admin, &admin.state.view(), headers)
}

/// `GET /decisions/ID`, on the control socket alone: callers and paths are not for whoever may read the metrics.
fn decision(admin: &Admin, method: &Method, id: &str) -> HttpAnswer {
    if method != Method::GET {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read-only\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    match admin.recent.find(id) {
        Some(past) => plain(StatusCode::OK, JSON, format!("{}\n", explanation::past(&past))),
        None => {
            let said = format!("no such decision among the last {} since the daemon began\n", recent::HELD);
            plain(StatusCode::NOT_FOUND, TEXT, said)
        }
    }
}

/// `POST /servers/NAME/drain` and `/undrain`, on the control socket alone.
fn obey(admin: &Admin, method: &Method, order: &str) -> HttpAnswer {
    let Some((name, drained)) = order.rsplit_once('/').and_then(|(name, word)| match word {
        "drain" => Some((name, true)),
        "undrain" => Some((name, false)),
        _ => None,
    }) else {
        return plain(StatusCode::NOT_FOUND, TEXT, "unknown path\n");
    };
    if method != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST changes it\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let view = admin.state.view();
    let Some(server) = view.policy.servers.iter().find(|server| *server.name == *name) else {
        let names: Vec<&str> = view.policy.servers.iter().map(|server| &*server.name).collect();
        return plain(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("there is no such server; there are: {}\n", names.join(", ")),
        );
    };
    if admin.drains.set(&server.name, drained) {
        tracing::info!(server = %server.name, drained, "an operator changed whether the server takes requests");
    }
    plain(StatusCode::OK, TEXT, if drained { "draining\n" } else { "takes requests again\n" })
}

fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn status(admin: &Admin, view: &View) -> HttpAnswer {
    let now = admin.clock.now();
    let status = StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now.since(admin.started) / 1_000_000_000,
        config_loaded_unix_ms: admin.config_loaded_unix_ms.load(Ordering::Acquire),
        not_ready: admin.readiness(view).err(),
        keys: view.keys.len(),
        waiting: admin.metrics.waiting_now(),
        servers: view.policy.servers.iter().map(|server| ServerStatus::new(view, server)).collect(),
        plans: view.policy.plans.iter().map(PlanStatus::new).collect(),
        blocks: view.blocks.list(now).into_iter().map(BlockStatus::new).collect(),
        ledger: admin.metrics.ledger_file(),
        models: admin.gate.as_ref().map(|gate| learned(gate, view)).unwrap_or_default(),
        issuers: view.policy.issuers.iter().map(|issuer| IssuerStatus::new(view, issuer, admin.clock.now())).collect(),
    };
    match serde_json::to_vec(&status) {
        Ok(body) => plain(StatusCode::OK, JSON, body),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn state_of(view: &View, server: &Server) -> ServerState {
    view.fleet.servers.get(&server.name).map_or(ServerState::Unknown, |seen| seen.state)
}

/// `/status`. Extended, never renamed: scripts read it.
#[derive(Serialize)]
struct StatusReport<'v> {
    version: &'static str,
    uptime_s: u64,
    config_loaded_unix_ms: i64,
    /// Why `/readyz` says 503; absent where it says 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready: Option<String>,
    keys: usize,
    /// Requests that wait here for a server.
    waiting: u64,
    servers: Vec<ServerStatus<'v>>,
    plans: Vec<PlanStatus<'v>>,
    /// Who is shut out for a time.
    blocks: Vec<BlockStatus<'v>>,
    /// Issuers of tokens, and how old what is known of their keys is.
    issuers: Vec<IssuerStatus<'v>>,
    /// How the ledger's file does; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<StoreStanding>,
    /// Models of which it is known how many bytes a token has.
    models: Vec<ModelStatus<'v>>,
}

#[derive(Serialize)]
struct ModelStatus<'v> {
    name: &'v str,
    /// Of its answers' text.
    bytes_per_output_token: f64,
    /// Of prompts.
    bytes_per_prompt_token: f64,
}

fn learned<'v>(gate: &Gate, view: &'v View) -> Vec<ModelStatus<'v>> {
    let hundredths = |number: f64| (number * 100.0).round() / 100.0;
    let of = |pool: &'v Pool| {
        let (output, prompt) = gate.bytes_per_token(pool.key)?;
        let (bytes_per_output_token, bytes_per_prompt_token) = (hundredths(output), hundredths(prompt));
        Some(ModelStatus { name: pool.name.as_str(), bytes_per_output_token, bytes_per_prompt_token })
    };
    view.roster.pools.iter().filter_map(of).collect()
}

#[derive(Serialize)]
struct BlockStatus<'v> {
    kind: &'static str,
    name: &'v str,
    until: String,
}

impl<'v> BlockStatus<'v> {
    fn new(block: &'v Block) -> BlockStatus<'v> {
        BlockStatus { kind: block.kind.as_str(), name: &block.name, until: date::format(block.until.unix_ms) }
    }
}

/// Without the URL, which may hold a password.
#[derive(Serialize)]
struct ServerStatus<'v> {
    name: &'v str,
    kind: &'static str,
    state: &'static str,
    /// `sound`, `one_at_a_time` or `last`: how willingly it is chosen while it takes requests.
    preference: &'static str,
    weight: u16,
    maxconn: Option<u32>,
    failure: Option<FailureStatus<'v>>,
    version: Option<&'v str>,
    models: Vec<&'v str>,
    /// Of these, models whose prompts it passes on to another host.
    remote: Vec<&'v str>,
    /// Models it has and gets no requests for, because its content differs from that of the other servers.
    quarantined: Vec<QuarantineStatus<'v>>,
    loaded: Vec<LoadedStatus<'v>>,
}

#[derive(Serialize)]
struct FailureStatus<'v> {
    kind: &'static str,
    detail: &'v str,
}

#[derive(Serialize)]
struct QuarantineStatus<'v> {
    model: &'v str,
    digest: &'v str,
    expected: &'v str,
}

#[derive(Serialize)]
struct LoadedStatus<'v> {
    name: &'v str,
    size_vram: u64,
    context_length: u64,
    expires_at: &'v str,
}

#[derive(Serialize)]
struct PlanStatus<'v> {
    name: &'v str,
    models: Vec<&'v str>,
    routes: Vec<&'static str>,
    requests: Vec<QuotaStatus>,
}

#[derive(Serialize)]
struct IssuerStatus<'v> {
    issuer: &'v str,
    /// Usable keys.
    keys: usize,
    /// Seconds since the issuer last served them; absent until it did.
    age_s: Option<u64>,
    /// What the last fetch failed with; absent where it did not.
    failure: Option<&'static str>,
    /// Fetches that failed since one did not.
    failures: u32,
}

impl<'v> IssuerStatus<'v> {
    fn new(view: &'v View, issuer: &'v Issuer, now: Moment) -> IssuerStatus<'v> {
        let fetched = view.rings.fetched(&issuer.name);
        let loaded = view.rings.get(&issuer.name);
        IssuerStatus {
            issuer: &issuer.name,
            keys: loaded.map_or(0, |loaded| loaded.ring.len()),
            age_s: loaded.map(|loaded| now.mono_ns.saturating_sub(loaded.confirmed_ns) / 1_000_000_000),
            failure: fetched.and_then(|fetched| fetched.failure),
            failures: fetched.map_or(0, |fetched| fetched.failures),
        }
    }
}

#[derive(Serialize)]
struct QuotaStatus {
    count: u64,
    period_ms: u64,
    burst: u64,
}

impl<'v> ServerStatus<'v> {
    fn new(view: &'v View, server: &'v Server) -> ServerStatus<'v> {
        let seen = view.fleet.servers.get(&server.name);
        let inventory = seen.map(|seen| &*seen.inventory);
        let failure = seen.and_then(|seen| seen.failure.as_deref());
        let loaded = inventory.map_or(&[][..], |inventory| &inventory.loaded);
        ServerStatus {
            name: &server.name,
            kind: match server.kind {
                ServerKind::Ollama => "ollama",
                ServerKind::OpenAi => "openai",
            },
            state: state_of(view, server).as_str(),
            preference: seen.map_or(Preference::Sound, |seen| seen.preference).as_str(),
            weight: server.weight,
            maxconn: server.maxconn,
            failure: failure.map(|failure| FailureStatus { kind: failure.kind, detail: &failure.detail }),
            version: inventory.and_then(|inventory| inventory.version.as_deref()),
            models: inventory
                .map_or(&[][..], |inventory| &inventory.models)
                .iter()
                .map(|model| &*model.listed)
                .collect(),
            remote: inventory
                .map_or(&[][..], |inventory| &inventory.models)
                .iter()
                .filter(|model| model.remote)
                .map(|model| &*model.listed)
                .collect(),
            quarantined: view
                .roster
                .disagreements
                .iter()
                .filter(|found| found.odd.contains(&server.name))
                .filter_map(|found| {
                    let digest = found.digest_of(&server.name)?;
                    Some(QuarantineStatus { model: found.model.as_str(), digest, expected: found.expected.as_deref()? })
                })
                .collect(),
            loaded: loaded
                .iter()
                .map(|model| LoadedStatus {
                    name: &model.listed,
                    size_vram: model.size_vram,
                    context_length: model.context_length,
                    expires_at: &model.expires_at,
                })
                .collect(),
        }
    }
}

impl<'v> PlanStatus<'v> {
    fn new(plan: &'v Plan) -> PlanStatus<'v> {
        let routes = [("inference", plan.routes.inference), ("catalog", plan.routes.catalog)];
        PlanStatus {
            name: &plan.name,
            models: plan
                .models
                .iter()
                .map(|pattern| match pattern {
                    ModelPattern::Exact(name) => name.as_str(),
                    ModelPattern::Glob(glob) => glob,
                })
                .collect(),
            routes: routes.into_iter().filter_map(|(name, permitted)| permitted.then_some(name)).collect(),
            requests: plan
                .terms
                .requests
                .iter()
                .map(|quota| QuotaStatus {
                    count: quota.count.get(),
                    period_ms: quota.period_ns.get() / 1_000_000,
                    burst: quota.burst.get(),
                })
                .collect(),
        }
    }
}
