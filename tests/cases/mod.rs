//! What must hold through every proxy. Each function starts its own servers, herdgate and proxy, and asserts.

// Each test binary uses a part.
#![allow(dead_code)]

pub mod answers;
pub mod bodies;
pub mod callers;
pub mod faults;
pub mod framing;
pub mod headers;
pub mod paths;
pub mod plans;
pub mod recorded;
pub mod sdks;
pub mod servers;
pub mod slots;
pub mod streams;
pub mod tokens;
pub mod usage;

use crate::harness::client::Request;
use crate::harness::fleet::SHARED_MODEL;

/// Returns a short whole answer of a model.
pub fn short_chat(model: &str) -> Request {
    let body = serde_json::json!({
        "model": model, "stream": false, "options": { "num_predict": 1 },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    Request::post("/api/chat", body.to_string())
}

/// Returns a stream of so many tokens, one line each.
pub fn stream(tokens: u32) -> Request {
    let body = serde_json::json!({
        "model": SHARED_MODEL, "stream": true, "options": { "num_predict": tokens },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    Request::post("/api/chat", body.to_string())
}
