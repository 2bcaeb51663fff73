//! `/wait`: the second hop of a request whose servers are all full. It is held until one has room, or its time is over.

use super::handoff::{GRANTED, X_ACCEL_REDIRECT};
use super::reply;
use super::request::once;
use crate::decision::reason::Reason;
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::Refusal;
use crate::gate::Gate;
use crate::gate::wait::WaitOutcome;
use crate::net::http::HttpAnswer;
use hyper::HeaderMap;
use hyper::header::HeaderName;

/// The ticket, which ties the two hops together; see [`crate::gate::wait`].
pub const TICKET: HeaderName = HeaderName::from_static("x-herdgate-ticket");

/// Milliseconds that a request waited here, for the log.
const WAITED: HeaderName = HeaderName::from_static("x-herdgate-waited");

/// Waits and answers. A client that leaves ends this: hyper drops it when nginx closes the connection.
pub async fn answer(gate: &Gate, headers: &HeaderMap) -> HttpAnswer {
    let ticket = once(headers, &TICKET).and_then(|ticket| std::str::from_utf8(ticket).ok());
    let told = match ticket {
        Some(ticket) => gate.wait(ticket).await,
        None => None,
    };
    let Some(told) = told else {
        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::QueueTimeout) };
        return reply::refused(&refusal, Dialect::OpenAi);
    };
    let mut answer = match told.outcome {
        WaitOutcome::Server(left) => {
            let mut answer = reply::answer(200, "");
            let receipt = Some(&*left.receipt);
            let standings = (left.standings.requests, left.standings.tokens);
            if reply::add_server(&mut answer, standings, &left.server, left.server2.as_deref(), receipt) {
                answer.headers_mut().insert(WAITED, left.waited_ms.into());
                answer.headers_mut().insert(X_ACCEL_REDIRECT, GRANTED);
                answer
            } else {
                reply::answer(503, "")
            }
        }
        WaitOutcome::Refused(refusal) => reply::refused(&refusal, told.dialect),
    };
    reply::add_id(&mut answer, &told.id);
    answer
}
