//! `/auth`: nginx's `auth_request`, which knows three answers (2xx, 401, 403) and shows no body.

use super::reply;
use super::request::{Facts, malformed};
use crate::decision::inquiry::BodyShown;
use crate::decision::verdict::Verdict;
use crate::gate::{Gate, Question};
use crate::metrics::Port;
use crate::net::http::HttpAnswer;
use hyper::HeaderMap;
use hyper::header::HeaderName;

/// The real status of a refusal, which nginx maps back with `error_page`: it takes any other than 401 and 403 for a fault.
const STATUS: HeaderName = HeaderName::from_static("x-herdgate-status");

/// Lets nginx fetch a catalog answer from `/catalog`.
const RECEIPT: HeaderName = HeaderName::from_static("x-herdgate-receipt");

/// Decides on headers alone.
pub async fn answer(gate: &Gate, headers: &HeaderMap) -> HttpAnswer {
    let received = gate.clock.now();
    let view = gate.state.view_owned();
    let facts = Facts::read(headers);
    let inquiry = facts.as_ref().map(|facts| facts.inquiry(BodyShown::Hidden));
    let decided = match &inquiry {
        Ok(inquiry) => gate.decide(&view, Question::new(inquiry, Port::Http, received)).await,
        Err(detail) => malformed(gate, headers, detail),
    };
    let mut answer = match (&decided.verdict, &inquiry) {
        (Verdict::Allow(grant), _) => {
            let mut answer = reply::answer(200, "");
            if reply::add_grant(&mut answer, grant, decided.receipt.as_deref()) { answer } else { refused(503) }
        }
        (Verdict::Answer(asked), Ok(inquiry)) => {
            let mut answer = reply::answer(200, "");
            let receipt = gate.answer_receipt(asked, &view, inquiry);
            if !receipt.is_empty() && reply::add(&mut answer, RECEIPT, &receipt) { answer } else { refused(503) }
        }
        (Verdict::Answer(_), Err(_)) => refused(503),
        (Verdict::Refuse(refusal), _) => {
            let mut answer = refused(refusal.status());
            reply::add_refusal(&mut answer, refusal);
            answer
        }
    };
    reply::add_id(&mut answer, &decided.id);
    answer
}

/// Leaves 401 and 403 as they are, and turns any other refusal into 403 with the real status beside it.
fn refused(status: u16) -> HttpAnswer {
    match status {
        401 | 403 => reply::answer(status, ""),
        other => {
            let mut answer = reply::answer(403, "");
            answer.headers_mut().insert(STATUS, other.into());
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::reason::Code;

    #[test]
    fn every_refusal_is_401_or_403_and_keeps_its_real_status_beside() {
        for code in Code::ALL {
            let said = refused(code.status());
            let beside = said.headers().get(STATUS).map(|value| value.to_str().unwrap_or("?").to_owned());
            match code.status() {
                401 => assert_eq!((said.status().as_u16(), beside), (401, None)),
                403 => assert_eq!((said.status().as_u16(), beside), (403, None)),
                other => assert_eq!((said.status().as_u16(), beside), (403, Some(other.to_string()))),
            }
        }
    }
}
