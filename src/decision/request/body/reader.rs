//! The reader: consumes slices, follows the grammar, and records the watched values.

use super::number::{self, NUMBER_MAX, NumberState};
use super::scan;
use super::syntax::{Expect, Literal, Nest, Token};
use super::text::{Decoder, Escape, Text};
use super::watch::{self, BodyKey, BodyPlace, MemberKind, SeenKeys, Spelling};
use super::{Body, BodyFault, FaultKind, KeepAlive, Watched};
use crate::decision::request::name::NAME_MAX;

/// A push reader: it is fed slices in order and then asked for the result.
#[derive(Debug)]
pub struct BodyReader {
    state: ReaderState,
    nest: Nest,
    /// Number of bytes in the slices before the present one.
    before: u64,
    fault: Option<BodyFault>,
    /// Offset of the first byte of the key or value that is being read.
    start: u64,
    /// The key whose value comes next or is being read, if the key matters.
    key: Option<BodyKey>,
    /// `options` or `stream_options` while its value is being read, with the value's offset.
    inside: Option<(BodyKey, u64)>,
    /// Whether the value of `messages` is being read.
    in_messages: bool,
    /// Whether a part of the prompt is being read.
    in_prompt: bool,
    /// Whether the value of a key below which images may stand is being read.
    in_parts: bool,
    /// Whether an array `prompt` is being read.
    in_prompts: bool,
    /// Depth of the array of images that is being read; 0 if none is.
    images_depth: u8,
    /// Depth of the object that is being read as an image; 0 if none is.
    image_depth: u8,
    seen: SeenKeys,
    escape: Escape,
    decoder: Decoder,
    spelling: Spelling,
    /// Number of bytes of [`DATA_IMAGE`] with which the string began.
    prefix: usize,
    text: Text<NAME_MAX>,
    number: Text<NUMBER_MAX>,
    body: Body,
}

/// The beginning of a string that is an image (RFC 2397).
const DATA_IMAGE: &[u8] = b"data:image/";

#[derive(Debug, Clone, Copy)]
enum ReaderState {
    Between(Expect),
    Text(Role),
    Number(NumberState),
    Word(Literal),
}

/// The purpose for which a string is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A key that may be a watched one.
    Key(BodyPlace),
    /// A key that cannot be a watched one.
    PlainKey,
    /// A watched value.
    Captured(BodyKey),
    /// A value whose first characters tell whether it is an image.
    Probed,
    /// Any other value.
    Plain,
    /// A value that is an image.
    Image,
    /// A value within an object that is an image.
    ImagePart,
}

impl Role {
    /// Returns whether the characters are decoded, rather than just passed over.
    fn is_decoded(self) -> bool {
        matches!(self, Role::Key(_) | Role::Captured(_) | Role::Probed)
    }
}

impl Default for BodyReader {
    fn default() -> BodyReader {
        BodyReader {
            state: ReaderState::Between(Expect::Document),
            nest: Nest::default(),
            before: 0,
            fault: None,
            start: 0,
            key: None,
            inside: None,
            in_messages: false,
            in_prompt: false,
            in_parts: false,
            in_prompts: false,
            images_depth: 0,
            image_depth: 0,
            seen: SeenKeys::default(),
            escape: Escape::No,
            decoder: Decoder::default(),
            spelling: Spelling::new(),
            prefix: 0,
            text: Text::default(),
            number: Text::default(),
            body: Body::default(),
        }
    }
}

impl BodyReader {
    /// Returns a reader at the start of a body.
    pub fn new() -> BodyReader {
        BodyReader::default()
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// The same as for [`finish`](BodyReader::finish).
    pub fn read(bytes: &[u8]) -> Result<Body, BodyFault> {
        let mut reader = BodyReader::new();
        reader.push(bytes);
        reader.finish()
    }

    /// Reads the next bytes. After a fault the rest is ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.run(bytes).err();
        }
        self.before += bytes.len() as u64;
    }

    /// Returns the fault, as soon as it has shown. Nothing that comes later can mend it.
    pub fn fault(&self) -> Option<BodyFault> {
        self.fault
    }

    /// Returns whether the document has ended: only white space may follow, and `finish` would return a result.
    pub fn is_complete(&self) -> bool {
        self.fault.is_none() && matches!(self.state, ReaderState::Between(Expect::Nothing))
    }

    /// Returns the result, once the whole body has been pushed.
    ///
    /// # Errors
    /// The first fault; [`FaultKind::Incomplete`] if there is none and the document has not ended.
    pub fn finish(mut self) -> Result<Body, BodyFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.is_complete() {
            return Err(BodyFault { at: self.before, kind: FaultKind::Incomplete });
        }
        self.body.len = self.before;
        Ok(self.body)
    }

    fn run(&mut self, bytes: &[u8]) -> Result<(), BodyFault> {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                ReaderState::Between(expect) => self.between(expect, bytes, at)?,
                ReaderState::Text(role) if role.is_decoded() => self.decode(role, bytes, at)?,
                ReaderState::Text(role) => self.pass(role, bytes, at)?,
                ReaderState::Number(number) => self.count(number, bytes, at)?,
                ReaderState::Word(word) => self.word(word, bytes, at)?,
            };
        }
        Ok(())
    }

    /// Returns a fault at a place in the present slice.
    fn fault_at(&self, at: usize, kind: FaultKind) -> BodyFault {
        BodyFault { at: self.before + at as u64, kind }
    }

    /// Reads up to the byte that begins a string, number or word, through white space and punctuation.
    fn between(&mut self, mut expect: Expect, bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
        while let Some(&byte) = bytes.get(at) {
            let here = self.before + at as u64;
            let token = expect.token(byte, self.nest.in_object());
            match token {
                Token::Space => {}
                Token::Colon => expect = Expect::Value,
                Token::Comma => expect = if self.nest.in_object() { Expect::Key } else { Expect::Value },
                Token::Open { object } => {
                    self.open(object, here)?;
                    expect = if object { Expect::FirstKey } else { Expect::FirstElement };
                }
                Token::Close => expect = self.close(here),
                // What a token begins is read right here, since it mostly ends in this slice too.
                Token::Key | Token::Text | Token::Scalar => {
                    at = self.begin(byte, token, bytes, at)?;
                    match self.state {
                        ReaderState::Between(next) => expect = next,
                        _ => return Ok(at),
                    }
                    continue;
                }
                Token::Wrong => return Err(self.fault_at(at, FaultKind::Syntax)),
            }
            at += 1;
        }
        self.state = ReaderState::Between(expect);
        Ok(at)
    }

    /// Reads a key, string, number or word from its first byte on, as far as the slice goes.
    fn begin(&mut self, byte: u8, token: Token, bytes: &[u8], at: usize) -> Result<usize, BodyFault> {
        let here = self.before + at as u64;
        let role = match token {
            Token::Key => {
                self.start = here;
                let place = self.place();
                if let Some(word) = watch::plain_word(bytes.get(at + 1..).unwrap_or_default()) {
                    self.end_key(place, place.and_then(|place| BodyKey::find(place, word)).map(|key| (key, true)))?;
                    return Ok(at + word.len() + 2);
                }
                self.spelling = Spelling::new();
                place.map_or(Role::PlainKey, Role::Key)
            }
            Token::Text => self.begin_text(here)?,
            _ => {
                self.begin_scalar(byte, here)?;
                return match self.state {
                    ReaderState::Number(number) => self.count(number, bytes, at + 1),
                    ReaderState::Word(word) => self.word(word, bytes, at + 1),
                    _ => Ok(at + 1),
                };
            }
        };
        self.start = here;
        self.state = ReaderState::Text(role);
        if role.is_decoded() {
            self.decoder = Decoder::default();
            return self.decode(role, bytes, at + 1);
        }
        self.pass(role, bytes, at + 1)
    }

    fn open(&mut self, object: bool, here: u64) -> Result<(), BodyFault> {
        let key = self.key.take();
        let fits = match key.map(BodyKey::kind) {
            None | Some(MemberKind::Any) => true,
            Some(MemberKind::Object) => object,
            Some(_) => false,
        };
        if let (false, Some(key)) = (fits, key) {
            return Err(BodyFault { at: here, kind: FaultKind::WrongType(key.name()) });
        }
        self.count_prompt();
        if !self.nest.open(object) {
            return Err(BodyFault { at: here, kind: FaultKind::TooDeep });
        }
        match key {
            Some(key @ (BodyKey::Options | BodyKey::StreamOptions)) => self.inside = Some((key, here)),
            Some(BodyKey::Template | BodyKey::ChatTemplate) => self.body.has_template = true,
            Some(BodyKey::Prompt) => self.in_prompts = !object,
            Some(BodyKey::Images | BodyKey::ImageUrl) if !object && self.images_depth == 0 => {
                self.images_depth = self.nest.depth();
            }
            Some(BodyKey::ImageUrl | BodyKey::Source) if object && self.image_depth == 0 => {
                self.image_depth = self.nest.depth();
                self.body.images = self.body.images.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, here: u64) -> Expect {
        if self.images_depth == self.nest.depth() {
            self.images_depth = 0;
        }
        if self.image_depth == self.nest.depth() {
            self.image_depth = 0;
        }
        self.nest.close();
        self.in_prompts &= self.nest.depth() > 1;
        match (self.nest.depth(), self.inside) {
            (0, _) => return Expect::Nothing,
            (1, Some((key, start))) => {
                self.inside = None;
                let watched = Some(Watched { value: Some(()), start, len: span(start, here + 1) });
                match key {
                    BodyKey::Options => self.body.options = watched,
                    _ => self.body.stream_options = watched,
                }
            }
            _ => {}
        }
        Expect::Next
    }

    /// Returns the place of the key that begins here, if it may be one that matters.
    fn place(&self) -> Option<BodyPlace> {
        match (self.nest.depth(), self.inside) {
            (1, _) => Some(BodyPlace::Top),
            (2, Some((BodyKey::Options, _))) => Some(BodyPlace::Options),
            (2, Some(_)) => Some(BodyPlace::StreamOptions),
            (3, _) if self.in_messages => Some(BodyPlace::Message),
            _ if self.in_parts => Some(BodyPlace::Part),
            _ => None,
        }
    }

    /// Counts the element of an array `prompt` that begins here, if one does.
    fn count_prompt(&mut self) {
        if self.in_prompts && self.nest.depth() == 2 {
            self.body.prompts = self.body.prompts.saturating_add(1);
        }
    }

    fn begin_text(&mut self, here: u64) -> Result<Role, BodyFault> {
        self.count_prompt();
        let role = match self.key.map(|key| (key, key.kind())) {
            Some((key, MemberKind::Name | MemberKind::OptionalName | MemberKind::Duration)) => {
                self.text.clear();
                Role::Captured(key)
            }
            Some((key, _)) if key.is_template() => Role::Plain,
            None | Some((_, MemberKind::Any)) if self.image_depth != 0 => Role::ImagePart,
            Some((BodyKey::ImageUrl, _)) => Role::Image,
            None | Some((_, MemberKind::Any)) if self.images_depth == self.nest.depth() => Role::Image,
            None | Some((_, MemberKind::Any)) => Role::Probed,
            Some((key, _)) => return Err(BodyFault { at: here, kind: FaultKind::WrongType(key.name()) }),
        };
        self.prefix = 0;
        Ok(role)
    }

    fn begin_scalar(&mut self, byte: u8, here: u64) -> Result<(), BodyFault> {
        self.start = here;
        let kind = self.key.map(BodyKey::kind);
        let (state, fits) = match (NumberState::begin(byte), Literal::begin(byte)) {
            (Some(number), _) => {
                self.number.clear();
                self.number.push(char::from(byte));
                (
                    ReaderState::Number(number),
                    matches!(kind, None | Some(MemberKind::Number | MemberKind::Duration | MemberKind::Any)),
                )
            }
            (_, Some(word)) => {
                let fits = match kind {
                    None | Some(MemberKind::Any) => true,
                    Some(MemberKind::Name) => false,
                    Some(MemberKind::Flag) => true,
                    Some(_) => word.value.is_none(),
                };
                (ReaderState::Word(word), fits)
            }
            _ => return Err(BodyFault { at: here, kind: FaultKind::Syntax }),
        };
        if let (false, Some(key)) = (fits, self.key) {
            return Err(BodyFault { at: here, kind: FaultKind::WrongType(key.name()) });
        }
        self.state = state;
        Ok(())
    }

    /// Passes over a string whose characters do not matter.
    fn pass(&mut self, role: Role, bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
        loop {
            if self.escape == Escape::No {
                at = scan::skim(bytes, at);
            }
            let Some(&byte) = bytes.get(at) else { return Ok(at) };
            match (self.escape, byte) {
                (Escape::No, b'"') => {
                    self.end_string(role, self.before + at as u64)?;
                    return Ok(at + 1);
                }
                (Escape::No, b'\\') => self.escape = Escape::Slash,
                (Escape::No, _) => return Err(self.fault_at(at, FaultKind::Syntax)),
                _ => {
                    self.escape.step(byte).map_err(|()| self.fault_at(at, FaultKind::Syntax))?;
                }
            }
            at += 1;
        }
    }

    /// Reads a string character by character, for as long as its characters matter.
    fn decode(&mut self, role: Role, bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
        if role == Role::Probed && self.prefix == 0 && bytes.get(at).is_some_and(|byte| !b"d\\".contains(byte)) {
            self.state = ReaderState::Text(Role::Plain);
            return self.pass(Role::Plain, bytes, at);
        }
        while let Some(&byte) = bytes.get(at) {
            if self.escape == Escape::No && !self.decoder.is_pending() && role != Role::Probed {
                let rest = bytes.get(at..).unwrap_or_default();
                let plain = match role {
                    Role::Key(_) => self.spelling.push_plain(rest),
                    _ => self.text.push_plain(rest),
                };
                if plain > 0 {
                    at += plain;
                    continue;
                }
            }
            let char = match (self.escape, byte) {
                (Escape::No, b'"') => {
                    self.decoder.end();
                    self.check_text(role, at)?;
                    self.end_string(role, self.before + at as u64)?;
                    return Ok(at + 1);
                }
                (Escape::No, b'\\') => {
                    self.escape = Escape::Slash;
                    None
                }
                (Escape::No, 0x00..=0x1F) => return Err(self.fault_at(at, FaultKind::Syntax)),
                (Escape::No, _) => self.decoder.raw(byte),
                _ => match self.escape.step(byte) {
                    Ok(Some(unit)) => self.decoder.unit(unit),
                    Ok(None) => None,
                    Err(()) => return Err(self.fault_at(at, FaultKind::Syntax)),
                },
            };
            self.check_text(role, at)?;
            at += 1;
            let Some(char) = char else { continue };
            match role {
                Role::Key(_) => self.spelling.push(char),
                Role::Captured(_) => self.text.push(char),
                _ => {
                    let goes_on = DATA_IMAGE.get(self.prefix).is_some_and(|&byte| char::from(byte) == char);
                    self.prefix += 1;
                    if goes_on && self.prefix < DATA_IMAGE.len() {
                        continue;
                    }
                    self.state = ReaderState::Text(if goes_on { Role::Image } else { Role::Plain });
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }

    /// Refuses text that is not UTF-8 where that matters.
    fn check_text(&self, role: Role, at: usize) -> Result<(), BodyFault> {
        match role {
            _ if !self.decoder.is_broken() => Ok(()),
            Role::Key(BodyPlace::Top | BodyPlace::Options | BodyPlace::StreamOptions) => {
                Err(self.fault_at(at, FaultKind::KeyNotUtf8))
            }
            Role::Captured(key) => Err(self.fault_at(at, FaultKind::NotUtf8(key.name()))),
            _ => Ok(()),
        }
    }

    /// Ends a string at the offset of its closing quote.
    fn end_string(&mut self, role: Role, quote: u64) -> Result<(), BodyFault> {
        match role {
            Role::PlainKey => return self.end_key(None, None),
            Role::Key(place) => {
                let found = if self.decoder.is_broken() { None } else { self.spelling.key(place) };
                return self.end_key(Some(place), found);
            }
            Role::Captured(key) => self.note_text(key, quote + 1),
            Role::Image => {
                self.body.images = self.body.images.saturating_add(1);
                self.body.largest_image = self.body.largest_image.max(quote - self.start - 1);
            }
            Role::ImagePart => self.body.largest_image = self.body.largest_image.max(quote - self.start - 1),
            Role::Probed | Role::Plain if self.in_prompt => {
                let bytes = quote - self.start - 1;
                self.body.prompt_bytes += bytes;
                // A template is never decoded. Go's client writes "" for a template that it does not bring.
                self.body.has_template |= bytes > 0 && self.key.is_some_and(BodyKey::is_template);
            }
            Role::Probed | Role::Plain => {}
        }
        self.end_value();
        Ok(())
    }

    /// Ends a key. `found` is the key, if it matters, and whether it is spelled exactly.
    fn end_key(&mut self, place: Option<BodyPlace>, found: Option<(BodyKey, bool)>) -> Result<(), BodyFault> {
        self.state = ReaderState::Between(Expect::Colon);
        if let Some((key, exact)) = found
            && key.is_watched()
        {
            let kind = match (exact, self.seen.note(key)) {
                (true, true) => None,
                (true, false) => Some(FaultKind::DuplicateKey(key.name())),
                (false, _) => Some(FaultKind::CaseVariant(key.name())),
            };
            if let Some(kind) = kind {
                return Err(BodyFault { at: self.start, kind });
            }
        }
        self.key = found.map(|(key, _)| key);
        if place == Some(BodyPlace::Top) {
            self.in_messages = self.key == Some(BodyKey::Messages);
            self.in_prompt = self.key.is_some_and(BodyKey::is_prompt);
            self.in_parts = self.key.is_some_and(BodyKey::has_parts);
        }
        Ok(())
    }

    fn end_value(&mut self) {
        self.key = None;
        self.state = ReaderState::Between(Expect::Next);
    }

    fn count(&mut self, mut number: NumberState, bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
        while let Some(&byte) = bytes.get(at) {
            match number.then(byte) {
                Some(next) => {
                    if self.key.is_some() {
                        self.number.push(char::from(byte));
                    }
                    number = next;
                    at += 1;
                }
                None if number.may_end() => {
                    if let Some(key) = self.key {
                        self.note_number(key, self.before + at as u64)?;
                    }
                    self.end_value();
                    return Ok(at);
                }
                None => return Err(self.fault_at(at, FaultKind::Syntax)),
            }
        }
        self.state = ReaderState::Number(number);
        Ok(at)
    }

    fn word(&mut self, mut word: Literal, bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
        while let Some(&byte) = bytes.get(at) {
            if !word.step(byte) {
                return Err(self.fault_at(at, FaultKind::Syntax));
            }
            at += 1;
            if word.is_whole() {
                if let Some(key) = self.key {
                    self.note_word(key, word.value, self.before + at as u64);
                }
                self.end_value();
                return Ok(at);
            }
        }
        self.state = ReaderState::Word(word);
        Ok(at)
    }

    fn watched<T>(&self, value: Option<T>, end: u64) -> Option<Watched<T>> {
        Some(Watched { value, start: self.start, len: span(self.start, end) })
    }

    fn note_text(&mut self, key: BodyKey, end: u64) {
        match key {
            BodyKey::Model => self.body.model = self.watched(Some(self.text), end),
            BodyKey::Name => self.body.name = self.watched(Some(self.text), end),
            _ => self.body.keep_alive = self.watched(Some(KeepAlive::Text(self.text.shorter())), end),
        }
    }

    fn note_word(&mut self, key: BodyKey, flag: Option<bool>, end: u64) {
        match key.kind() {
            MemberKind::Any if key.is_template() => self.body.has_template |= flag.is_some(),
            MemberKind::Any | MemberKind::Name => {}
            MemberKind::OptionalName => self.body.name = self.watched(None, end),
            MemberKind::Duration => self.body.keep_alive = self.watched(None, end),
            MemberKind::Object if key == BodyKey::Options => self.body.options = self.watched(None, end),
            MemberKind::Object => self.body.stream_options = self.watched(None, end),
            MemberKind::Flag => {
                let watched = self.watched(flag, end);
                match key {
                    BodyKey::Stream => self.body.stream = watched,
                    BodyKey::Raw => self.body.raw = watched,
                    _ => self.body.include_usage = watched,
                }
            }
            MemberKind::Number => {
                let watched = self.watched(None, end);
                if let Some(place) = self.bound(key) {
                    *place = watched;
                }
            }
        }
    }

    fn note_number(&mut self, key: BodyKey, end: u64) -> Result<(), BodyFault> {
        let fault = BodyFault { at: self.start, kind: FaultKind::WrongType(key.name()) };
        match key.kind() {
            MemberKind::Duration => {
                number::finite_double(&self.number).ok_or(fault)?;
                self.body.keep_alive = self.watched(Some(KeepAlive::Number(self.number)), end);
            }
            MemberKind::Number => {
                let value = match key {
                    BodyKey::NumCtx | BodyKey::NumPredict => number::whole_double(&self.number),
                    _ => number::integer(&self.number),
                };
                let watched = self.watched(Some(value.ok_or(fault)?), end);
                if let Some(place) = self.bound(key) {
                    *place = watched;
                }
            }
            _ if key.is_template() => self.body.has_template = true,
            _ => {}
        }
        Ok(())
    }

    /// Returns where to record the value of a key that has a whole number.
    fn bound(&mut self, key: BodyKey) -> Option<&mut Option<Watched<i64>>> {
        Some(match key {
            BodyKey::MaxTokens => &mut self.body.max_tokens,
            BodyKey::MaxCompletionTokens => &mut self.body.max_completion_tokens,
            BodyKey::MaxOutputTokens => &mut self.body.max_output_tokens,
            BodyKey::NPredict => &mut self.body.n_predict,
            BodyKey::N => &mut self.body.n,
            BodyKey::NCmpl => &mut self.body.n_cmpl,
            BodyKey::BestOf => &mut self.body.best_of,
            BodyKey::NumCtx => &mut self.body.num_ctx,
            BodyKey::NumPredict => &mut self.body.num_predict,
            _ => return None,
        })
    }
}

/// Returns the number of bytes from `start` to before `end`, at most `u32::MAX`.
fn span(start: u64, end: u64) -> u32 {
    u32::try_from(end - start).unwrap_or(u32::MAX)
}
