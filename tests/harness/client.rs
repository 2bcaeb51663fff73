//! A plain HTTP/1.1 client that records when each piece of an answer arrived, and can leave in the middle.

use super::Fault;
use super::deadline::Stopwatch;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest silence of the other side.
const SILENCE: Duration = Duration::from_secs(20);
/// Bodies up to here are written before anything is read; longer ones beside it, because a refusal may come first.
const INLINE_BODY: usize = 64 * 1024;

/// A request, written exactly as given: nothing is encoded, tidied or added except `Host`, `Content-Length` and, by
/// [`Request::chunked`], the chunks.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

impl Request {
    /// Returns a request without a body.
    pub fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new(), chunked: false }
    }

    /// `GET`.
    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// `POST` of JSON.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        let mut request = Request::new("POST", target).header("Content-Type", "application/json");
        request.body = body.into();
        request
    }

    /// `POST` of bytes, without `Content-Type`.
    pub fn bare_post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        Request { body: body.into(), ..Request::new("POST", target) }
    }

    /// One more header line.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `Authorization: Bearer SECRET`.
    pub fn key(self, secret: &str) -> Request {
        let value = format!("Bearer {secret}");
        self.header("Authorization", &value)
    }

    /// Sends the body in one chunk, without a length.
    pub fn chunked(mut self) -> Request {
        self.chunked = true;
        self
    }

    /// Returns the request in one line, without its headers.
    pub fn summary(&self) -> String {
        format!("{} {}  {}", self.method, self.target, String::from_utf8_lossy(&self.body)).trim_end().to_owned()
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: proxy.test\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn payload(&self) -> Vec<u8> {
        if !self.chunked {
            return self.body.clone();
        }
        let mut payload = format!("{:x}\r\n", self.body.len()).into_bytes();
        payload.extend_from_slice(&self.body);
        payload.extend_from_slice(b"\r\n0\r\n\r\n");
        payload
    }
}

/// An answer, whole or as far as it came.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names as received, in order.
    pub headers: Vec<(String, String)>,
    /// The body, chunks put together.
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub complete: bool,
    /// After each read: bytes of the body there were, and when.
    arrivals: Vec<(usize, Duration)>,
}

impl Response {
    /// Returns the value of a header; the first, where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Milliseconds between the ends of successive lines: of successive tokens, in NDJSON.
    pub fn line_gaps_ms(&self) -> Vec<f64> {
        let ends = self.body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index);
        let times: Vec<f64> = ends
            .filter_map(|end| self.arrivals.iter().find(|(there, _)| *there > end))
            .map(|(_, at)| at.as_secs_f64() * 1000.0)
            .collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Returns the median of [`Response::line_gaps_ms`]; absent without two lines.
    pub fn median_gap_ms(&self) -> Option<f64> {
        let mut gaps = self.line_gaps_ms();
        gaps.sort_by(f64::total_cmp);
        gaps.get(gaps.len() / 2).copied()
    }
}

/// Sends a request and reads the whole answer.
pub fn send(to: SocketAddr, request: &Request) -> Result<Response, Fault> {
    let mut conversation = Conversation::start(to, request)?;
    conversation.read_to_end()?;
    Ok(conversation.response)
}

/// A request that was sent, and the answer as it comes. Dropping it closes the connection: the client leaves.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    watch: Stopwatch,
    raw: Vec<u8>,
    framing: Option<Framing>,
    without_body: bool,
    /// What came so far.
    pub response: Response,
}

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Conversation {
    /// Connects and sends.
    pub fn start(to: SocketAddr, request: &Request) -> Result<Conversation, Fault> {
        let fault = |fault: std::io::Error| format!("{to}: {fault}");
        let mut stream = TcpStream::connect_timeout(&to, SILENCE).map_err(fault)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(fault)?;
        stream.set_write_timeout(Some(SILENCE)).map_err(fault)?;
        stream.set_nodelay(true).map_err(fault)?;
        let watch = Stopwatch::new();
        let mut first = request.head();
        let payload = request.payload();
        if payload.len() <= INLINE_BODY {
            first.extend_from_slice(&payload);
            stream.write_all(&first).map_err(fault)?;
        } else {
            let mut writer = stream.try_clone().map_err(fault)?;
            // A refusal may close the connection while this still writes; that is the reader's to judge.
            std::thread::spawn(move || writer.write_all(&first).and_then(|()| writer.write_all(&payload)));
        }
        let without_body = request.method == "HEAD";
        Ok(Conversation { stream, watch, raw: Vec::new(), framing: None, without_body, response: Response::default() })
    }

    /// Gives up where nothing comes for so long.
    pub fn with_patience(self, limit: std::time::Duration) -> Result<Conversation, Fault> {
        self.stream.set_read_timeout(Some(limit)).map_err(|fault| fault.to_string())?;
        Ok(self)
    }

    /// Reads until the body has `bytes`, or ends.
    pub fn read_body(&mut self, bytes: usize) -> Result<(), Fault> {
        while !self.response.complete && (self.framing.is_none() || self.response.body.len() < bytes) {
            self.read_once()?;
        }
        Ok(())
    }

    /// Reads to the end of the answer.
    pub fn read_to_end(&mut self) -> Result<(), Fault> {
        self.read_body(usize::MAX)
    }

    /// Leaves.
    pub fn leave(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn read_once(&mut self) -> Result<(), Fault> {
        let mut buffer = [0; 64 * 1024];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            // The other side answered, then closed on what was still being sent.
            Err(_) if self.framing == Some(Framing::Close) => 0,
            Err(fault) => return Err(format!("after {} bytes: {fault}", self.response.body.len())),
        };
        if read == 0 {
            return match self.framing {
                Some(Framing::Close) => {
                    self.response.complete = true;
                    Ok(())
                }
                Some(_) => Err(format!("the answer ended early, after {} bytes", self.response.body.len())),
                None if self.raw.is_empty() => Err("closed without an answer".to_owned()),
                None => Err(format!("not HTTP: {:?}", String::from_utf8_lossy(&self.raw))),
            };
        }
        self.raw.extend_from_slice(&buffer[..read]);
        if self.framing.is_none() {
            self.read_head()?;
        }
        self.read_payload()?;
        self.response.arrivals.push((self.response.body.len(), self.watch.elapsed()));
        Ok(())
    }

    fn read_head(&mut self) -> Result<(), Fault> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Response::new(&mut headers);
            let end = match head.parse(&self.raw) {
                Ok(httparse::Status::Complete(end)) => end,
                Ok(httparse::Status::Partial) => return Ok(()),
                Err(fault) => return Err(format!("not HTTP ({fault}): {:?}", String::from_utf8_lossy(&self.raw))),
            };
            self.response.status = head.code.unwrap_or(0);
            self.response.headers = head
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
                .collect();
            self.raw.drain(..end);
            if self.response.status < 200 {
                continue;
            }
            let length = self.response.header("content-length").and_then(|value| value.parse().ok());
            let chunked = self.response.header("transfer-encoding").is_some();
            let empty = self.without_body || matches!(self.response.status, 204 | 304);
            self.framing = Some(match length {
                _ if empty => Framing::Length(0),
                _ if chunked => Framing::Chunked,
                Some(length) => Framing::Length(length),
                None => Framing::Close,
            });
            return Ok(());
        }
    }

    fn read_payload(&mut self) -> Result<(), Fault> {
        match self.framing {
            None => {}
            Some(Framing::Close) => self.response.body.append(&mut self.raw),
            Some(Framing::Length(length)) => {
                self.response.body.append(&mut self.raw);
                self.response.complete = self.response.body.len() >= length;
            }
            Some(Framing::Chunked) => {
                while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(&self.raw) {
                    let size = usize::try_from(size).map_err(|_| "a chunk too large".to_owned())?;
                    // The line end after a chunk, and after the last one (no trailers are expected).
                    let end = start.saturating_add(size);
                    if self.raw.len() < end.saturating_add(2) {
                        break;
                    }
                    self.response.body.extend_from_slice(&self.raw[start..end]);
                    self.raw.drain(..end + 2);
                    if size == 0 {
                        self.response.complete = true;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}
