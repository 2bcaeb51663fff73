//! Serves SPOP on a bound address: one task a connection, at most as many as its limit allows.

use super::answerer::Answerer;
use super::budget::FrameBudget;
use super::connection::{ConnectionContext, run};
use super::limits::Limits;
use crate::gate::Gate;
use crate::metrics::{Metrics, Port};
use crate::net::listen::{self, Bound, ConnectionLimit};
use crate::net::log_throttle::LogThrottle;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves HAProxy from `gate` until `stop`; then answers what has arrived, says goodbye on every connection and returns
/// when all are closed.
pub async fn serve(bound: Bound, gate: Arc<Gate>, stop: CancellationToken, limits: Limits) {
    let metrics = gate.metrics.clone();
    serve_with(bound, gate, metrics, stop, limits).await;
}

/// Serves like [`serve`], with any answerer.
pub async fn serve_with<A: Answerer>(
    bound: Bound,
    answerer: Arc<A>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    limits: Limits,
) {
    let limit = ConnectionLimit { port: Port::Spop, connections_max: limits.connections, metrics: metrics.clone() };
    let budget = FrameBudget::new(limits.begun_bytes);
    let shared = Arc::new(ConnectionContext { answerer, metrics, limits, throttle: LogThrottle::default(), budget });
    let stopping = stop.clone();
    listen::serve(bound, limit, stop, move |stream, peer| {
        let shared = shared.clone();
        // A token of its own: waiting on one that thousands share would take its lock on every read.
        let stop = stopping.child_token();
        async move { run(stream, peer, &shared, &stop).await }
    })
    .await;
}
