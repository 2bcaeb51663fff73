//! `/catalog`: hands out the catalog answer that a verdict `answer` gave a receipt for.
//!
//! The receipt is what authenticates here: it was issued for one plan, method and target, and without it the port would
//! show the whole fleet to whoever reaches it. Every fault has the same answer.

use super::reply;
use super::request::{METHOD, URI, once};
use crate::gate::Gate;
use crate::net::http::HttpAnswer;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

const RECEIPT: HeaderName = HeaderName::from_static("x-herdgate-receipt");

/// Answers with the catalog, or 403.
pub fn answer(gate: &Gate, headers: &HeaderMap) -> HttpAnswer {
    let view = gate.state.view();
    let rendered = || {
        let receipt = std::str::from_utf8(once(headers, &RECEIPT)?).ok()?;
        gate.catalog(&view, receipt, once(headers, &METHOD)?, once(headers, &URI)?)
    };
    match rendered() {
        Some(rendered) => {
            let mut answer = reply::answer(200, rendered.body);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(rendered.content_type));
            answer
        }
        None => reply::answer(403, ""),
    }
}
