//! The payload of an ACK: variables to set or unset.

use super::frame::{Flags, FrameHeader, FrameKind, write};
use super::variable::Variable;
use super::wire::{TypedValue, WireError, WireReader, put_string, put_value};

const SET: u8 = 1;
const SET_ARGUMENTS: u8 = 3;
const UNSET: u8 = 2;
const UNSET_ARGUMENTS: u8 = 2;

/// How long a variable lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableScope {
    /// The process.
    Process,
    /// The client's connection: shared by all streams of an H2 connection.
    Session,
    /// Request and answer. The one herdgate uses.
    Transaction,
    /// The request, until it is sent on.
    Request,
    /// The answer.
    Response,
}

impl VariableScope {
    const fn from_number(number: u8) -> Result<VariableScope, WireError> {
        match number {
            0 => Ok(VariableScope::Process),
            1 => Ok(VariableScope::Session),
            2 => Ok(VariableScope::Transaction),
            3 => Ok(VariableScope::Request),
            4 => Ok(VariableScope::Response),
            unknown => Err(WireError::UnknownScope(unknown)),
        }
    }

    const fn number(self) -> u8 {
        match self {
            VariableScope::Process => 0,
            VariableScope::Session => 1,
            VariableScope::Transaction => 2,
            VariableScope::Request => 3,
            VariableScope::Response => 4,
        }
    }
}

/// One action of an ACK.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AckAction<'a> {
    /// Gives a variable a value.
    Set(VariableScope, &'a [u8], TypedValue<'a>),
    /// Takes a variable away.
    Unset(VariableScope, &'a [u8]),
}

/// Reads the actions of an ACK's payload. Ends after the first error.
#[derive(Clone, Copy)]
pub struct Actions<'a> {
    rest: WireReader<'a>,
}

impl<'a> Actions<'a> {
    /// Returns the actions of `payload`.
    pub fn new(payload: &'a [u8]) -> Actions<'a> {
        Actions { rest: WireReader::new(payload) }
    }

    fn action(&mut self) -> Result<AckAction<'a>, WireError> {
        match (self.rest.byte()?, self.rest.byte()?) {
            (SET, SET_ARGUMENTS) => {
                let scope = VariableScope::from_number(self.rest.byte()?)?;
                Ok(AckAction::Set(scope, self.rest.string()?, self.rest.value()?))
            }
            (UNSET, UNSET_ARGUMENTS) => {
                Ok(AckAction::Unset(VariableScope::from_number(self.rest.byte()?)?, self.rest.string()?))
            }
            _ => Err(WireError::UnknownAction),
        }
    }
}

impl<'a> Iterator for Actions<'a> {
    type Item = Result<AckAction<'a>, WireError>;

    fn next(&mut self) -> Option<Result<AckAction<'a>, WireError>> {
        if self.rest.is_empty() {
            return None;
        }
        let action = self.action();
        if action.is_err() {
            self.rest = WireReader::new(&[]);
        }
        Some(action)
    }
}

/// Collects the actions of one ACK.
pub struct AckWriter<'o> {
    out: &'o mut Vec<u8>,
    actions: usize,
}

impl AckWriter<'_> {
    /// Gives a variable a value.
    pub fn set(&mut self, scope: VariableScope, name: Variable<'_>, value: TypedValue<'_>) {
        self.out.extend_from_slice(&[SET, SET_ARGUMENTS, scope.number()]);
        put_string(self.out, name.as_str().as_bytes());
        put_value(self.out, value);
        self.actions = self.actions.saturating_add(1);
    }

    /// Takes a variable away.
    pub fn unset(&mut self, scope: VariableScope, name: Variable<'_>) {
        self.out.extend_from_slice(&[UNSET, UNSET_ARGUMENTS, scope.number()]);
        put_string(self.out, name.as_str().as_bytes());
        self.actions = self.actions.saturating_add(1);
    }
}

/// Why an ACK was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It would have no action: HAProxy 3.1.0 waits for ever on an empty ACK.
    #[error("an ACK without actions")]
    Empty,
    /// It would be longer than the frame size agreed on, and HAProxy would end the connection.
    #[error("an ACK of {len} bytes, more than the frame size agreed on")]
    TooBig {
        /// Its length in bytes, the length field not counted.
        len: usize,
    },
}

/// Appends an ACK of at most `max` bytes (its length field not counted), or nothing at all.
pub fn write_ack(
    out: &mut Vec<u8>,
    stream: u64,
    frame: u64,
    max: u32,
    fill: impl FnOnce(&mut AckWriter<'_>),
) -> Result<(), AckError> {
    let start = out.len();
    let mut actions = 0;
    let len = write(out, FrameHeader { kind: FrameKind::Ack, flags: Flags::FIN, stream, frame }, |out| {
        let mut ack = AckWriter { out, actions: 0 };
        fill(&mut ack);
        actions = ack.actions;
    });
    let error = if actions == 0 {
        AckError::Empty
    } else if len > max as usize {
        AckError::TooBig { len }
    } else {
        return Ok(());
    };
    out.truncate(start);
    Err(error)
}
