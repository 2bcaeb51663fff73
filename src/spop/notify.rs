//! The payload of a NOTIFY: messages, each with a name and up to 255 named arguments.

use super::frame::{Header, Kind, write};
use super::wire::{Reader, Value, WireError, put_pair, put_string};

/// The messages of one NOTIFY, known to be readable to the end.
#[derive(Clone, Copy)]
pub struct Messages<'a> {
    /// The first message, already taken apart: mostly it is the only one, and is not walked through again.
    first: Option<Message<'a>>,
    rest: Reader<'a>,
}

impl<'a> Messages<'a> {
    /// Reads a payload through once, so that whoever walks it afterwards meets no error half-way.
    pub fn new(payload: &'a [u8]) -> Result<Messages<'a>, WireError> {
        let mut reader = Reader::new(payload);
        let first = if reader.is_empty() { None } else { Some(message(&mut reader)?) };
        let rest = reader;
        while !reader.is_empty() {
            message(&mut reader)?;
        }
        Ok(Messages { first, rest })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        self.first.take().or_else(|| message(&mut self.rest).ok())
    }
}

/// One message of a NOTIFY.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its name in the configuration (`spoe-message NAME`).
    pub name: &'a [u8],
    arguments: Arguments<'a>,
}

impl<'a> Message<'a> {
    /// Returns the message's arguments, in order. Names may be empty, and may occur more than once.
    pub fn arguments(&self) -> Arguments<'a> {
        self.arguments
    }
}

/// The arguments of one message: name and value.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    left: u8,
    rest: Reader<'a>,
}

impl<'a> Iterator for Arguments<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        self.left = self.left.checked_sub(1)?;
        self.rest.pair().ok()
    }
}

/// Reads one message and moves past its arguments.
fn message<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let name = reader.string()?;
    let count = reader.byte()?;
    let arguments = Arguments { left: count, rest: *reader };
    for _ in 0..count {
        reader.pair()?;
    }
    Ok(Message { name, arguments })
}

/// Appends a NOTIFY of one message, as HAProxy would; only the first 255 arguments are taken.
pub fn write_notify(out: &mut Vec<u8>, header: Header, name: &[u8], arguments: &[(&[u8], Value<'_>)]) {
    write(out, Header { kind: Kind::Notify, ..header }, |out| put_message(out, name, arguments));
}

/// Appends one message to the payload of a NOTIFY; only the first 255 arguments are taken.
pub fn put_message(out: &mut Vec<u8>, name: &[u8], arguments: &[(&[u8], Value<'_>)]) {
    let count = u8::try_from(arguments.len()).unwrap_or(u8::MAX);
    put_string(out, name);
    out.push(count);
    for (name, value) in arguments.iter().take(usize::from(count)) {
        put_pair(out, name, *value);
    }
}
