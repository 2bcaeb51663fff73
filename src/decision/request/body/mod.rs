//! What a request body says, read once and in one way only.
//!
//! A server acts on the body, herdgate decides on it, and every JSON parser has habits of its own: Go takes the last of
//! two equal keys and matches them without regard to case, Python takes the last but minds case, HAProxy's `json_query`
//! takes the first. Whoever finds a body that herdgate reads as one model and the server as another is past the plan.
//! So the scheme is not to imitate a parser but to refuse what parsers disagree on:
//!
//! * The whole document is validated (RFC 8259), an object, followed by white space only. No byte order mark, no other
//!   encoding: the first byte that is not white space is `{`, and what follows it is checked byte by byte.
//! * A watched key stands once, in its one spelling. Escapes are decoded before comparing, so `"\u006dodel"` is `model`;
//!   a second one, or a spelling that folds to it, is refused, and so is the same of `options` and `stream_options`.
//! * A watched value has the one type that all servers accept.
//! * What cannot change the decision (text cut through a character by a client, deep in a message) passes.
//!
//! What is accepted therefore has one reading for exact parsers (all of them: no duplicates) and for folding ones (no
//! other spelling exists). The reader is fed slices as they arrive and keeps a fixed state on the stack, so neither the
//! size nor the shape of a body costs memory, and where the slices are cut makes no difference.

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

/// What a request body says, as far as a decision cares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Bytes read, the whole document.
    pub len: u64,
    /// `model`; never `null`
    pub model: Option<Watched<Text<NAME_MAX>>>,
    /// `name` (read by Ollama's `/api/show` where `model` is absent)
    pub name: Option<Watched<Text<NAME_MAX>>>,
    /// `stream`
    pub stream: Option<Watched<bool>>,
    /// `keep_alive`
    pub keep_alive: Option<Watched<KeepAlive>>,
    /// `raw` (Ollama's `/api/generate`: the prompt goes to the model without its template)
    pub raw: Option<Watched<bool>>,
    /// `template` (Ollama) or `chat_template` (vLLM) stands, and not as `null` or `""`: the caller brings a prompt template.
    pub has_template: bool,
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
    /// `n_cmpl` (llama.cpp, which prefers it to `n`)
    pub n_cmpl: Option<Watched<i64>>,
    /// `best_of`
    pub best_of: Option<Watched<i64>>,
    /// `options`, from `{` to `}`: members can be added after its first byte.
    pub options: Option<Watched<()>>,
    /// `options.num_ctx`
    pub num_ctx: Option<Watched<i64>>,
    /// `options.num_predict`
    pub num_predict: Option<Watched<i64>>,
    /// `stream_options`, as for `options`.
    pub stream_options: Option<Watched<()>>,
    /// `stream_options.include_usage`
    pub include_usage: Option<Watched<bool>>,
    /// Raw bytes (as written, quotes left out) of all string values that make up the prompt, images left out: those in
    /// `messages`, `prompt`, `input`, `system`, `suffix`, `tools`, `instructions` and `template`, however spelled.
    pub prompt_bytes: u64,
    /// Prompts in an array `prompt`, each of which is answered: its strings, arrays (of tokens) and objects. 0 where `prompt`
    /// is no array, or is one prompt in tokens.
    pub prompts: u32,
    /// Images in the prompt: strings in an array `images` at the top or in a message; `image_url`, and `source` that is an
    /// object, in a message or input; and `data:image/` texts anywhere.
    pub images: u32,
    /// Length of the longest text that is an image, in bytes as written, quotes left out.
    pub largest_image: u64,
}

/// A watched value and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<T> {
    /// The value; `None` where it stands as `null`.
    pub value: Option<T>,
    /// Offset of its first byte in the body.
    pub start: u64,
    /// Its length in bytes, quotes included; `u32::MAX` where it is longer than that.
    pub len: u32,
}

/// How long a model is asked to stay loaded (Ollama `api/types.go`, `Duration`): a number of seconds, or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// A JSON number in the range of a double, as written.
    Number(Text<NUMBER_MAX>),
    /// A JSON string, decoded: a Go duration, not checked.
    Text(Text<NUMBER_MAX>),
}
