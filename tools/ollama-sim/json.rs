//! JSON read as Go's `encoding/json` (v1) decoder reads it: the first value of the input, duplicates kept in order.
//!
//! What differs from a strict reader, and why `serde_json` cannot stand in: bytes after the first value are left alone,
//! invalid UTF-8 and lone surrogates become U+FFFD, and nesting reaches 10,000.

use std::fmt;

/// Deepest nesting Go reads (`maxNestingDepth` in its scanner).
const DEPTH_MAX: usize = 10_000;

/// One JSON value. Numbers keep their text; objects keep every member, duplicates included, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Returns what Go calls this kind of value in its errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "bool",
            Json::Number(_) => "number",
            Json::Text(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// Returns the text of a string value.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a member of an object by its exact name, the last one where it stands twice (Go: a map).
    pub fn member(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Why the input is not JSON, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing but white space: Go's `EOF`.
    Empty,
    /// The value does not end.
    Incomplete,
    /// A byte that cannot stand where it stands, and where that is.
    Byte(u8, &'static str),
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => f.write_str("EOF"),
            Fault::Incomplete => f.write_str("unexpected EOF"),
            Fault::Byte(b'\'', place) => write!(f, r"invalid character '\'' {place}"),
            Fault::Byte(b'"', place) => write!(f, "invalid character '\"' {place}"),
            Fault::Byte(byte, place) if (0x20..0x7f).contains(byte) => {
                write!(f, "invalid character '{}' {place}", char::from(*byte))
            }
            Fault::Byte(b'\n', place) => write!(f, r"invalid character '\n' {place}"),
            Fault::Byte(byte, place) => write!(f, r"invalid character '\x{byte:02x}' {place}"),
            Fault::TooDeep => f.write_str("exceeded max depth"),
        }
    }
}

/// Reads the first value of `bytes` and shows how many bytes it took.
pub fn first_value(bytes: &[u8]) -> Result<(Json, usize), Fault> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.peek().is_none() {
        return Err(Fault::Empty);
    }
    let value = reader.value()?;
    Ok((value, reader.at))
}

/// A container whose end was not read yet.
enum Open {
    Array(Vec<Json>),
    Object(Vec<(String, Json)>, String),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Returns the next byte that is not white space; stays before it.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn need(&mut self) -> Result<u8, Fault> {
        self.peek().ok_or(Fault::Incomplete)
    }

    /// Iterative, so that deep input costs heap rather than stack.
    fn value(&mut self) -> Result<Json, Fault> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut value = match self.need()? {
                b'{' => {
                    self.at += 1;
                    if self.need()? == b'}' {
                        self.at += 1;
                        Json::Object(Vec::new())
                    } else {
                        let key = self.key()?;
                        open.push(Open::Object(Vec::new(), key));
                        if open.len() > DEPTH_MAX {
                            return Err(Fault::TooDeep);
                        }
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if self.need()? == b']' {
                        self.at += 1;
                        Json::Array(Vec::new())
                    } else {
                        open.push(Open::Array(Vec::new()));
                        if open.len() > DEPTH_MAX {
                            return Err(Fault::TooDeep);
                        }
                        continue;
                    }
                }
                _ => self.scalar()?,
            };
            // Hand the value to the innermost container, closing as many as end here.
            loop {
                match open.pop() {
                    None => return Ok(value),
                    Some(Open::Array(mut items)) => {
                        items.push(value);
                        match self.need()? {
                            b',' => {
                                self.at += 1;
                                open.push(Open::Array(items));
                                break;
                            }
                            b']' => {
                                self.at += 1;
                                value = Json::Array(items);
                            }
                            byte => return Err(Fault::Byte(byte, "after array element")),
                        }
                    }
                    Some(Open::Object(mut members, key)) => {
                        members.push((key, value));
                        match self.need()? {
                            b',' => {
                                self.at += 1;
                                let key = self.key()?;
                                open.push(Open::Object(members, key));
                                break;
                            }
                            b'}' => {
                                self.at += 1;
                                value = Json::Object(members);
                            }
                            byte => return Err(Fault::Byte(byte, "after object key:value pair")),
                        }
                    }
                }
            }
        }
    }

    /// Returns an object's key and the colon behind it.
    fn key(&mut self) -> Result<String, Fault> {
        match self.need()? {
            b'"' => {}
            byte => return Err(Fault::Byte(byte, "looking for beginning of object key string")),
        }
        self.at += 1;
        let key = self.string()?;
        match self.need()? {
            b':' => {
                self.at += 1;
                Ok(key)
            }
            byte => Err(Fault::Byte(byte, "after object key")),
        }
    }

    fn scalar(&mut self) -> Result<Json, Fault> {
        match self.need()? {
            b'"' => {
                self.at += 1;
                self.string().map(Json::Text)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", "in literal true").map(|()| Json::Bool(true)),
            b'f' => self.word(b"false", "in literal false").map(|()| Json::Bool(false)),
            b'n' => self.word(b"null", "in literal null").map(|()| Json::Null),
            byte => Err(Fault::Byte(byte, "looking for beginning of value")),
        }
    }

    fn word(&mut self, word: &[u8], place: &'static str) -> Result<(), Fault> {
        for expected in word {
            match self.bytes.get(self.at) {
                None => return Err(Fault::Incomplete),
                Some(byte) if byte == expected => self.at += 1,
                Some(byte) => return Err(Fault::Byte(*byte, place)),
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        match self.bytes.get(self.at) {
            None => return Err(Fault::Incomplete),
            Some(b'0'..=b'9') => {}
            Some(byte) => return Err(Fault::Byte(*byte, "in numeric literal")),
        }
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1; // a leading zero stands alone
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Json::Number(String::from_utf8_lossy(text).into_owned()))
    }

    /// Returns the rest of a string whose opening quote was read.
    fn string(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        loop {
            let start = self.at;
            while let Some(byte) = self.bytes.get(self.at)
                && !matches!(byte, b'"' | b'\\' | 0..0x20)
            {
                self.at += 1;
            }
            for chunk in self.bytes.get(start..self.at).unwrap_or_default().utf8_chunks() {
                text.push_str(chunk.valid());
                // Go replaces each invalid byte, not each invalid run.
                for _ in chunk.invalid() {
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
            match self.bytes.get(self.at) {
                None => return Err(Fault::Incomplete),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(byte) => return Err(Fault::Byte(*byte, "in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Incomplete)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex()?;
                if !(0xd800..0xdc00).contains(&unit) {
                    return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                // A pair is one character; a half without its other half is U+FFFD and the rest is read on its own.
                let before = self.at;
                if self.bytes.get(self.at..self.at.saturating_add(2)) == Some(b"\\u") {
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = before;
                }
                char::REPLACEMENT_CHARACTER
            }
            byte => return Err(Fault::Byte(byte, "in string escape code")),
        })
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let byte = *self.bytes.get(self.at).ok_or(Fault::Incomplete)?;
            let digit =
                char::from(byte).to_digit(16).ok_or(Fault::Byte(byte, r"in \u hexadecimal character escape"))?;
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }
}
