//! The HTTP port: who may connect, and which path is whose.

use super::{auth_request, catalog, handoff, wait};
use crate::gate::Gate;
use crate::metrics::Port;
use crate::net::http::{self, HttpAnswer};
use crate::net::listen::{self, Bound, ConnectionLimit};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Most connections at once. A proxy opens one for each request it has waiting, and keeps some.
const CONNECTIONS_MAX: usize = 4096;

/// Returns how many requests may wait at once: each holds a connection, and must leave most of them to those who ask.
pub fn waiters_max() -> usize {
    listen::places_now(CONNECTIONS_MAX) / 4
}

/// Answers on the HTTP port until `stop`.
pub async fn serve(bound: Bound, gate: Arc<Gate>, stop: CancellationToken) {
    let limit = ConnectionLimit { port: Port::Http, connections_max: CONNECTIONS_MAX, metrics: gate.metrics.clone() };
    let ending = stop.clone();
    listen::serve(bound, limit, stop, |stream, peer| {
        let gate = gate.clone();
        let ending = ending.clone();
        async move {
            let warning_due = || gate.warning_due();
            http::serve(stream, peer, ending, warning_due, |request| answer(gate.clone(), request)).await;
        }
    })
    .await;
}

async fn answer(gate: Arc<Gate>, request: Request<Incoming>) -> HttpAnswer {
    match request.uri().path() {
        "/handoff" => handoff::answer(&gate, request).await,
        "/wait" => wait::answer(&gate, request.headers()).await,
        "/auth" => auth_request::answer(&gate, request.headers()).await,
        "/catalog" => catalog::answer(&gate, request.headers()),
        _ => {
            let mut answer = Response::new(Full::new(Bytes::from_static(b"unknown path\n")));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}
