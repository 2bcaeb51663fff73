//! One SPOP frame: its length, header and payload, cut out of a byte stream or appended to one.
//!
//! Layout (`doc/SPOE.txt` 3.2): four bytes of length, big-endian, not counting themselves; one byte of type; four bytes
//! of flags, big-endian; stream-id and frame-id as varints; the payload. A fault at this level means that the position
//! of the next frame cannot be trusted, so it ends the connection. What is wrong inside a payload is told apart
//! ([`super::wire::WireError`]), because the stream of frames is still sound then and its neighbours should live.

use super::wire::{WireError, WireReader, put_varint};

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;

/// Smallest frame: type, flags and two varints of one byte each. HAProxy spun on zero-size frames until #2490.
pub const FRAME_MIN: u32 = 7;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Continues a fragmented frame (HAProxy up to 3.0, only towards agents that announce fragmentation).
    Unset,
    /// HAProxy opens the conversation.
    HaproxyHello,
    /// HAProxy ends the conversation.
    HaproxyDisconnect,
    /// HAProxy asks.
    Notify,
    /// The agent answers HAPROXY-HELLO.
    AgentHello,
    /// The agent ends the conversation.
    AgentDisconnect,
    /// The agent answers a NOTIFY.
    Ack,
    /// A type this protocol version does not define.
    Other(u8),
}

impl FrameKind {
    /// Returns the kind of a type number.
    pub const fn from_number(number: u8) -> FrameKind {
        match number {
            0 => FrameKind::Unset,
            1 => FrameKind::HaproxyHello,
            2 => FrameKind::HaproxyDisconnect,
            3 => FrameKind::Notify,
            101 => FrameKind::AgentHello,
            102 => FrameKind::AgentDisconnect,
            103 => FrameKind::Ack,
            other => FrameKind::Other(other),
        }
    }

    /// Returns the type number.
    pub const fn number(self) -> u8 {
        match self {
            FrameKind::Unset => 0,
            FrameKind::HaproxyHello => 1,
            FrameKind::HaproxyDisconnect => 2,
            FrameKind::Notify => 3,
            FrameKind::AgentHello => 101,
            FrameKind::AgentDisconnect => 102,
            FrameKind::Ack => 103,
            FrameKind::Other(number) => number,
        }
    }
}

/// A frame's flags. Bits above the two defined ones are reserved and passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// A whole frame, nothing more to come. HAProxy demands it on every agent frame, and its check demands it alone.
    pub const FIN: Flags = Flags(1);

    /// Returns whether this is the last (or only) part of its frame.
    pub const fn fin(self) -> bool {
        self.0 & 1 != 0
    }

    /// Returns whether HAProxy has given this frame up.
    pub const fn abort(self) -> bool {
        self.0 & 2 != 0
    }
}

/// What stands between a frame's length and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is for.
    pub kind: FrameKind,
    /// FIN and ABORT.
    pub flags: Flags,
    /// Which HAProxy stream asks. Zero is legal: it is the first of a process up to 3.0.
    pub stream: u64,
    /// Which of the stream's questions this is.
    pub frame: u64,
}

impl FrameHeader {
    /// Returns the header of a HELLO or DISCONNECT, whose identifiers are zero.
    pub const fn of_connection(kind: FrameKind) -> FrameHeader {
        FrameHeader { kind, flags: Flags::FIN, stream: 0, frame: 0 }
    }
}

/// A frame in somebody's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type, flags, identifiers.
    pub header: FrameHeader,
    /// The rest.
    pub payload: &'a [u8],
}

/// Bytes that are no frame. Ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is above what was agreed on.
    #[error("a frame of {len} bytes, where {max} are the most")]
    TooBig {
        /// The length announced.
        len: u32,
        /// The most allowed.
        max: u32,
    },
    /// The length cannot hold a header; zero included.
    #[error("a frame of {len} bytes, where {FRAME_MIN} are the least")]
    TooShort {
        /// The length announced.
        len: u32,
    },
    /// The identifiers cannot be read.
    #[error("frame header: {0}")]
    Header(WireError),
}

/// The beginning of a byte stream.
pub enum Split<'a> {
    /// A whole frame.
    Whole {
        /// The frame.
        frame: Frame<'a>,
        /// Bytes it takes, its length field included.
        consumed: usize,
    },
    /// Not yet a whole frame.
    Incomplete {
        /// Bytes the frame will take, its length field included; [`LENGTH_BYTES`] while its length is not known.
        needed: usize,
    },
}

/// Cuts the first frame off `input`, which may be at most `max` bytes long, its length field not counted. The length is
/// judged as soon as it is there, before anything is waited or allocated for.
pub fn split(input: &[u8], max: u32) -> Result<Split<'_>, FrameError> {
    let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Split::Incomplete { needed: LENGTH_BYTES });
    };
    let len = u32::from_be_bytes(*length);
    if len > max {
        return Err(FrameError::TooBig { len, max });
    }
    if len < FRAME_MIN {
        return Err(FrameError::TooShort { len });
    }
    let consumed = LENGTH_BYTES.saturating_add(len as usize);
    match rest.get(..len as usize) {
        Some(bytes) => Ok(Split::Whole { frame: parse(bytes).map_err(FrameError::Header)?, consumed }),
        None => Ok(Split::Incomplete { needed: consumed }),
    }
}

fn parse(bytes: &[u8]) -> Result<Frame<'_>, WireError> {
    let mut reader = WireReader::new(bytes);
    let kind = FrameKind::from_number(reader.byte()?);
    let flags = Flags(u32::from_be_bytes(reader.array::<4>()?));
    let stream = reader.varint()?;
    let frame = reader.varint()?;
    Ok(Frame { header: FrameHeader { kind, flags, stream, frame }, payload: reader.rest() })
}

/// Appends a frame whose payload `payload` appends. Returns the frame's length, the length field not counted.
pub fn write(out: &mut Vec<u8>, header: FrameHeader, payload: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(header.kind.number());
    out.extend_from_slice(&header.flags.0.to_be_bytes());
    put_varint(out, header.stream);
    put_varint(out, header.frame);
    payload(out);
    let len = out.len().saturating_sub(start).saturating_sub(LENGTH_BYTES);
    let written = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(field) = out.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<LENGTH_BYTES>()) {
        *field = written;
    }
    len
}
