//! Placeholder shape; the reader itself is written on its own branch.

use super::name::NAME_MAX;

/// What a request body says, as far as a decision cares.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// Bytes read, the whole document.
    pub len: u64,
    /// `model`
    pub model: Option<Watched<Text<NAME_MAX>>>,
    /// `name` (read by Ollama's `/api/show` where `model` is absent)
    pub name: Option<Watched<Text<NAME_MAX>>>,
    /// `stream`
    pub stream: Option<Watched<bool>>,
    /// `keep_alive`
    pub keep_alive: Option<Watched<KeepAlive>>,
    /// `max_tokens`
    pub max_tokens: Option<Watched<i64>>,
    /// `max_completion_tokens`
    pub max_completion_tokens: Option<Watched<i64>>,
    /// `max_output_tokens` (`/v1/responses`)
    pub max_output_tokens: Option<Watched<i64>>,
    /// `n_predict` (llama.cpp)
    pub n_predict: Option<Watched<i64>>,
    /// `n`
    pub n: Option<Watched<i64>>,
    /// `best_of`
    pub best_of: Option<Watched<i64>>,
    /// `options.num_ctx`
    pub num_ctx: Option<Watched<i64>>,
    /// `options.num_predict`
    pub num_predict: Option<Watched<i64>>,
    /// `stream_options.include_usage`
    pub include_usage: Option<Watched<bool>>,
    /// Raw bytes of all string values that make up the prompt, images left out.
    pub prompt_bytes: u64,
    /// Images in the prompt.
    pub images: u32,
}

/// A watched value and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<T> {
    /// The value; `None` where it stands as `null`.
    pub value: Option<T>,
    /// Offset of its first byte in the body.
    pub start: u64,
    /// Its length in bytes, quotes included.
    pub len: u32,
}

/// A decoded string of at most `N` bytes, on the stack.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u16,
    /// The string was longer than `N` bytes; `as_str` is its beginning.
    pub cut: bool,
}

impl<const N: usize> Text<N> {
    /// The text (valid UTF-8 by construction).
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// How long a model is asked to stay loaded (Ollama `api/types.go`, `Duration`): a number of seconds, or a string.
#[derive(Debug, Clone, Copy)]
pub enum KeepAlive {
    /// A JSON number, as written.
    Number(Text<32>),
    /// A JSON string: a Go duration, as written.
    Text(Text<32>),
}

/// Why a body cannot be acted on, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFault {
    /// Offset of the byte at which it showed.
    pub at: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

impl BodyFault {
    /// What the client is told.
    pub fn public_message(&self) -> String {
        self.kind.as_str().into()
    }

    /// Whether two parsers could read the body in two ways (`ambiguous_body`) rather than not at all (`invalid_body`).
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.kind, FaultKind::DuplicateKey(_) | FaultKind::CaseVariant(_))
    }
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Not JSON (RFC 8259), or not an object at the top.
    Syntax,
    /// The document does not end within the bytes shown.
    Incomplete,
    /// Nested deeper than 128.
    TooDeep,
    /// Not UTF-8, or a lone surrogate, where it matters: a key at depth 1 or a watched value.
    NotUtf8(&'static str),
    /// A watched key twice.
    DuplicateKey(&'static str),
    /// A key that Go matches with a watched one though it is spelled otherwise.
    CaseVariant(&'static str),
    /// A watched value of a type, or a number out of the range, that servers reject.
    WrongType(&'static str),
}

impl FaultKind {
    /// A short fixed name.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Syntax => "body_syntax",
            FaultKind::Incomplete => "body_incomplete",
            FaultKind::TooDeep => "body_too_deep",
            FaultKind::NotUtf8(_) => "body_not_utf8",
            FaultKind::DuplicateKey(_) => "body_duplicate_key",
            FaultKind::CaseVariant(_) => "body_case_variant",
            FaultKind::WrongType(_) => "body_wrong_type",
        }
    }
}

/// A push reader: fed slices in order, then asked for the result.
#[derive(Debug, Default)]
pub struct BodyReader {}

impl BodyReader {
    /// A reader at the start of a body.
    pub fn new() -> BodyReader {
        BodyReader::default()
    }

    /// Takes the next bytes. After a fault the rest is passed over.
    pub fn push(&mut self, _bytes: &[u8]) {}

    /// The result, once the whole body was pushed.
    pub fn finish(self) -> Result<Body, BodyFault> {
        Err(BodyFault { at: 0, kind: FaultKind::Syntax })
    }
}
