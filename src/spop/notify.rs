//! The payload of a NOTIFY: messages, each with a name and up to 255 named arguments.

use super::frame::{FrameHeader, FrameKind, write};
use super::wire::{TypedValue, WireError, WireReader, put_pair, put_string};

/// The messages of one NOTIFY, known to be readable to the end.
#[derive(Clone, Copy)]
pub struct Messages<'a> {
    /// The first message, already taken apart: mostly it is the only one, and is not walked through again.
    first: Option<NotifyMessage<'a>>,
    rest: WireReader<'a>,
}

impl<'a> Messages<'a> {
    /// Reads a payload through once, so that whoever walks it afterwards meets no error half-way.
    pub fn new(payload: &'a [u8]) -> Result<Messages<'a>, WireError> {
        let mut reader = WireReader::new(payload);
        let first = if reader.is_empty() { None } else { Some(message(&mut reader)?) };
        let rest = reader;
        while !reader.is_empty() {
            message(&mut reader)?;
        }
        Ok(Messages { first, rest })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = NotifyMessage<'a>;

    fn next(&mut self) -> Option<NotifyMessage<'a>> {
        self.first.take().or_else(|| message(&mut self.rest).ok())
    }
}

/// One message of a NOTIFY.
#[derive(Clone, Copy)]
pub struct NotifyMessage<'a> {
    /// Its name in the configuration (`spoe-message NAME`).
    pub name: &'a [u8],
    arguments: MessageArguments<'a>,
}

impl<'a> NotifyMessage<'a> {
    /// Returns the message's arguments, in order. Names may be empty, and may occur more than once.
    pub fn arguments(&self) -> MessageArguments<'a> {
        self.arguments
    }
}

/// The arguments of one message: name and value.
#[derive(Clone, Copy)]
pub struct MessageArguments<'a> {
    left: u8,
    rest: WireReader<'a>,
}

impl<'a> Iterator for MessageArguments<'a> {
    type Item = (&'a [u8], TypedValue<'a>);

    fn next(&mut self) -> Option<(&'a [u8], TypedValue<'a>)> {
        self.left = self.left.checked_sub(1)?;
        self.rest.pair().ok()
    }
}

/// Reads one message and moves past its arguments.
fn message<'a>(reader: &mut WireReader<'a>) -> Result<NotifyMessage<'a>, WireError> {
    let name = reader.string()?;
    let count = reader.byte()?;
    let arguments = MessageArguments { left: count, rest: *reader };
    for _ in 0..count {
        reader.pair()?;
    }
    Ok(NotifyMessage { name, arguments })
}

/// Appends a NOTIFY of one message, as HAProxy would; only the first 255 arguments are taken.
pub fn write_notify(out: &mut Vec<u8>, header: FrameHeader, name: &[u8], arguments: &[(&[u8], TypedValue<'_>)]) {
    write(out, FrameHeader { kind: FrameKind::Notify, ..header }, |out| put_message(out, name, arguments));
}

/// Appends one message to the payload of a NOTIFY; only the first 255 arguments are taken.
pub fn put_message(out: &mut Vec<u8>, name: &[u8], arguments: &[(&[u8], TypedValue<'_>)]) {
    let count = u8::try_from(arguments.len()).unwrap_or(u8::MAX);
    put_string(out, name);
    out.push(count);
    for (name, value) in arguments.iter().take(usize::from(count)) {
        put_pair(out, name, *value);
    }
}
