//! HAProxy's side of SPOP: says HELLO, asks, and reads verdicts, one question at a time.

use super::Fault;
use herdgate::spop::ack::{AckAction, Actions};
use herdgate::spop::frame::{Flags, FrameHeader, FrameKind, Split, split};
use herdgate::spop::hello::HaproxyHello;
use herdgate::spop::notify::write_notify;
use herdgate::spop::wire::TypedValue;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for an answer.
const SILENCE: Duration = Duration::from_secs(5);

/// Largest frame offered, in bytes: what the shipped files offer.
const FRAME_MAX: u32 = 262_140;

/// One connection, after HELLO.
#[derive(Debug)]
pub struct Spop {
    stream: TcpStream,
    received: Vec<u8>,
    next: u64,
}

impl Spop {
    /// Connects and exchanges HELLO.
    pub fn connect(to: SocketAddr) -> Result<Spop, Fault> {
        let stream = TcpStream::connect_timeout(&to, SILENCE).map_err(|fault| format!("{to}: {fault}"))?;
        stream.set_read_timeout(Some(SILENCE)).map_err(|fault| format!("{to}: {fault}"))?;
        let mut spop = Spop { stream, received: Vec::new(), next: 1 };
        spop.write(&hello())?;
        match spop.frame()? {
            (FrameKind::AgentHello, ..) => Ok(spop),
            (kind, ..) => Err(format!("HELLO was answered by {kind:?}")),
        }
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(|fault| format!("SPOP: {fault}"))
    }

    /// Asks whether a chat with this model may pass; returns `allow:SERVER` or `refuse:STATUS:CODE`.
    pub fn ask(&mut self, secret: &str, model: &str) -> Result<String, Fault> {
        let stream = self.send(secret, model)?;
        let (kind, answered, payload) = self.frame()?;
        match kind {
            FrameKind::Ack if answered == stream => verdict(&payload),
            kind => Err(format!("question {stream} was answered by {kind:?} {answered}")),
        }
    }

    /// Sends a question without waiting; returns its stream-id.
    pub fn send(&mut self, secret: &str, model: &str) -> Result<u64, Fault> {
        let stream = self.next;
        self.next += 1;
        self.write(&question(stream, secret, model))?;
        Ok(stream)
    }

    /// Returns the next frame: what it is, its stream-id, its payload.
    pub fn frame(&mut self) -> Result<(FrameKind, u64, Vec<u8>), Fault> {
        loop {
            match split(&self.received, FRAME_MAX).map_err(|fault| format!("SPOP: {fault}"))? {
                Split::Whole { frame, consumed } => {
                    let found = (frame.header.kind, frame.header.stream, frame.payload.to_vec());
                    self.received.drain(..consumed);
                    return Ok(found);
                }
                Split::Incomplete { .. } => {
                    let mut buffer = [0; 16 * 1024];
                    match self.stream.read(&mut buffer) {
                        Ok(0) => return Err("SPOP: closed".to_owned()),
                        Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                        Err(fault) => return Err(format!("SPOP: {fault}")),
                    }
                }
            }
        }
    }
}

/// Returns the HELLO of a HAProxy.
pub fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    HaproxyHello {
        versions: b"2.0",
        max_frame_size: FRAME_MAX,
        capabilities: b"pipelining,async",
        engine_id: Some(b"E1"),
        healthcheck: false,
    }
    .write(&mut out);
    out
}

/// Returns the question about a chat with this model, as the shipped SPOE file puts it.
pub fn question(stream: u64, secret: &str, model: &str) -> Vec<u8> {
    let body = format!("{{\"model\":\"{model}\"}}");
    let size = i64::try_from(body.len()).unwrap_or(0);
    let authorization = format!("Bearer {secret}");
    let arguments: [(&[u8], TypedValue<'_>); 9] = [
        (b"uid", TypedValue::String(b"u")),
        (b"method", TypedValue::String(b"POST")),
        (b"target", TypedValue::String(b"/v1/chat/completions")),
        (b"src", TypedValue::Ipv4(Ipv4Addr::LOCALHOST)),
        (b"authorization", TypedValue::String(authorization.as_bytes())),
        (b"authorization_n", TypedValue::Int64(1)),
        (b"body", TypedValue::Binary(body.as_bytes())),
        (b"body_len", TypedValue::Int64(size)),
        (b"body_size", TypedValue::Int64(size)),
    ];
    let mut out = Vec::new();
    write_notify(
        &mut out,
        FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream, frame: 1 },
        b"request",
        &arguments,
    );
    out
}

/// Returns an ACK's verdict: `allow:SERVER` or `refuse:STATUS:CODE`.
pub fn verdict(payload: &[u8]) -> Result<String, Fault> {
    let mut parts = [const { String::new() }; 4];
    for action in Actions::new(payload) {
        let Ok(AckAction::Set(_, name, value)) = action else { continue };
        let names: [&[u8]; 4] = [b"verdict", b"server", b"status", b"code"];
        let Some(slot) = names.iter().position(|known| *known == name) else { continue };
        parts[slot] = match value {
            TypedValue::String(text) => String::from_utf8_lossy(text).into_owned(),
            TypedValue::Int32(number) => number.to_string(),
            TypedValue::Uint32(number) => number.to_string(),
            TypedValue::Int64(number) => number.to_string(),
            TypedValue::Uint64(number) => number.to_string(),
            other => return Err(format!("{other:?}")),
        };
    }
    let [verdict, server, status, code] = parts;
    Ok(if verdict == "allow" { format!("allow:{server}") } else { format!("{verdict}:{status}:{code}") })
}
