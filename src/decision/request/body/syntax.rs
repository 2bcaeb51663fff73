//! The grammar of JSON outside strings and numbers (RFC 8259 sections 2 to 5): what may come next, and in what it is
//! nested.

/// Deepest nesting that is accepted; the object at the top is depth 1. Tool schemas nest deep, but Python gives up near
/// 1,000.
pub const DEPTH_MAX: u8 = 128;

/// What may come next between tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// The object that is the document.
    Document,
    /// A key, or `}` right after `{`.
    FirstKey,
    /// A key, after a comma.
    Key,
    /// `:`
    Colon,
    /// A value, after a colon or comma.
    Value,
    /// A value, or `]` right after `[`.
    FirstElement,
    /// `,` or the end of the object or array.
    Next,
    /// Nothing but white space.
    Nothing,
}

/// One step of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Space,
    /// `{` or `[`: the start of a value that contains others.
    Open {
        object: bool,
    },
    /// `}` or `]`
    Close,
    Colon,
    Comma,
    /// The quote that begins a key.
    Key,
    /// The quote that begins a value.
    Text,
    /// The first byte of a number or word.
    Scalar,
    /// A byte that cannot stand here.
    Wrong,
}

impl Expect {
    /// Returns what `byte` is if this is expected inside an object (or else an array).
    pub(super) fn token(self, byte: u8, in_object: bool) -> Token {
        use Expect::*;
        match (self, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => Token::Space,
            (Document | Value | FirstElement, b'{') => Token::Open { object: true },
            (Value | FirstElement, b'[') => Token::Open { object: false },
            (Value | FirstElement, b'"') => Token::Text,
            (Value | FirstElement, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Token::Scalar,
            (FirstElement, b']') => Token::Close,
            (FirstKey | Key, b'"') => Token::Key,
            (FirstKey, b'}') => Token::Close,
            (Expect::Colon, b':') => Token::Colon,
            (Next, b',') => Token::Comma,
            (Next, b'}') if in_object => Token::Close,
            (Next, b']') if !in_object => Token::Close,
            _ => Token::Wrong,
        }
    }
}

/// The objects and arrays that are open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nest {
    /// One bit a level, the innermost level in the lowest bit: set for an object.
    objects: u128,
    depth: u8,
}

impl Nest {
    /// Returns the number of open levels.
    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    /// Returns whether the innermost level is an object.
    pub(super) fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Opens a level. Returns false if that would exceed [`DEPTH_MAX`].
    pub(super) fn open(&mut self, object: bool) -> bool {
        if self.depth == DEPTH_MAX {
            return false;
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        true
    }

    /// Closes the innermost level.
    pub(super) fn close(&mut self) {
        self.objects >>= 1;
        self.depth = self.depth.saturating_sub(1);
    }
}

/// A `true`, `false` or `null` that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    rest: &'static [u8],
    /// The meaning of the word: a flag, or `None` for `null`.
    pub(super) value: Option<bool>,
}

impl Literal {
    /// Returns the word that begins with this byte.
    pub(super) fn begin(byte: u8) -> Option<Literal> {
        match byte {
            b't' => Some(Literal { rest: b"rue", value: Some(true) }),
            b'f' => Some(Literal { rest: b"alse", value: Some(false) }),
            b'n' => Some(Literal { rest: b"ull", value: None }),
            _ => None,
        }
    }

    /// Consumes the next byte. Returns false if the word has another byte there.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&next, rest)) if next == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Returns whether the whole word has been read.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}
