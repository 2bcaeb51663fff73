//! What a request body says, read once and in one way only.
//!
//! The server acts on the body and herdgate decides on it, but JSON parsers differ: Go takes the last of two equal keys
//! and matches keys without regard to case, Python takes the last but minds case, HAProxy's `json_query` takes the
//! first. A client that finds a body which herdgate reads as one model and the server as another has got around the
//! plan. So the scheme is not to imitate a parser but to refuse whatever parsers disagree on:
//!
//! * The whole document is validated (RFC 8259): one object, followed by white space only. No byte order mark and no
//!   other encoding is accepted: the first byte that is not white space is `{`, and everything after it is checked byte
//!   by byte.
//! * A watched key occurs once, in its one spelling. Escapes are decoded before the comparison, so `"\u006dodel"` is
//!   `model`. A second occurrence, or a spelling that folds to the key, is refused. The same holds inside `options` and
//!   `stream_options`.
//! * A watched value has the one type that all servers accept.
//! * A defect that cannot change the decision passes, such as text deep in a message that a client cut in the middle of
//!   a character.
//!
//! An accepted body therefore has one reading for exact parsers (every one of them, since there are no duplicates) and
//! for folding ones (no other spelling exists). The reader is fed slices as they arrive and keeps a fixed state on the
//! stack, so neither the size nor the shape of a body costs memory, and it makes no difference where the slices are
//! cut.

mod fault;
mod number;
mod reader;
mod scan;
mod syntax;
mod text;
mod watch;

pub use fault::{BodyFault, FaultKind};
pub use number::NUMBER_MAX;
pub use reader::BodyReader;
pub use syntax::DEPTH_MAX;
pub use text::Text;

use super::name::NAME_MAX;

/// What a request body says, as far as a decision needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Length of the whole document in bytes.
    pub len: u64,
    /// The value of `model`, which is never `null`.
    pub model: Option<Watched<Text<NAME_MAX>>>,
    /// The value of `name` (Ollama's `/api/show` reads it if `model` is absent).
    pub name: Option<Watched<Text<NAME_MAX>>>,
    /// The value of `stream`.
    pub stream: Option<Watched<bool>>,
    /// The value of `keep_alive`.
    pub keep_alive: Option<Watched<KeepAlive>>,
    /// The value of `raw` (Ollama's `/api/generate`: the prompt goes to the model without its template).
    pub raw: Option<Watched<bool>>,
    /// Whether the caller brings a prompt template: `template` (Ollama) or `chat_template` (vLLM) is present and
    /// neither `null` nor `""`.
    pub has_template: bool,
    /// The value of `max_tokens`, in LLM tokens.
    pub max_tokens: Option<Watched<i64>>,
    /// The value of `max_completion_tokens`, in LLM tokens.
    pub max_completion_tokens: Option<Watched<i64>>,
    /// The value of `max_output_tokens` (`/v1/responses`), in LLM tokens.
    pub max_output_tokens: Option<Watched<i64>>,
    /// The value of `n_predict` (llama.cpp), in LLM tokens.
    pub n_predict: Option<Watched<i64>>,
    /// The value of `n`, the number of answers.
    pub n: Option<Watched<i64>>,
    /// The value of `n_cmpl`, the number of answers (llama.cpp, which prefers it to `n`).
    pub n_cmpl: Option<Watched<i64>>,
    /// The value of `best_of`, the number of answers from which the best are chosen.
    pub best_of: Option<Watched<i64>>,
    /// The place of `options`, from `{` to `}`: members can be added after its first byte.
    pub options: Option<Watched<()>>,
    /// The value of `options.num_ctx`, in LLM tokens.
    pub num_ctx: Option<Watched<i64>>,
    /// The value of `options.num_predict`, in LLM tokens.
    pub num_predict: Option<Watched<i64>>,
    /// The place of `stream_options`, as for `options`.
    pub stream_options: Option<Watched<()>>,
    /// The value of `stream_options.include_usage`.
    pub include_usage: Option<Watched<bool>>,
    /// Raw bytes (as written, without quotes) of all string values that make up the prompt, except images: those in
    /// `messages`, `prompt`, `input`, `system`, `suffix`, `tools`, `instructions` and `template`, however these keys
    /// are spelled.
    pub prompt_bytes: u64,
    /// Number of prompts in an array `prompt`, each of which is answered: its strings, arrays (of LLM tokens) and
    /// objects. 0 if `prompt` is not an array, or is one prompt written as LLM tokens.
    pub prompts: u32,
    /// Number of images in the prompt: strings in an array `images` at the top level or in a message; `image_url`, and
    /// a `source` that is an object, in a message or input; and texts anywhere that begin with `data:image/`.
    pub images: u32,
    /// Length of the longest text that is an image, in bytes as written, without quotes.
    pub largest_image: u64,
}

/// A watched value and its place in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<T> {
    /// The value; `None` if it is `null`.
    pub value: Option<T>,
    /// Offset of its first byte in the body, counted from 0.
    pub start: u64,
    /// Its length in bytes, including quotes; `u32::MAX` if it is longer than that.
    pub len: u32,
}

/// How long a model is to stay loaded (Ollama `api/types.go`, `Duration`): a number of seconds, or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// A JSON number in the range of a double, as written, in seconds.
    Number(Text<NUMBER_MAX>),
    /// A JSON string, decoded: a Go duration, not checked.
    Text(Text<NUMBER_MAX>),
}
