//! Verdict → the headers that nginx copies or passes on.

use crate::decision::verdict::{Grant, Refusal};
use crate::gate::Id;
use crate::http::Answer;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

/// The server that was chosen; the name of an `upstream`.
const SERVER: HeaderName = HeaderName::from_static("x-herdgate-server");
/// The second choice.
const SERVER2: HeaderName = HeaderName::from_static("x-herdgate-server2");
/// The public id of the decision.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Above this many seconds the SDKs ignore `Retry-After` and retry at once, unless told not to.
const RETRY_MAX_S: u64 = 60;

/// An answer with a status and a body.
pub fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    answer
}

/// Adds the decision's id.
pub fn add_id(answer: &mut Answer, id: &Id) {
    add(answer, REQUEST_ID, id.as_str());
}

/// Adds what a grant says. False where a server's name cannot be a header value, and the grant cannot be given.
#[must_use]
pub fn add_grant(answer: &mut Answer, grant: &Grant<'_>) -> bool {
    if let Some(standing) = grant.requests {
        answer.headers_mut().insert(LIMIT, standing.limit.into());
        answer.headers_mut().insert(REMAINING, standing.remaining.into());
        add(answer, RESET, &go_duration(standing.reset_ns));
    }
    grant.server2.is_none_or(|server| add(answer, SERVER2, &server.name)) && add(answer, SERVER, &grant.server.name)
}

/// Adds when to come back, and for 401 how to authenticate.
pub fn add_refusal(answer: &mut Answer, refusal: &Refusal) {
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

/// Adds a header; false where the value cannot be one.
pub fn add(answer: &mut Answer, name: HeaderName, value: &str) -> bool {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            answer.headers_mut().insert(name, value);
            true
        }
        Err(_) => false,
    }
}

/// A duration as Go writes it (`time.Duration.String`), which is the form of OpenAI's reset headers: `6m0s`, `1.5s`,
/// `20ms`.
fn go_duration(ns: u64) -> String {
    let (below_second, unit) = match ns {
        0 => return "0s".into(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let seconds = ns / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let whole = if below_second == 1_000_000_000 { seconds % 60 } else { ns / below_second };
    let digits = below_second.ilog10() as usize;
    let fraction = if digits == 0 { String::new() } else { format!(".{:0digits$}", ns % below_second) };
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{whole}{fraction}{unit}"),
        (0, _) => format!("{minutes}m{whole}{fraction}{unit}"),
        _ => format!("{hours}h{minutes}m{whole}{fraction}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::verdict::Reason;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (20_000_000, "20ms"),
            (2_200_000, "2.2ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (360_000_000_000, "6m0s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (59_999_999_999, "59.999999999s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(go_duration(ns), expected, "{ns}");
        }
    }

    #[test]
    fn refusals_say_when_to_come_back_and_how_to_authenticate() {
        let header = |answer: &Answer, name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
        };
        let cases = [
            (Reason::RequestRate, Some(1), Some("1"), None, None),
            (Reason::RequestRate, Some(60), Some("60"), None, None),
            (Reason::RequestRate, Some(61), Some("61"), Some("false"), None),
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
