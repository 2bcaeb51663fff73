//! The conversation on one connection, as a state machine without input or output of its own.
//!
//! The one rule for driving it: call [`Session::step`] on what was received until it answers [`SessionStep::Incomplete`] or
//! [`SessionStep::Closed`], dropping what it consumed each time, then send what was appended to `out` with one write. Answers
//! may be appended at any time and in any order with [`Session::ack`].
//!
//! Two kinds of fault are kept apart. Where the stream of frames cannot be trusted (size, header, order, fragments) the
//! session appends a DISCONNECT and closes. Where a NOTIFY is well framed but its payload makes no sense, it is handed on
//! as such and answered like any other, because a DISCONNECT would fail up to 20 neighbours on the same connection.

use super::ack::{AckError, AckWriter, write_ack};
use super::disconnect::{Disconnect, write_disconnect};
use super::frame::{Frame, FrameError, FrameKind, Split, split};
use super::hello::{Agreement, FRAME_SIZE_MIN, HaproxyHello};
use super::notify::Messages;
use super::status::DisconnectStatus;
use super::wire::WireError;

/// Largest frame size agreed to, in bytes: room for `tune.bufsize 1048576` and a little more.
pub const FRAME_SIZE_CAP: u32 = 1024 * 1024 + 64 * 1024;

/// Largest HAPROXY-HELLO, in bytes; a real one has less than 200.
const HELLO_MAX: u32 = 16 * 1024;

/// One connection's conversation.
#[derive(Debug)]
pub struct Session {
    state: SessionState,
    cap: u32,
}

#[derive(Debug, Clone, Copy)]
enum SessionState {
    /// Nothing but HAPROXY-HELLO may come.
    AwaitingHello,
    /// NOTIFYs and ACKs pass.
    Running(Agreement),
    /// Nothing is read or sent any more.
    Closed,
}

/// What the received bytes begin with.
pub enum SessionStep<'a> {
    /// A frame, already acted upon.
    Frame {
        /// Bytes to drop from the front of the input.
        consumed: usize,
        /// What it was.
        event: SessionEvent<'a>,
    },
    /// Part of a frame.
    Incomplete {
        /// Bytes the whole frame takes; bounded by the frame size agreed on.
        needed: usize,
    },
    /// The conversation is over: send what was appended, then close. Input left over does not matter.
    Closed,
}

/// What a frame meant.
pub enum SessionEvent<'a> {
    /// HAProxy said HELLO, and our answer was appended. After a health check the session is closed.
    Hello {
        /// What holds from now on.
        agreed: Agreement,
        /// What HAProxy offered, in bytes; above `agreed.max_frame_size` only where it exceeded our cap.
        offered: u32,
        /// Whether this was only a check.
        healthcheck: bool,
    },
    /// A question. Answer it with [`Session::ack`].
    Notify {
        /// To be handed back with the answer.
        ticket: AckTicket,
        /// What is asked, or why it cannot be read; either way it is to be answered.
        messages: Result<Messages<'a>, WireError>,
    },
    /// A frame to pass over: of an unknown type, or one that HAProxy has aborted.
    Skipped,
    /// HAProxy said goodbye, and so did we. The session is closed.
    Goodbye {
        /// Its reason, where it could be read.
        status: Option<u64>,
    },
    /// The peer does not speak the protocol; a DISCONNECT was appended. The session is closed.
    Fault(SessionError),
}

/// Permission to answer one NOTIFY, once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "every NOTIFY is answered, or its request waits for the proxy's timeout"]
pub struct AckTicket {
    stream: u64,
    frame: u64,
}

/// Why a conversation was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are no frame.
    #[error(transparent)]
    Framing(FrameError),
    /// A frame of a kind that may not come at this point, or never from HAProxy.
    #[error("a frame of type {} out of place", .0.number())]
    OutOfPlace(FrameKind),
    /// A HELLO with a stream-id or frame-id.
    #[error("a HELLO with a stream-id or frame-id")]
    HelloIdentifiers,
    /// A frame without FIN, or the continuation of one.
    #[error("a fragment, which was not announced")]
    Fragment,
    /// A HELLO that cannot be agreed to.
    #[error("HELLO: {}", .0.as_str())]
    Hello(DisconnectStatus),
    /// The peer stopped in the middle of a frame, or did not say HELLO.
    #[error("nothing, where a frame was due")]
    Silent,
    /// All peers together hold as much memory as they may.
    #[error("begun frames hold as much memory as they may")]
    Overload,
}

impl SessionError {
    /// Returns what the peer is told.
    pub fn status(self) -> DisconnectStatus {
        match self {
            SessionError::Framing(FrameError::TooBig { .. }) => DisconnectStatus::TooBig,
            SessionError::Framing(_) | SessionError::OutOfPlace(_) | SessionError::HelloIdentifiers => {
                DisconnectStatus::Invalid
            }
            SessionError::Fragment => DisconnectStatus::FragmentationUnsupported,
            SessionError::Hello(status) => status,
            SessionError::Silent => DisconnectStatus::Timeout,
            SessionError::Overload => DisconnectStatus::Resources,
        }
    }
}

/// An answer that was not appended, and the permission to try again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct UnsentAckError {
    /// The NOTIFY that still waits.
    pub ticket: AckTicket,
    /// Why.
    pub error: AckError,
}

impl Session {
    /// Returns a session that agrees to frames of at most `cap` bytes (at least 256).
    pub fn new(cap: u32) -> Session {
        Session { state: SessionState::AwaitingHello, cap: cap.max(FRAME_SIZE_MIN) }
    }

    /// Returns whether HELLO has been exchanged and nothing ended the conversation since.
    pub fn is_running(&self) -> bool {
        matches!(self.state, SessionState::Running(_))
    }

    /// Returns whether the conversation is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, SessionState::Closed)
    }

    /// Takes the first frame of `input`; appends to `out` what the protocol itself demands (HELLO, DISCONNECT), always
    /// whole frames.
    pub fn step<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> SessionStep<'i> {
        let max = match self.state {
            SessionState::AwaitingHello => HELLO_MAX.min(self.cap),
            SessionState::Running(agreed) => agreed.max_frame_size,
            SessionState::Closed => return SessionStep::Closed,
        };
        match split(input, max) {
            Ok(Split::Incomplete { needed }) => SessionStep::Incomplete { needed },
            Ok(Split::Whole { frame, consumed }) => {
                let event = self.frame(frame, out).unwrap_or_else(|fault| self.fault(fault, out));
                SessionStep::Frame { consumed, event }
            }
            Err(error) => {
                SessionStep::Frame { consumed: input.len(), event: self.fault(SessionError::Framing(error), out) }
            }
        }
    }

    /// Appends the answer to one NOTIFY, or nothing and the reason. After the conversation has ended there is nobody to
    /// answer, and nothing is appended.
    pub fn ack(
        &self,
        ticket: AckTicket,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut AckWriter<'_>),
    ) -> Result<(), UnsentAckError> {
        let SessionState::Running(agreed) = self.state else { return Ok(()) };
        write_ack(out, ticket.stream, ticket.frame, agreed.max_frame_size, fill)
            .map_err(|error| UnsentAckError { ticket, error })
    }

    /// Ends the conversation because we stop. Before HELLO there is none, and no frame but AGENT-HELLO may come first.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.is_running() {
            write_disconnect(out, FrameKind::AgentDisconnect, DisconnectStatus::Normal);
        }
        self.state = SessionState::Closed;
    }

    /// Ends the conversation because the peer let too much time pass.
    pub fn time_out(&mut self, out: &mut Vec<u8>) -> SessionError {
        if !self.is_closed() {
            self.fault(SessionError::Silent, out);
        }
        SessionError::Silent
    }

    /// Ends the conversation because there is no memory for its frame.
    pub fn overload(&mut self, out: &mut Vec<u8>) -> SessionError {
        if !self.is_closed() {
            self.fault(SessionError::Overload, out);
        }
        SessionError::Overload
    }

    fn frame<'i>(&mut self, frame: Frame<'i>, out: &mut Vec<u8>) -> Result<SessionEvent<'i>, SessionError> {
        let flags = frame.header.flags;
        match (frame.header.kind, self.state) {
            (FrameKind::HaproxyDisconnect, _) => {
                write_disconnect(out, FrameKind::AgentDisconnect, DisconnectStatus::Normal);
                self.state = SessionState::Closed;
                Ok(SessionEvent::Goodbye { status: Disconnect::parse(frame.payload).ok().and_then(|bye| bye.status) })
            }
            (FrameKind::HaproxyHello, SessionState::AwaitingHello) => self.hello(frame, out),
            // HAProxy aborts a frame it has begun to send; whatever it was, nobody waits for it any more.
            (FrameKind::Notify | FrameKind::Unset, SessionState::Running(_)) if flags.abort() => {
                Ok(SessionEvent::Skipped)
            }
            (FrameKind::Unset, SessionState::Running(_)) => Err(SessionError::Fragment),
            (FrameKind::Notify, SessionState::Running(_)) if !flags.fin() => Err(SessionError::Fragment),
            (FrameKind::Notify, SessionState::Running(_)) => {
                let ticket = AckTicket { stream: frame.header.stream, frame: frame.header.frame };
                Ok(SessionEvent::Notify { ticket, messages: Messages::new(frame.payload) })
            }
            (FrameKind::Other(_), _) => Ok(SessionEvent::Skipped),
            (kind, _) => Err(SessionError::OutOfPlace(kind)),
        }
    }

    fn hello<'i>(&mut self, frame: Frame<'i>, out: &mut Vec<u8>) -> Result<SessionEvent<'i>, SessionError> {
        if !frame.header.flags.fin() {
            return Err(SessionError::Fragment);
        }
        if frame.header.stream != 0 || frame.header.frame != 0 {
            return Err(SessionError::HelloIdentifiers);
        }
        let hello = HaproxyHello::parse(frame.payload).map_err(SessionError::Hello)?;
        let agreed = hello.agree(self.cap).map_err(SessionError::Hello)?;
        agreed.write(out);
        self.state = if hello.healthcheck { SessionState::Closed } else { SessionState::Running(agreed) };
        Ok(SessionEvent::Hello { agreed, offered: hello.max_frame_size, healthcheck: hello.healthcheck })
    }

    fn fault<'i>(&mut self, fault: SessionError, out: &mut Vec<u8>) -> SessionEvent<'i> {
        write_disconnect(out, FrameKind::AgentDisconnect, fault.status());
        self.state = SessionState::Closed;
        SessionEvent::Fault(fault)
    }
}
