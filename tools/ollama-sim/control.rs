//! `/sim/*`: what tests ask the simulator itself. No fault strikes here and nothing is counted.

use crate::faults::Faults;
use crate::reply::{self, Reply};
use crate::server::canonical;
use crate::sim::Sim;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request};
use serde_json::json;

/// What the paths of this file begin with.
pub const PREFIX: &str = "/sim/";
/// Largest body in bytes.
const BODY_MAX: usize = 64 << 10;

/// Answers a request whose path begins with [`PREFIX`].
pub async fn answer(sim: &Sim, request: Request<Incoming>) -> Reply {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/sim/stats") => reply::v1(200, &sim.stats.show()),
        (&Method::POST, "/sim/reset") => {
            sim.stats.reset();
            reply::v1(200, &json!({}))
        }
        (&Method::GET, "/sim/faults") => reply::v1(200, &sim.faults.show()),
        (&Method::POST, "/sim/faults") => set(sim, request).await,
        (&Method::DELETE, "/sim/faults") => {
            sim.faults.set(Vec::new(), |model| canonical(sim, model));
            reply::v1(200, &sim.faults.show())
        }
        _ => reply::v1(404, &json!({ "error": "not found" })),
    }
}

async fn set(sim: &Sim, request: Request<Incoming>) -> Reply {
    let body = match Limited::new(request.into_body(), BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return reply::v1(413, &json!({ "error": error.to_string() })),
    };
    match Faults::parse(&body) {
        Ok(entries) => {
            sim.faults.set(entries, |model| canonical(sim, model));
            reply::v1(200, &sim.faults.show())
        }
        Err(error) => reply::v1(400, &json!({ "error": error })),
    }
}
