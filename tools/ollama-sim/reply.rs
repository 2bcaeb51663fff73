//! Answers: whole or streamed bodies, and errors in the dialect of their route.

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// `Content-Type` of gin's JSON.
pub const GIN_JSON: &str = "application/json; charset=utf-8";
/// `Content-Type` of Ollama's `/v1` answers.
pub const PLAIN_JSON: &str = "application/json";
/// `Content-Type` of native streams.
pub const NDJSON: &str = "application/x-ndjson";
/// `Content-Type` of `/v1` streams.
pub const SSE: &str = "text/event-stream";
/// `Content-Type` of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
pub type Reply = Response<ReplyBody>;

/// The body of an answer.
pub enum ReplyBody {
    /// Everything at once.
    Whole(Option<Bytes>),
    /// What is at hand, then what arrives; each piece is sent as it comes.
    Stream(Option<Bytes>, mpsc::Receiver<Bytes>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take()),
            ReplyBody::Stream(first, rest) => match first.take() {
                Some(first) => Poll::Ready(Some(first)),
                None => rest.poll_recv(cx),
            },
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ReplyBody::Stream(..) => SizeHint::default(),
        }
    }
}

/// Returns an answer with this status, type and body.
pub fn whole(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body: Bytes = body.into();
    let mut reply = Response::new(ReplyBody::Whole((!body.is_empty()).then_some(body)));
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if !content_type.is_empty() {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    reply
}

/// Returns an answer that carries `value` as gin writes JSON.
pub fn gin(status: u16, value: &impl Serialize) -> Reply {
    whole(status, GIN_JSON, text_of(value))
}

/// Returns an answer that carries `value` as Ollama's `/v1` writers do.
pub fn v1(status: u16, value: &impl Serialize) -> Reply {
    whole(status, PLAIN_JSON, text_of(value) + "\n")
}

/// Returns an answer without a body.
pub fn empty(status: u16) -> Reply {
    whole(status, "", "")
}

/// Returns a stream whose first piece is at hand.
pub fn stream(content_type: &'static str, first: Bytes, rest: mpsc::Receiver<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::Stream(Some(first), rest));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// `value` as JSON text.
pub fn text_of(value: &impl Serialize) -> String {
    // The values written here are plain data, whose serialisation cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// The dialect an error is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// `{"error": "…"}`
    Native,
    /// Ollama's `/v1/*` (`openai.NewError`).
    OpenAi,
    /// Ollama's `/v1/messages` (`anthropic.NewError`).
    Anthropic,
    /// vLLM.
    Vllm,
}

impl Tongue {
    /// Returns an error with this status.
    pub fn error(self, status: u16, message: &str) -> Reply {
        match self {
            Tongue::Native => gin(status, &json!({ "error": message })),
            Tongue::OpenAi => {
                let kind = match status {
                    400 => "invalid_request_error",
                    404 => "not_found_error",
                    _ => "api_error",
                };
                v1(status, &json!({ "error": { "message": message, "type": kind, "param": null, "code": null } }))
            }
            Tongue::Anthropic => {
                let kind = match status {
                    400 => "invalid_request_error",
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    429 => "rate_limit_error",
                    503 | 529 => "overloaded_error",
                    _ => "api_error",
                };
                v1(status, &json!({ "type": "error", "error": { "type": kind, "message": message } }))
            }
            Tongue::Vllm => {
                let (kind, param) = match status {
                    404 => ("NotFoundError", Some("model")),
                    503 => ("ServiceUnavailableError", None),
                    _ => ("BadRequestError", None),
                };
                v1(status, &json!({ "error": { "message": message, "type": kind, "param": param, "code": status } }))
            }
        }
    }
}
