//! The watched keys, and the spellings of other keys that some server takes for one of them.
//!
//! Go's `encoding/json` falls back to matching names under Unicode simple folding, so `MODEL`, or `model` with U+017F
//! for an `s` or U+212A for a `k`, raw or escaped, reach the same field. Other servers compare exactly. A spelling that
//! folds to a watched name without being that name can therefore be read in two ways, whichever value it carries.

use super::scan::is_content;

/// The place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyPlace {
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
pub(super) enum BodyKey {
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
pub(super) enum MemberKind {
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

impl BodyKey {
    /// Returns the name as it must be spelled.
    pub(super) fn name(self) -> &'static str {
        match self {
            BodyKey::Model => "model",
            BodyKey::Name => "name",
            BodyKey::Stream => "stream",
            BodyKey::StreamOptions => "stream_options",
            BodyKey::KeepAlive => "keep_alive",
            BodyKey::Options => "options",
            BodyKey::MaxTokens => "max_tokens",
            BodyKey::MaxCompletionTokens => "max_completion_tokens",
            BodyKey::MaxOutputTokens => "max_output_tokens",
            BodyKey::NPredict => "n_predict",
            BodyKey::N => "n",
            BodyKey::NCmpl => "n_cmpl",
            BodyKey::BestOf => "best_of",
            BodyKey::Raw => "raw",
            BodyKey::Template => "template",
            BodyKey::ChatTemplate => "chat_template",
            BodyKey::NumCtx => "num_ctx",
            BodyKey::NumPredict => "num_predict",
            BodyKey::IncludeUsage => "include_usage",
            BodyKey::Messages => "messages",
            BodyKey::Prompt => "prompt",
            BodyKey::Input => "input",
            BodyKey::Text => "system",
            BodyKey::Images => "images",
            BodyKey::ImageUrl => "image_url",
            BodyKey::Source => "source",
        }
    }

    pub(super) fn kind(self) -> MemberKind {
        match self {
            BodyKey::Model => MemberKind::Name,
            BodyKey::Name => MemberKind::OptionalName,
            BodyKey::Stream | BodyKey::Raw | BodyKey::IncludeUsage => MemberKind::Flag,
            BodyKey::StreamOptions | BodyKey::Options => MemberKind::Object,
            BodyKey::KeepAlive => MemberKind::Duration,
            BodyKey::MaxTokens | BodyKey::MaxCompletionTokens | BodyKey::MaxOutputTokens => MemberKind::Number,
            BodyKey::NPredict
            | BodyKey::N
            | BodyKey::NCmpl
            | BodyKey::BestOf
            | BodyKey::NumCtx
            | BodyKey::NumPredict => MemberKind::Number,
            BodyKey::Template
            | BodyKey::ChatTemplate
            | BodyKey::Messages
            | BodyKey::Prompt
            | BodyKey::Input
            | BodyKey::Text => MemberKind::Any,
            BodyKey::Images | BodyKey::ImageUrl | BodyKey::Source => MemberKind::Any,
        }
    }

    /// Returns whether the key may occur only once and only in its one spelling. Other keys are merely counted, and a
    /// second occurrence counts too.
    pub(super) fn is_watched(self) -> bool {
        !matches!(
            self,
            BodyKey::Messages
                | BodyKey::Prompt
                | BodyKey::Input
                | BodyKey::Text
                | BodyKey::Images
                | BodyKey::ImageUrl
                | BodyKey::Source
        )
    }

    /// Returns whether strings below the key are part of the prompt.
    pub(super) fn is_prompt(self) -> bool {
        matches!(
            self,
            BodyKey::Messages
                | BodyKey::Prompt
                | BodyKey::Input
                | BodyKey::Text
                | BodyKey::Template
                | BodyKey::ChatTemplate
        )
    }

    /// Returns whether images may stand below the key among other things.
    pub(super) fn has_parts(self) -> bool {
        matches!(self, BodyKey::Messages | BodyKey::Prompt | BodyKey::Input)
    }

    /// Returns whether the caller brings a prompt template by this key.
    pub(super) fn is_template(self) -> bool {
        matches!(self, BodyKey::Template | BodyKey::ChatTemplate)
    }

    /// Returns the key of this exact name.
    pub(super) fn find(place: BodyPlace, folded: &[u8]) -> Option<BodyKey> {
        let key = match (place, folded) {
            (BodyPlace::Top, b"model") => BodyKey::Model,
            (BodyPlace::Top, b"name") => BodyKey::Name,
            (BodyPlace::Top, b"stream") => BodyKey::Stream,
            (BodyPlace::Top, b"stream_options") => BodyKey::StreamOptions,
            (BodyPlace::Top, b"keep_alive") => BodyKey::KeepAlive,
            (BodyPlace::Top, b"options") => BodyKey::Options,
            (BodyPlace::Top, b"max_tokens") => BodyKey::MaxTokens,
            (BodyPlace::Top, b"max_completion_tokens") => BodyKey::MaxCompletionTokens,
            (BodyPlace::Top, b"max_output_tokens") => BodyKey::MaxOutputTokens,
            (BodyPlace::Top, b"n_predict") => BodyKey::NPredict,
            (BodyPlace::Top, b"n") => BodyKey::N,
            (BodyPlace::Top, b"n_cmpl") => BodyKey::NCmpl,
            (BodyPlace::Top, b"best_of") => BodyKey::BestOf,
            (BodyPlace::Top, b"raw") => BodyKey::Raw,
            (BodyPlace::Top, b"template") => BodyKey::Template,
            (BodyPlace::Top, b"chat_template") => BodyKey::ChatTemplate,
            (BodyPlace::Top, b"messages") => BodyKey::Messages,
            (BodyPlace::Top, b"prompt" | b"prompt_embeds") => BodyKey::Prompt,
            (BodyPlace::Top, b"input") => BodyKey::Input,
            (BodyPlace::Top, b"system" | b"suffix" | b"tools" | b"instructions") => BodyKey::Text,
            (BodyPlace::Top | BodyPlace::Message, b"images") => BodyKey::Images,
            (BodyPlace::Part, b"multimodal_data") => BodyKey::Images,
            (BodyPlace::Message | BodyPlace::Part, b"image_url" | b"image_embeds") => BodyKey::ImageUrl,
            (BodyPlace::Message | BodyPlace::Part, b"source") => BodyKey::Source,
            (BodyPlace::Options, b"num_ctx") => BodyKey::NumCtx,
            (BodyPlace::Options, b"num_predict") => BodyKey::NumPredict,
            (BodyPlace::StreamOptions, b"include_usage") => BodyKey::IncludeUsage,
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
    pub(super) fn key(&self, place: BodyPlace) -> Option<(BodyKey, bool)> {
        if self.foreign {
            return None;
        }
        BodyKey::find(place, self.folded.get(..usize::from(self.len))?).map(|key| (key, self.exact))
    }
}

/// The set of keys that have occurred.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SeenKeys(u32);

impl SeenKeys {
    /// Adds the key. Returns false if it has occurred before.
    pub(super) fn note(&mut self, key: BodyKey) -> bool {
        let bit = 1u32 << key as u32;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }
}
