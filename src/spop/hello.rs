//! The payloads of HAPROXY-HELLO and AGENT-HELLO, and what the two sides agree on.

use super::frame::{FrameHeader, FrameKind, write};
use super::status::DisconnectStatus;
use super::wire::{TypedValue, WireReader, put_pair};

/// The one protocol version herdgate speaks. HAProxy has sent no other since 1.0 was withdrawn.
pub const VERSION: &[u8] = b"2.0";

/// Smallest frame size the protocol allows (`doc/SPOE.txt` 3.2).
pub const FRAME_SIZE_MIN: u32 = 256;

/// Most pairs read from one HELLO; HAProxy sends at most five.
const PAIRS_MAX: usize = 64;

/// What HAProxy offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HaproxyHello<'a> {
    /// `supported-versions`: a list such as `2.0`.
    pub versions: &'a [u8],
    /// `max-frame-size` in bytes, the length field not counted.
    pub max_frame_size: u32,
    /// `capabilities`: a list, possibly empty.
    pub capabilities: &'a [u8],
    /// `engine-id`; absent in health checks.
    pub engine_id: Option<&'a [u8]>,
    /// `healthcheck`: whether this connection only asks whether we are there.
    pub healthcheck: bool,
}

impl<'a> HaproxyHello<'a> {
    /// Reads a HELLO's payload. The error is the status to disconnect with.
    pub fn parse(payload: &'a [u8]) -> Result<HaproxyHello<'a>, DisconnectStatus> {
        let (mut versions, mut max_frame_size, mut capabilities) = (None, None, None);
        let (mut engine_id, mut healthcheck) = (None, false);
        let mut reader = WireReader::new(payload);
        for _ in 0..PAIRS_MAX {
            if reader.is_empty() {
                break;
            }
            let (name, value) = reader.pair().map_err(|_| DisconnectStatus::Invalid)?;
            match name {
                b"supported-versions" => versions = value.bytes(),
                b"max-frame-size" => max_frame_size = value.unsigned(),
                b"capabilities" => capabilities = value.bytes(),
                b"engine-id" => engine_id = value.bytes(),
                b"healthcheck" => healthcheck = value == TypedValue::Bool(true),
                _ => {}
            }
        }
        if !reader.is_empty() {
            return Err(DisconnectStatus::Invalid);
        }
        Ok(HaproxyHello {
            versions: versions.ok_or(DisconnectStatus::NoVersion)?,
            max_frame_size: u32::try_from(max_frame_size.ok_or(DisconnectStatus::NoFrameSize)?)
                .map_err(|_| DisconnectStatus::BadFrameSize)?,
            capabilities: capabilities.ok_or(DisconnectStatus::NoCapabilities)?,
            engine_id,
            healthcheck,
        })
    }

    /// Appends the HELLO as a frame, as HAProxy would.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, FrameHeader::of_connection(FrameKind::HaproxyHello), |out| {
            put_pair(out, b"supported-versions", TypedValue::String(self.versions));
            put_pair(out, b"max-frame-size", TypedValue::Uint32(self.max_frame_size));
            put_pair(out, b"capabilities", TypedValue::String(self.capabilities));
            if self.healthcheck {
                put_pair(out, b"healthcheck", TypedValue::Bool(true));
            }
            if let Some(engine_id) = self.engine_id {
                put_pair(out, b"engine-id", TypedValue::String(engine_id));
            }
        });
    }

    /// Returns the terms of the connection. HAProxy's own frame size is kept, because 3.1.0 ignores a lower one and
    /// later versions fail the request instead of sending less; only above `cap` (bytes) is it lowered, to bound our
    /// memory. The error is the status to disconnect with.
    pub fn agree(&self, cap: u32) -> Result<Agreement, DisconnectStatus> {
        if !list(self.versions).any(is_version_2) {
            return Err(DisconnectStatus::BadVersion);
        }
        if self.max_frame_size < FRAME_SIZE_MIN {
            return Err(DisconnectStatus::BadFrameSize);
        }
        Ok(Agreement {
            max_frame_size: self.max_frame_size.min(cap.max(FRAME_SIZE_MIN)),
            pipelining: list(self.capabilities).any(|capability| capability == b"pipelining"),
        })
    }
}

/// Terms that both sides keep on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Largest frame in bytes, the length field not counted.
    pub max_frame_size: u32,
    /// Whether HAProxy may ask again before it has an answer.
    pub pipelining: bool,
}

impl Agreement {
    /// Appends our AGENT-HELLO. Never announces `async` (answers would move between connections) nor `fragmentation`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let capabilities: &[u8] = if self.pipelining { b"pipelining" } else { b"" };
        AgentHello { version: VERSION, max_frame_size: self.max_frame_size, capabilities }.write(out);
    }
}

/// What an agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentHello<'a> {
    /// `version`
    pub version: &'a [u8],
    /// `max-frame-size` in bytes, the length field not counted.
    pub max_frame_size: u32,
    /// `capabilities`
    pub capabilities: &'a [u8],
}

impl<'a> AgentHello<'a> {
    /// Reads an AGENT-HELLO's payload as HAProxy's check does: all three must be there. The error is its status.
    pub fn parse(payload: &'a [u8]) -> Result<AgentHello<'a>, DisconnectStatus> {
        let (mut version, mut max_frame_size, mut capabilities) = (None, None, None);
        let mut reader = WireReader::new(payload);
        while !reader.is_empty() {
            let (name, value) = reader.pair().map_err(|_| DisconnectStatus::Invalid)?;
            match name {
                b"version" => version = value.bytes(),
                b"max-frame-size" => max_frame_size = value.unsigned(),
                b"capabilities" => capabilities = value.bytes(),
                _ => {}
            }
        }
        Ok(AgentHello {
            version: version.ok_or(DisconnectStatus::NoVersion)?,
            max_frame_size: u32::try_from(max_frame_size.ok_or(DisconnectStatus::NoFrameSize)?)
                .map_err(|_| DisconnectStatus::BadFrameSize)?,
            capabilities: capabilities.ok_or(DisconnectStatus::NoCapabilities)?,
        })
    }

    /// Appends the HELLO as a frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        write(out, FrameHeader::of_connection(FrameKind::AgentHello), |out| {
            put_pair(out, b"version", TypedValue::String(self.version));
            put_pair(out, b"max-frame-size", TypedValue::Uint32(self.max_frame_size));
            put_pair(out, b"capabilities", TypedValue::String(self.capabilities));
        });
    }
}

/// Returns the entries of a comma-separated list, without the spaces around them.
fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Returns whether a version is of major 2: such a HAProxy speaks 2.0 as well.
fn is_version_2(version: &[u8]) -> bool {
    version
        .strip_prefix(b"2.")
        .is_some_and(|minor| (1..=9).contains(&minor.len()) && minor.iter().all(u8::is_ascii_digit))
}
