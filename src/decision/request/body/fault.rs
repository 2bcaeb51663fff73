//! The reasons for which a body cannot be acted on.

use std::fmt;

/// The reason for which a body cannot be acted on, and the place where it showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFault {
    /// Offset of the byte at which the fault showed, counted from 0.
    pub at: u64,
    /// The kind of fault.
    pub kind: FaultKind,
}

impl BodyFault {
    /// Returns whether two parsers could read the body in two ways (`ambiguous_body`) rather than not at all
    /// (`invalid_body`).
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.kind, FaultKind::DuplicateKey(_) | FaultKind::CaseVariant(_))
    }

    /// Returns the text for the client: a sentence of ours, an offset, and at most the name of a key of ours.
    pub fn public_message(&self) -> impl fmt::Display + use<> {
        PublicMessage(*self)
    }
}

/// The kind of a body's fault. The names are those of watched keys, never bytes from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The body is not JSON (RFC 8259), is not an object at the top level, or has more than white space after it.
    Syntax,
    /// The document does not end within the bytes that were pushed.
    Incomplete,
    /// The document is nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The value of the watched key is not UTF-8 or has a lone surrogate; servers replace, keep or refuse such text.
    NotUtf8(&'static str),
    /// A key is not UTF-8 or has a lone surrogate: one at the top level, or a member of a watched object.
    KeyNotUtf8,
    /// The watched key occurs twice.
    DuplicateKey(&'static str),
    /// A key is spelled differently from the watched one, and Go matches the two.
    CaseVariant(&'static str),
    /// A watched value has a type, or a number has a size, that servers reject.
    WrongType(&'static str),
}

impl FaultKind {
    /// Returns a short fixed name.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Syntax => "body_syntax",
            FaultKind::Incomplete => "body_incomplete",
            FaultKind::TooDeep => "body_too_deep",
            FaultKind::NotUtf8(_) | FaultKind::KeyNotUtf8 => "body_not_utf8",
            FaultKind::DuplicateKey(_) => "body_duplicate_key",
            FaultKind::CaseVariant(_) => "body_case_variant",
            FaultKind::WrongType(_) => "body_wrong_type",
        }
    }
}

struct PublicMessage(BodyFault);

impl fmt::Display for PublicMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BodyFault { at, kind } = self.0;
        match kind {
            FaultKind::Syntax => write!(f, "the request body is not a valid JSON object (at byte {at})"),
            FaultKind::Incomplete => write!(f, "the request body ends before its JSON does (after {at} bytes)"),
            FaultKind::TooDeep => {
                write!(f, "the request body is nested deeper than {} levels (at byte {at})", super::DEPTH_MAX)
            }
            FaultKind::NotUtf8(key) => write!(f, "the value of `{key}` is not valid UTF-8 text (at byte {at})"),
            FaultKind::KeyNotUtf8 => write!(f, "a key of the request body is not valid UTF-8 text (at byte {at})"),
            FaultKind::DuplicateKey(key) => write!(f, "the key `{key}` occurs twice (at byte {at})"),
            FaultKind::CaseVariant(key) => write!(f, "a key differs from `{key}` only in case (at byte {at})"),
            FaultKind::WrongType(key) => write!(f, "the value of `{key}` is of the wrong type or range (at byte {at})"),
        }
    }
}
