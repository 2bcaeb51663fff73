//! The metrics port and the control socket: `/metrics`, `/status`, `/livez`, `/readyz`, without secrets. The metrics port is
//! read-only; operators' commands (`control`) come over the control socket, and the mode of its file says who may send them.

pub mod control;
mod scrape;
mod status;

use crate::decision::fleet::ServerState;
use crate::decision::moment::Moment;
use crate::decision::view::View;
use crate::explanation;
use crate::gate::Gate;
use crate::gate::recent::{self, Recent};
use crate::gate::state::State;
use crate::ledger::journal::Keeper;
use crate::mailbox::drains::Drains;
use crate::metrics::{Metrics, Port};
use crate::net::http::{self, HttpAnswer};
use crate::net::listen::{self, Bound, ConnectionLimit};
use crate::net::log_throttle::LogThrottle;
use crate::time::clock::Clock;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Most connections at once: scrapers, probes and people.
const CONNECTIONS_MAX: usize = 64;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// State that the metrics port and the control socket show.
pub struct Admin {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    clock: Clock,
    started: Moment,
    /// Milliseconds since 1970; 0 until a configuration was loaded.
    config_loaded_unix_ms: AtomicI64,
    keys_loaded: AtomicBool,
    /// Warnings about peers of both ports.
    throttle: LogThrottle,
    /// Servers that an operator drains.
    drains: Drains,
    /// The last decisions; shown over the control socket alone.
    recent: Arc<Recent>,
    /// Source of `models` in `/status`; absent where nothing is decided.
    gate: Option<Arc<Gate>>,
    /// Keeper of the users' records; empty where nothing is kept.
    keeper: OnceLock<Arc<dyn Keeper>>,
}

impl Admin {
    /// Returns an admin that is not ready yet. The process's uptime counts from here.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>, clock: Clock) -> Admin {
        let started = clock.now();
        Admin {
            state,
            metrics,
            clock,
            started,
            config_loaded_unix_ms: AtomicI64::new(0),
            keys_loaded: AtomicBool::new(false),
            throttle: LogThrottle::default(),
            drains: Drains::default(),
            recent: Arc::new(Recent::holding(0)),
            gate: None,
            keeper: OnceLock::new(),
        }
    }

    /// Returns this admin, which shows the decisions of `recent`.
    #[must_use]
    pub fn with_recent(self, recent: Arc<Recent>) -> Admin {
        Admin { recent, ..self }
    }

    /// Sets the keeper that `POST /forget` goes to.
    pub fn set_keeper(&self, keeper: Arc<dyn Keeper>) {
        // There is one for the life of a process.
        let _ = self.keeper.set(keeper);
    }

    /// Returns this admin, which shows what `gate` learned of models.
    #[must_use]
    pub fn with_gate(self, gate: Arc<Gate>) -> Admin {
        Admin { gate: Some(gate), ..self }
    }

    /// Returns the servers that an operator drains.
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

    /// Returns why requests cannot be decided on yet; `Ok` once they can.
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
            .filter(|server| status::state_of(view, server) == ServerState::Unknown)
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
    let limit = ConnectionLimit { port, connections_max: CONNECTIONS_MAX, metrics: admin.metrics.clone() };
    let ending = stop.clone();
    listen::serve(bound, limit, stop, |stream, peer| {
        let admin = admin.clone();
        let ending = ending.clone();
        async move {
            let warning_due = || admin.throttle.admit(admin.clock.now());
            http::serve(stream, peer, ending, warning_due, |request| {
                let admin = admin.clone();
                // By its socket's file alone: over TCP anybody could write, browsers included.
                let may_order = port == Port::Control && peer.is_local();
                async move {
                    let path = request.uri().path().to_owned();
                    if let Some(order) = path.strip_prefix("/servers/").filter(|_| may_order) {
                        return control::set_drained(&admin, request.method(), order);
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
        "/status" => |admin, view, _| status::answer(admin, view),
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

/// Answers `GET /decisions/ID`, on the control socket alone: not everybody who may read the metrics may see callers and paths.
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

fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
