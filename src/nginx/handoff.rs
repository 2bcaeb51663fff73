//! `/handoff`: nginx sends the whole request, and gets a refusal, a catalog answer, or where to send it on.
//!
//! The body is read to its end before any answer, also where the answer is already known: nginx is still sending, and a
//! client that uploads 20 MB would see 502 in place of its refusal.

use super::reply::{self, refused};
use super::request::{Facts, malformed};
use super::wait::TICKET;
use crate::decision::answer::catalog;
use crate::decision::inquiry::BodyShown;
use crate::decision::request::body::{Body, BodyFault, BodyReader};
use crate::decision::verdict::Verdict;
use crate::decision::view::View;
use crate::gate::{Decision, Gate, Question};
use crate::metrics::Port;
use crate::net::http::HttpAnswer;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use std::time::Duration;

/// Largest body judged, in bytes. Four images of 12 MB in base64; reading it costs time and no memory.
const BODY_MAX: u64 = 64 << 20;

/// Largest body drained, in bytes, so that its sender sees the refusal. Past it the connection is closed.
const DRAIN_MAX: u64 = 1 << 30;

/// Longest silence within a body. nginx has buffered it already (`proxy_request_buffering on`), so none is expected.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Longest time a body may take in all.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");

/// The named location that streams to `X-Herdgate-Server`.
pub(super) const GRANTED: HeaderValue = HeaderValue::from_static("@herdgate_server");

/// The named location that asks again, at `/wait`.
const WAITS: HeaderValue = HeaderValue::from_static("@herdgate_wait");

/// Reads the body, decides and answers.
pub async fn answer<B>(gate: &Gate, request: Request<B>) -> HttpAnswer
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let (head, body) = request.into_parts();
    let upload = tokio::time::timeout(BODY_TIMEOUT, read(body)).await.unwrap_or(Upload::Unfinished);
    // The question is complete now; the time its body took is the proxy's.
    let received = gate.clock.now();
    let view = gate.state.view_owned();
    let shown = match &upload {
        Upload::Whole(result) => Some(BodyShown::Read(result)),
        Upload::TooLarge | Upload::Endless => Some(BodyShown::TooLarge),
        Upload::Unfinished => None,
    };
    let decided = match (shown, Facts::read(&head.headers)) {
        (Some(shown), Ok(facts)) => {
            let inquiry = &facts.inquiry(shown);
            gate.decide(&view, Question::new(inquiry, Port::Http, received).or_wait()).await
        }
        (None, _) => malformed(gate, &head.headers, "the body did not arrive whole and in time"),
        (_, Err(detail)) => malformed(gate, &head.headers, detail),
    };
    let mut answer = say(&decided, &view);
    if matches!(upload, Upload::Endless | Upload::Unfinished) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// End of an upload.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one a request, in the task's own memory; boxing would cost an allocation"
)]
enum Upload {
    /// Read to its end.
    Whole(Result<Body, BodyFault>),
    /// Drained to its end, but longer than [`BODY_MAX`].
    TooLarge,
    /// Longer than [`DRAIN_MAX`]: the rest was not waited for.
    Endless,
    /// Broken off, or too slow.
    Unfinished,
}

async fn read<B>(mut body: B) -> Upload
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let mut reader = BodyReader::new();
    let mut len = 0_u64;
    loop {
        let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) if len > BODY_MAX => return Upload::TooLarge,
            Ok(None) => return Upload::Whole(reader.finish()),
            Ok(Some(Err(_))) | Err(_) => return Upload::Unfinished,
        };
        // Trailers carry nothing that is read here.
        let Ok(data) = frame.into_data() else { continue };
        len = len.saturating_add(data.remaining() as u64);
        if len > DRAIN_MAX {
            return Upload::Endless;
        }
        if len <= BODY_MAX {
            reader.push(&data);
        }
    }
}

/// Turns a verdict into an answer. hyper leaves the body of an answer to HEAD out and keeps its length.
fn say(decided: &Decision<'_>, view: &View) -> HttpAnswer {
    let mut answer = match &decided.verdict {
        Verdict::Allow(grant) => {
            let mut answer = reply::answer(200, "");
            if reply::add_grant(&mut answer, grant, decided.receipt.as_deref()) {
                answer.headers_mut().insert(X_ACCEL_REDIRECT, GRANTED);
                answer
            } else {
                reply::answer(503, "")
            }
        }
        Verdict::Answer(asked) => {
            let rendered = catalog::render(view, asked);
            let mut answer = reply::answer(200, rendered.body);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(rendered.content_type));
            answer
        }
        Verdict::Refuse(refusal) => match &decided.ticket {
            Some(ticket) => {
                let mut answer = reply::answer(200, "");
                answer.headers_mut().insert(X_ACCEL_REDIRECT, WAITS);
                reply::add(&mut answer, TICKET, ticket.as_str());
                answer
            }
            None => refused(refusal, decided.dialect),
        },
    };
    reply::add_id(&mut answer, &decided.id);
    answer
}
