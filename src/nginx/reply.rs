//! Verdict → the headers that nginx copies or passes on.

use crate::decision::answer::dialect::refusal_body;
use crate::decision::answer::reset::Reset;
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::{Grant, LimitStanding, Refusal};
use crate::gate::DecisionId;
use crate::net::http::HttpAnswer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

/// The server that was chosen; the name of an `upstream`.
const SERVER: HeaderName = HeaderName::from_static("x-herdgate-server");
/// The second choice.
const SERVER2: HeaderName = HeaderName::from_static("x-herdgate-server2");
/// The receipt, which settles the grant; nginx logs it and shows it to nobody.
const RECEIPT: HeaderName = HeaderName::from_static("x-herdgate-receipt");
/// The public id of the decision.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Above this many seconds the SDKs ignore `Retry-After` and retry at once, unless told not to.
const RETRY_MAX_S: u64 = 60;

/// Returns an answer with a status and a body.
pub fn answer(status: u16, body: impl Into<Bytes>) -> HttpAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    answer
}

/// Adds the decision's id.
pub fn add_id(answer: &mut HttpAnswer, id: &DecisionId) {
    add(answer, REQUEST_ID, id.as_str());
}

/// Adds what a grant says. Returns false where a server's name cannot be a header value: the grant cannot be given
/// then.
#[must_use]
pub fn add_grant(answer: &mut HttpAnswer, grant: &Grant<'_>, receipt: Option<&str>) -> bool {
    let server2 = grant.server2.map(|server| &*server.name);
    add_server(answer, (grant.requests, grant.tokens), &grant.server.name, server2, receipt)
}

/// Adds a grant's parts. Returns false where a server's name cannot be a header value.
#[must_use]
pub fn add_server(
    answer: &mut HttpAnswer,
    (requests, tokens): (Option<LimitStanding>, Option<LimitStanding>),
    server: &str,
    server2: Option<&str>,
    receipt: Option<&str>,
) -> bool {
    add_requests(answer, requests);
    add_tokens(answer, tokens);
    receipt.is_none_or(|receipt| add(answer, RECEIPT, receipt))
        && server2.is_none_or(|server2| add(answer, SERVER2, server2))
        && add(answer, SERVER, server)
}

/// Returns the answer to a request that is refused.
pub fn refused(refusal: &Refusal, dialect: Dialect) -> HttpAnswer {
    let mut answer = answer(refusal.status(), refusal_body(refusal, dialect));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_refusal(&mut answer, refusal);
    answer
}

/// Adds where the caller stands with its tightest request limit.
fn add_requests(answer: &mut HttpAnswer, standing: Option<LimitStanding>) {
    let Some(standing) = standing else { return };
    answer.headers_mut().insert(LIMIT, standing.limit.into());
    answer.headers_mut().insert(REMAINING, standing.remaining.into());
    add(answer, RESET, Reset::new(standing.reset_ns).as_str());
}

/// Adds where the caller stands with its tightest token limit.
fn add_tokens(answer: &mut HttpAnswer, standing: Option<LimitStanding>) {
    let Some(standing) = standing else { return };
    answer.headers_mut().insert(LIMIT_TOKENS, standing.limit.into());
    answer.headers_mut().insert(REMAINING_TOKENS, standing.remaining.into());
    add(answer, RESET_TOKENS, Reset::new(standing.reset_ns).as_str());
}

/// Adds when to come back, where the caller stands, and for 401 how to authenticate.
pub fn add_refusal(answer: &mut HttpAnswer, refusal: &Refusal) {
    add_requests(answer, refusal.standing);
    add_tokens(answer, refusal.tokens);
    if let Some(seconds) = refusal.retry_after_s {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        if seconds > RETRY_MAX_S {
            answer.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
    if refusal.status() == 401 {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// Adds a header. Returns false where the text cannot be a header value.
pub fn add(answer: &mut HttpAnswer, name: HeaderName, value: &str) -> bool {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            answer.headers_mut().insert(name, value);
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::limits::Holder;
    use crate::decision::reason::Reason;

    #[test]
    fn refusals_say_when_to_come_back_and_how_to_authenticate() {
        let header = |answer: &HttpAnswer, name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
        };
        let cases = [
            (Reason::RequestRate(Holder::Key), Some(1), Some("1"), None, None),
            (Reason::RequestRate(Holder::Key), Some(60), Some("60"), None, None),
            (Reason::RequestRate(Holder::Key), Some(61), Some("61"), Some("false"), None),
            (Reason::UnknownKey, None, None, None, Some("Bearer")),
            (Reason::UnknownRoute, None, None, None, None),
        ];
        for (reason, retry_after_s, retry, should, authenticate) in cases {
            let refusal = Refusal { retry_after_s, ..Refusal::new(reason) };
            let mut said = answer(refusal.status(), "");
            add_refusal(&mut said, &refusal);
            assert_eq!(header(&said, "retry-after").as_deref(), retry, "{refusal:?}");
            assert_eq!(header(&said, "x-should-retry").as_deref(), should, "{refusal:?}");
            assert_eq!(header(&said, "www-authenticate").as_deref(), authenticate, "{refusal:?}");
        }
    }
}
