//! The payload of HAPROXY-DISCONNECT and AGENT-DISCONNECT: a status and a few words.

use super::frame::{FrameHeader, FrameKind, write};
use super::status::DisconnectStatus;
use super::wire::{TypedValue, WireError, WireReader, put_pair};

/// A DISCONNECT as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// `status-code`; may be none of HAProxy's table.
    pub status: Option<u64>,
    /// `message`
    pub message: &'a [u8],
}

impl<'a> Disconnect<'a> {
    /// Reads a DISCONNECT's payload.
    pub fn parse(payload: &'a [u8]) -> Result<Disconnect<'a>, WireError> {
        let mut disconnect = Disconnect { status: None, message: b"" };
        let mut reader = WireReader::new(payload);
        while !reader.is_empty() {
            let (name, value) = reader.pair()?;
            match name {
                b"status-code" => disconnect.status = value.unsigned(),
                b"message" => disconnect.message = value.bytes().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(disconnect)
    }
}

/// Appends a DISCONNECT of either side.
pub fn write_disconnect(out: &mut Vec<u8>, kind: FrameKind, status: DisconnectStatus) {
    write(out, FrameHeader::of_connection(kind), |out| {
        put_pair(out, b"status-code", TypedValue::Uint32(status.code()));
        put_pair(out, b"message", TypedValue::String(status.as_str().as_bytes()));
    });
}
