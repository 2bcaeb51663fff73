//! From a connection to a handler: records the request, routes it, applies what Ollama's middlewares do, answers.

use crate::faults::Kind as FaultKind;
use crate::fields::{Fields, Keys, Kind as FieldKind};
use crate::name::Reference;
use crate::origins::{self, Cors};
use crate::reply::{self, Reply};
use crate::router::{self, Handler, Routed};
use crate::settings::Kind;
use crate::sim::Sim;
use crate::stats::Seen;
use crate::{admin, catalog, control, embedding, hosts, inference, json};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, HOST, HeaderValue, LOCATION, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a connection may be silent before the fault `refuse` closes it: its first bytes could ask for `/sim/*`.
const SILENCE_MAX: Duration = Duration::from_millis(100);
/// Connections at once; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 10_000;

/// Accepts connections for as long as it is polled.
pub async fn serve(sim: Arc<Sim>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        // An accept that fails (too many open files) is tried again; the pause keeps it from spinning.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sim = sim.clone();
        tokio::spawn(async move {
            connection(sim, stream).await;
            drop(place);
        });
    }
}

async fn connection(sim: Arc<Sim>, stream: TcpStream) {
    sim.stats.connection(false);
    // Each token is a small write that must not wait for the one before.
    let _ = stream.set_nodelay(true);
    if sim.faults.may_refuse() && !is_control(&stream).await && sim.faults.refuses() {
        // Unread bytes or not, the peer sees a reset, as from a port where nobody listens.
        let _ = stream.set_zero_linger();
        return;
    }
    let service = service_fn(|request| {
        let sim = sim.clone();
        async move { answer(&sim, request).await }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).half_close(false).title_case_headers(true);
    if builder.serve_connection(TokioIo::new(stream), service).await.is_err() {
        sim.stats.connection(true);
    }
}

/// Returns whether a new connection begins with a request for `/sim/*`. One that says nothing for a while does not.
async fn is_control(stream: &TcpStream) -> bool {
    let mut start = [0; 64];
    let Ok(Ok(length)) = tokio::time::timeout(SILENCE_MAX, stream.peek(&mut start)).await else { return false };
    let start = start.get(..length).unwrap_or_default();
    start.splitn(2, |byte| *byte == b' ').nth(1).is_some_and(|rest| rest.starts_with(control::PREFIX.as_bytes()))
}

/// The connection is closed without an answer, as the fault `refuse` wants it.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused on purpose")
    }
}

impl std::error::Error for Refused {}

async fn answer(sim: &Sim, request: Request<Incoming>) -> Result<Reply, Refused> {
    if request.uri().path().starts_with(control::PREFIX) {
        return Ok(control::answer(sim, request).await);
    }
    // A connection that was open before the fault was set.
    if sim.faults.refuses() {
        return Err(Refused);
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let routed = match sim.settings.kind {
        Kind::Ollama => router::ollama(&method, uri.path(), uri.query()),
        Kind::Openai => router::vllm(&method, uri.path(), uri.query()),
    };
    let refusal = refusal(sim, &request, &routed);
    let number = sim.stats.arrived(seen(sim, &request, &routed, refusal.is_some()));
    let origin = request.headers().get(ORIGIN).cloned();
    let host = host_of(&request);
    let mut reply = match refusal {
        Some(refusal) => refusal,
        None => routed_answer(sim, routed, request, number).await?,
    };
    if sim.settings.kind == Kind::Ollama
        && let Some(origin) = origin
        && origins::judge(origin.to_str().ok(), &host) == Cors::Allowed
    {
        reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    sim.stats.answered(number, reply.status().as_u16());
    Ok(reply)
}

fn host_of(request: &Request<Incoming>) -> String {
    // Go takes the authority of an absolute target before the header.
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    request.uri().authority().map_or_else(header, |authority| authority.as_str()).to_owned()
}

fn seen(sim: &Sim, request: &Request<Incoming>, routed: &Routed, refused: bool) -> Seen {
    let handler = match routed {
        _ if refused => "forbidden",
        Routed::To(handler, _) => handler.name(),
        Routed::Redirect(..) => "redirect",
        Routed::NotFound => "not_found",
        Routed::NotAllowed(_) => "method_not_allowed",
        Routed::BadPath => "bad_path",
    };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        number: 0,
        unix_ms: sim.clock.now().unix_ms,
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body_bytes: 0,
        handler: handler.to_owned(),
        model: String::new(),
        status: 0,
    }
}

/// Returns what the middlewares answer before any handler: foreign origins and hosts. Redirects are made before them.
fn refusal(sim: &Sim, request: &Request<Incoming>, routed: &Routed) -> Option<Reply> {
    if sim.settings.kind != Kind::Ollama || matches!(routed, Routed::Redirect(..) | Routed::BadPath) {
        return None;
    }
    let origin = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let host = host_of(request);
    if origins::judge(origin, &host) == Cors::Refused {
        return Some(reply::empty(403));
    }
    if sim.settings.checks_host() && !hosts::is_allowed(&host) {
        return Some(reply::empty(403));
    }
    None
}

async fn routed_answer(sim: &Sim, routed: Routed, request: Request<Incoming>, number: u64) -> Result<Reply, Refused> {
    let preflight = request.method() == Method::OPTIONS;
    let vllm = sim.settings.kind == Kind::Openai;
    let (handler, parameter) = match routed {
        Routed::To(handler, parameter) => (handler, parameter),
        Routed::Redirect(status, location) => {
            let mut reply = reply::empty(status);
            if let Ok(location) = HeaderValue::from_str(&location) {
                reply.headers_mut().insert(LOCATION, location);
            }
            return Ok(reply);
        }
        Routed::BadPath => return Ok(reply::whole(400, reply::TEXT, "400 Bad Request")),
        Routed::NotFound | Routed::NotAllowed(_) if preflight && sim.settings.checks_host() => {
            return Ok(reply::empty(204));
        }
        Routed::NotFound if vllm => return Ok(reply::whole(404, reply::PLAIN_JSON, r#"{"detail":"Not Found"}"#)),
        Routed::NotFound => return Ok(reply::whole(404, "text/plain", "404 page not found")),
        Routed::NotAllowed(methods) => {
            let mut reply = if vllm {
                reply::whole(405, reply::PLAIN_JSON, r#"{"detail":"Method Not Allowed"}"#)
            } else {
                reply::whole(405, "text/plain", "405 method not allowed")
            };
            if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
                reply.headers_mut().insert(ALLOW, methods);
            }
            return Ok(reply);
        }
    };
    let encoded = request.headers().get("content-encoding").is_some_and(|encoding| encoding == "zstd");
    let body = match Limited::new(request.into_body(), sim.settings.max_body).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(sim.tongue(handler).error(413, &error.to_string())),
    };
    let model = match handler {
        Handler::V1Model => Some(canonical(sim, &parameter)),
        _ => model_of(sim, &body),
    };
    sim.stats.body(number, body.len() as u64, model.clone());
    let inference = is_inference(handler);
    match sim.faults.at_request(inference, model.as_deref()) {
        Some(FaultKind::Refuse) => return Err(Refused),
        Some(FaultKind::Error) => return Ok(sim.tongue(handler).error(500, "failure on purpose")),
        Some(_) => return Ok(sim.busy_reply(handler)),
        None if inference => {}
        None => sim.faults.hold_everywhere(model.as_deref()).await,
    }
    if encoded && !vllm && handler.name().starts_with("v1_") {
        // Ollama inflates these; the simulator does not, and says so rather than reading them wrongly.
        return Ok(sim.tongue(handler).error(400, "failed to decompress zstd body"));
    }
    Ok(dispatch(sim, handler, body, &parameter, number).await)
}

/// Returns whether a handler generates or embeds.
fn is_inference(handler: Handler) -> bool {
    matches!(
        handler,
        Handler::Generate
            | Handler::Chat
            | Handler::Embed
            | Handler::Embeddings
            | Handler::V1Chat
            | Handler::V1Completions
            | Handler::V1Embeddings
            | Handler::V1Responses
            | Handler::V1Messages
    )
}

async fn dispatch(sim: &Sim, handler: Handler, body: Bytes, parameter: &str, number: u64) -> Reply {
    match handler {
        Handler::Generate
        | Handler::Chat
        | Handler::V1Chat
        | Handler::V1Completions
        | Handler::V1Responses
        | Handler::V1Messages => inference::answer(sim, handler, &body, number).await,
        Handler::Embed | Handler::Embeddings | Handler::V1Embeddings => embedding::answer(sim, handler, &body).await,
        Handler::Pull
        | Handler::Push
        | Handler::Create
        | Handler::Copy
        | Handler::Delete
        | Handler::BlobHead
        | Handler::BlobCreate
        | Handler::Me
        | Handler::Signout
        | Handler::WebSearch
        | Handler::WebFetch => admin::answer(sim, handler, &body, parameter),
        Handler::Root
        | Handler::Version
        | Handler::Status
        | Handler::Tags
        | Handler::Ps
        | Handler::Show
        | Handler::V1Models
        | Handler::V1Model
        | Handler::Health => catalog::answer(sim, handler, &body, parameter),
    }
}

/// Returns the model a body names, for the counters, canonical; whether or not the route reads it.
fn model_of(sim: &Sim, body: &[u8]) -> Option<String> {
    const NAMES: &[(&str, FieldKind)] =
        &[("model", FieldKind::Text), ("name", FieldKind::Text), ("source", FieldKind::Text)];
    let (value, _) = json::first_value(body).ok()?;
    let fields = Fields::lenient(&value, sim.keys(), NAMES);
    let written =
        ["model", "name", "source"].map(|name| fields.text(name)).into_iter().find(|written| !written.is_empty())?;
    Some(canonical(sim, written))
}

/// Returns a model's name in the form it is counted and compared in.
pub fn canonical(sim: &Sim, written: &str) -> String {
    match Reference::parse(written) {
        Ok(reference) if sim.keys() == Keys::Folded => reference.name.key(),
        _ => written.to_owned(),
    }
}
