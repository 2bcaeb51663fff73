//! The watched keys, and the spellings of other keys that some server takes for one of them.
//!
//! Go's `encoding/json` falls back to matching names under Unicode simple folding, so `MODEL`, or `model` with U+017F
//! for an `s` or U+212A for a `k`, raw or escaped, reach the same field. Other servers compare exactly. A spelling that
//! folds to a watched name without being that name can therefore be read in two ways, whichever value it carries.

use super::scan::is_content;

/// The place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At the top level, depth 1.
    Top,
    /// In `options`.
    Options,
    /// In `stream_options`.
    StreamOptions,
    /// In an element of `messages`.
    Message,
    /// Deeper in `messages`, or anywhere below `prompt` and `input`.
    Part,
}

/// A key that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Model,
    Name,
    Stream,
    StreamOptions,
    KeepAlive,
    Options,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    NPredict,
    N,
    NCmpl,
    BestOf,
    Raw,
    Template,
    ChatTemplate,
    NumCtx,
    NumPredict,
    IncludeUsage,
    /// The conversation: its strings are part of the prompt, and `images` may stand in its elements.
    Messages,
    /// A prompt, or an array of prompts each of which is answered.
    Prompt,
    /// The text to answer or to embed, where it is not in `prompt`.
    Input,
    /// Another part of the prompt.
    Text,
    /// An array of images.
    Images,
    /// An image of a message: a string, or an object that contains it.
    ImageUrl,
    /// An image of a message, if it is an object (Anthropic).
    Source,
}

/// The values that a key may have, besides `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string; `null` is refused.
    Name,
    /// A string or `null`.
    OptionalName,
    /// `true`, `false` or `null`.
    Flag,
    /// A number or `null`.
    Number,
    /// A number, a string or `null`.
    Duration,
    /// An object or `null`.
    Object,
    /// Any value: it is counted, not read.
    Any,
}

impl Key {
    /// Returns the name as it must be spelled.
    pub(super) fn name(self) -> &'static str {
        match self {
            Key::Model => "model",
            Key::Name => "name",
            Key::Stream => "stream",
            Key::StreamOptions => "stream_options",
            Key::KeepAlive => "keep_alive",
            Key::Options => "options",
            Key::MaxTokens => "max_tokens",
            Key::MaxCompletionTokens => "max_completion_tokens",
            Key::MaxOutputTokens => "max_output_tokens",
            Key::NPredict => "n_predict",
            Key::N => "n",
            Key::NCmpl => "n_cmpl",
            Key::BestOf => "best_of",
            Key::Raw => "raw",
            Key::Template => "template",
            Key::ChatTemplate => "chat_template",
            Key::NumCtx => "num_ctx",
            Key::NumPredict => "num_predict",
            Key::IncludeUsage => "include_usage",
            Key::Messages => "messages",
            Key::Prompt => "prompt",
            Key::Input => "input",
            Key::Text => "system",
            Key::Images => "images",
            Key::ImageUrl => "image_url",
            Key::Source => "source",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Key::Model => Kind::Name,
            Key::Name => Kind::OptionalName,
            Key::Stream | Key::Raw | Key::IncludeUsage => Kind::Flag,
            Key::StreamOptions | Key::Options => Kind::Object,
            Key::KeepAlive => Kind::Duration,
            Key::MaxTokens | Key::MaxCompletionTokens | Key::MaxOutputTokens => Kind::Number,
            Key::NPredict | Key::N | Key::NCmpl | Key::BestOf | Key::NumCtx | Key::NumPredict => Kind::Number,
            Key::Template | Key::ChatTemplate | Key::Messages | Key::Prompt | Key::Input | Key::Text => Kind::Any,
            Key::Images | Key::ImageUrl | Key::Source => Kind::Any,
        }
    }

    /// Returns whether the key may occur only once and only in its one spelling. Other keys are merely counted, and a
    /// second occurrence counts too.
    pub(super) fn is_watched(self) -> bool {
        !matches!(
            self,
            Key::Messages | Key::Prompt | Key::Input | Key::Text | Key::Images | Key::ImageUrl | Key::Source
        )
    }

    /// Returns whether strings below the key are part of the prompt.
    pub(super) fn is_prompt(self) -> bool {
        matches!(self, Key::Messages | Key::Prompt | Key::Input | Key::Text | Key::Template | Key::ChatTemplate)
    }

    /// Returns whether images may stand below the key among other things.
    pub(super) fn has_parts(self) -> bool {
        matches!(self, Key::Messages | Key::Prompt | Key::Input)
    }

    /// Returns whether the caller brings a prompt template by this key.
    pub(super) fn is_template(self) -> bool {
        matches!(self, Key::Template | Key::ChatTemplate)
    }

    /// Returns the key of this exact name.
    pub(super) fn find(place: Place, folded: &[u8]) -> Option<Key> {
        let key = match (place, folded) {
            (Place::Top, b"model") => Key::Model,
            (Place::Top, b"name") => Key::Name,
            (Place::Top, b"stream") => Key::Stream,
            (Place::Top, b"stream_options") => Key::StreamOptions,
            (Place::Top, b"keep_alive") => Key::KeepAlive,
            (Place::Top, b"options") => Key::Options,
            (Place::Top, b"max_tokens") => Key::MaxTokens,
            (Place::Top, b"max_completion_tokens") => Key::MaxCompletionTokens,
            (Place::Top, b"max_output_tokens") => Key::MaxOutputTokens,
            (Place::Top, b"n_predict") => Key::NPredict,
            (Place::Top, b"n") => Key::N,
            (Place::Top, b"n_cmpl") => Key::NCmpl,
            (Place::Top, b"best_of") => Key::BestOf,
            (Place::Top, b"raw") => Key::Raw,
            (Place::Top, b"template") => Key::Template,
            (Place::Top, b"chat_template") => Key::ChatTemplate,
            (Place::Top, b"messages") => Key::Messages,
            (Place::Top, b"prompt" | b"prompt_embeds") => Key::Prompt,
            (Place::Top, b"input") => Key::Input,
            (Place::Top, b"system" | b"suffix" | b"tools" | b"instructions") => Key::Text,
            (Place::Top | Place::Message, b"images") => Key::Images,
            (Place::Part, b"multimodal_data") => Key::Images,
            (Place::Message | Place::Part, b"image_url" | b"image_embeds") => Key::ImageUrl,
            (Place::Message | Place::Part, b"source") => Key::Source,
            (Place::Options, b"num_ctx") => Key::NumCtx,
            (Place::Options, b"num_predict") => Key::NumPredict,
            (Place::StreamOptions, b"include_usage") => Key::IncludeUsage,
            _ => return None,
        };
        Some(key)
    }
}

/// Returns the key with which `bytes` begin, up to its closing quote, if the quote is in `bytes` and every character
/// before it is one that folds to itself, as in most keys.
pub(super) fn plain_word(bytes: &[u8]) -> Option<&[u8]> {
    let plain = |byte: &&u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    let (word, rest) = bytes.split_at_checked(bytes.iter().take_while(plain).count())?;
    rest.starts_with(b"\"").then_some(word)
}

/// Room for the longest watched key, `max_completion_tokens`, in bytes.
const LONGEST: usize = 21;

/// The folded spelling of a key that is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    folded: [u8; LONGEST],
    len: u8,
    /// Whether nothing had to be folded.
    exact: bool,
    /// Whether the key is too long, or has a character that no watched key has.
    foreign: bool,
}

impl Spelling {
    pub(super) fn new() -> Spelling {
        Spelling { folded: [0; LONGEST], len: 0, exact: true, foreign: false }
    }

    /// Adds the ASCII content at the start of `bytes`. Returns the length of that content in bytes.
    pub(super) fn push_plain(&mut self, bytes: &[u8]) -> usize {
        let mut plain = 0;
        for &byte in bytes {
            if !byte.is_ascii() || !is_content(byte) {
                break;
            }
            plain += 1;
            self.exact &= !byte.is_ascii_uppercase();
            match self.folded.get_mut(usize::from(self.len)) {
                Some(slot) => {
                    *slot = byte.to_ascii_lowercase();
                    self.len += 1;
                }
                None => self.foreign = true,
            }
        }
        plain
    }

    pub(super) fn push(&mut self, char: char) {
        // The only characters beyond ASCII that fold to ASCII letters (Unicode CaseFolding.txt, status C).
        let folded = match char {
            '\u{17F}' => 's',
            '\u{212A}' => 'k',
            _ => char.to_ascii_lowercase(),
        };
        self.exact &= folded == char;
        match (self.folded.get_mut(usize::from(self.len)), u8::try_from(folded)) {
            (Some(slot), Ok(byte)) if byte.is_ascii() => {
                *slot = byte;
                self.len += 1;
            }
            _ => self.foreign = true,
        }
    }

    /// Returns the key that this is or folds to, and whether it is spelled exactly so.
    pub(super) fn key(&self, place: Place) -> Option<(Key, bool)> {
        if self.foreign {
            return None;
        }
        Key::find(place, self.folded.get(..usize::from(self.len))?).map(|key| (key, self.exact))
    }
}

/// The set of keys that have occurred.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen(u32);

impl Seen {
    /// Adds the key. Returns false if it has occurred before.
    pub(super) fn note(&mut self, key: Key) -> bool {
        let bit = 1u32 << key as u32;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }
}
