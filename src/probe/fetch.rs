//! One bounded request to a model server.
//!
//! Only configured addresses are asked: redirects are not followed, proxies of the environment are not used, and no cookie
//! is kept. A server that has gone wrong can fail its probe and do nothing else.

use crate::decision::fleet::Failure;
use reqwest::header::{CONTENT_TYPE, DATE, TRANSFER_ENCODING};
use reqwest::{Response, redirect};
use std::error::Error;
use std::time::Duration;

/// Largest answer read, in bytes.
const ANSWER_MAX: usize = 8 << 20;

/// Longest detail kept of a failure, in bytes.
const DETAIL_MAX: usize = 200;

/// How long an unused connection is kept: longer than an interval, so that probes reuse it.
const POOL_IDLE: Duration = Duration::from_secs(90);

/// Asks model servers.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

/// A client that cannot be built, because the TLS library cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause(.0))]
pub struct ClientError(reqwest::Error);

impl Client {
    /// Returns a client with its own connections.
    ///
    /// # Errors
    /// Where the TLS library cannot start.
    pub fn new() -> Result<Client, ClientError> {
        reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("herdgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(Client)
            .map_err(ClientError)
    }

    /// Returns the body of a 200.
    ///
    /// # Errors
    /// `connect`, `timeout`, `status` (anything but 200, redirects included), `body` (broken off), `too_large`.
    pub async fn body(&self, base: &str, path: &str) -> Result<Vec<u8>, Failure> {
        match self.optional_body(base, path).await? {
            Some(body) => Ok(body),
            None => Err(failure("status", format!("{path}: 404"))),
        }
    }

    /// Returns the body of a 200, or `None` where the server has no such endpoint (404).
    ///
    /// # Errors
    /// As [`Client::body`].
    pub async fn optional_body(&self, base: &str, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let response = self.send(base, path).await?;
        match response.status().as_u16() {
            200 => read(response, path).await.map(Some),
            404 => {
                // Read to its end, so that the connection can be used again.
                read(response, path).await?;
                Ok(None)
            }
            other => Err(failure("status", format!("{path}: {other}"))),
        }
    }

    /// Returns whether an HTTP server answers there with anything but a fault of its own (5xx).
    ///
    /// # Errors
    /// As [`Client::body`].
    pub async fn alive(&self, base: &str, path: &str) -> Result<(), Failure> {
        let response = self.send(base, path).await?;
        let status = response.status();
        if status.is_server_error() {
            return Err(failure("status", format!("{path}: {}", status.as_u16())));
        }
        read(response, path).await.map(|_| ())
    }

    /// Returns whatever is answered, at whatever status.
    ///
    /// # Errors
    /// `connect`, `timeout`, `body` (broken off), `too_large`.
    pub async fn get(&self, base: &str, path: &str) -> Result<FetchReply, Failure> {
        said(self.send(base, path).await?, path).await
    }

    /// Sends a JSON body; otherwise as [`Client::get`]. Dropping the future closes the connection, by which the server knows
    /// that nobody waits any more.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, base: &str, path: &str, json: String) -> Result<FetchReply, Failure> {
        let request = self.0.post(format!("{base}{path}")).header(CONTENT_TYPE, "application/json").body(json);
        said(request.send().await.map_err(|error| transport(error, path))?, path).await
    }

    async fn send(&self, base: &str, path: &str) -> Result<Response, Failure> {
        self.0.get(format!("{base}{path}")).send().await.map_err(|error| transport(error, path))
    }
}

/// A server's whole answer.
#[derive(Debug)]
pub struct FetchReply {
    /// Its status.
    pub status: u16,
    /// Its `Date`, where it has one.
    pub date: Option<String>,
    /// Bytes of its head.
    pub head: usize,
    /// Bytes that framed its chunks (RFC 9112 section 7.1), as far as can be told; 0 where it came whole.
    pub framing: usize,
    /// Its body.
    pub body: Vec<u8>,
}

async fn said(response: Response, path: &str) -> Result<FetchReply, Failure> {
    let status = response.status().as_u16();
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
    // `HTTP/1.1 200 OK`, its line end and that of the head; each field with `: ` and its line end.
    let fields = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let head = fields.sum::<usize>() + 19;
    let is_chunked = response.headers().contains_key(TRANSFER_ENCODING);
    let mut framing = if is_chunked { "0\r\n\r\n".len() } else { 0 };
    let frame = |piece: usize| format!("{piece:x}\r\n\r\n").len();
    let body = read_pieces(response, path, |piece| framing += if is_chunked { frame(piece) } else { 0 }).await?;
    Ok(FetchReply { status, date, head, framing, body })
}

async fn read(response: Response, path: &str) -> Result<Vec<u8>, Failure> {
    read_pieces(response, path, |_| {}).await
}

/// Returns the body, and how long each piece was that came: a chunk, or a part of one.
async fn read_pieces(mut response: Response, path: &str, mut each: impl FnMut(usize)) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(error, path))? {
        if chunk.len() > ANSWER_MAX.saturating_sub(body.len()) {
            return Err(failure("too_large", format!("{path}: more than {ANSWER_MAX} bytes")));
        }
        each(chunk.len());
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport(error: reqwest::Error, path: &str) -> Failure {
    let kind = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() || error.is_builder() {
        "connect"
    } else {
        "body"
    };
    // The URL may hold a password.
    failure(kind, format!("{path}: {}", cause(&error.without_url())))
}

/// Returns the innermost cause, which names the fault; the outer ones only wrap it.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Returns a failure with a detail that is short and printable.
pub fn failure(kind: &'static str, detail: String) -> Failure {
    let detail: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_MAX).collect();
    Failure { kind, detail: detail.into() }
}
