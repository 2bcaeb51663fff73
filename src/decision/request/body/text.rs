//! Strings: their escapes (RFC 8259 section 7), decoded piece by piece into text on the stack.

use super::scan::is_content;

/// A decoded string of at most `N` bytes, on the stack.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u16,
    /// Whether the string was longer than `N` bytes; `as_str` is then its beginning.
    pub cut: bool,
}

impl<const N: usize> Text<N> {
    /// Returns the beginning of `whole`, as much as there is room for.
    pub fn of(whole: &str) -> Text<N> {
        let mut text = Text::default();
        text.set(whole);
        text
    }

    /// Replaces the text with the beginning of `whole`, as much as there is room for.
    pub fn set(&mut self, whole: &str) {
        self.clear();
        match self.bytes.get_mut(..whole.len()) {
            Some(room) => {
                room.copy_from_slice(whole.as_bytes());
                // At most N, which fits.
                self.len = whole.len() as u16;
            }
            None => whole.chars().for_each(|char| self.push(char)),
        }
    }

    /// Returns the text (valid UTF-8 by construction).
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes.get(..usize::from(self.len)).unwrap_or_default()).unwrap_or("")
    }

    /// Returns the same text with room for `M` bytes.
    pub(super) fn shorter<const M: usize>(&self) -> Text<M> {
        let mut text = Text::of(self.as_str());
        text.cut |= self.cut;
        text
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.cut) = (0, false);
    }

    /// Adds the ASCII content at the start of `bytes`. Returns the length of that content in bytes.
    pub(super) fn push_plain(&mut self, bytes: &[u8]) -> usize {
        let plain = bytes.iter().take_while(|byte| byte.is_ascii() && is_content(**byte)).count();
        let start = usize::from(self.len);
        let taken = if self.cut { 0 } else { plain.min(N - start) };
        if let (Some(room), Some(bytes)) = (self.bytes.get_mut(start..start + taken), bytes.get(..taken)) {
            room.copy_from_slice(bytes);
            // At most N, which fits.
            self.len += taken as u16;
        }
        self.cut |= taken < plain;
        plain
    }

    pub(super) fn push(&mut self, char: char) {
        let start = usize::from(self.len);
        match self.bytes.get_mut(start..start + char.len_utf8()) {
            // Nothing is added after a cut, or the text would not be a beginning of the string.
            Some(room) if !self.cut => {
                char.encode_utf8(room);
                self.len += char.len_utf8() as u16;
            }
            _ => self.cut = true,
        }
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Text<N> {
        const { assert!(N <= u16::MAX as usize, "the length is kept in 16 bits") };
        Text { bytes: [0; N], len: 0, cut: false }
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Text<N>) -> bool {
        self.as_str() == other.as_str() && self.cut == other.cut
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The position of a string within an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Escape {
    /// Outside any escape.
    #[default]
    No,
    /// After the backslash.
    Slash,
    /// After `\u`: the number of digits still to come, and the value of those read.
    Hex(u8, u16),
}

impl Escape {
    /// Consumes a byte of an escape. Returns the UTF-16 unit if the escape ends here; `Err` if the byte cannot stand
    /// here.
    pub(super) fn step(&mut self, byte: u8) -> Result<Option<u16>, ()> {
        let unit = match (*self, byte) {
            (Escape::Slash, b'u') => {
                *self = Escape::Hex(4, 0);
                return Ok(None);
            }
            (Escape::Slash, b'"' | b'\\' | b'/') => u16::from(byte),
            (Escape::Slash, b'b') => 0x08,
            (Escape::Slash, b'f') => 0x0C,
            (Escape::Slash, b'n') => 0x0A,
            (Escape::Slash, b'r') => 0x0D,
            (Escape::Slash, b't') => 0x09,
            (Escape::Hex(left, value), _) => {
                let digit = (byte as char).to_digit(16).ok_or(())? as u16;
                let value = value << 4 | digit;
                if left > 1 {
                    *self = Escape::Hex(left - 1, value);
                    return Ok(None);
                }
                value
            }
            _ => return Err(()),
        };
        *self = Escape::No;
        Ok(Some(unit))
    }
}

/// A decoder of characters from raw bytes (UTF-8, RFC 3629) and escaped units (UTF-16 surrogate pairs).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decoder {
    /// Value of the UTF-8 sequence so far.
    value: u32,
    /// Least value that is allowed for the sequence, which excludes overlong forms.
    least: u32,
    /// Number of bytes of the sequence still to come.
    left: u8,
    /// A high surrogate that waits for its low one; 0 if there is none.
    high: u16,
    /// Whether anything read so far is not text. Remains set until the next string.
    broken: bool,
}

impl Decoder {
    /// Consumes a byte that stands for itself. Returns the character that ends with it, if one does.
    pub(super) fn raw(&mut self, byte: u8) -> Option<char> {
        self.broken |= self.high != 0;
        if self.left == 0 {
            let (left, bits, least) = match byte {
                0x00..=0x7F => return Some(char::from(byte)),
                0xC2..=0xDF => (1, byte & 0x1F, 0x80),
                0xE0..=0xEF => (2, byte & 0x0F, 0x800),
                0xF0..=0xF4 => (3, byte & 0x07, 0x1_0000),
                _ => {
                    self.broken = true;
                    return None;
                }
            };
            (self.left, self.value, self.least) = (left, u32::from(bits), least);
            return None;
        }
        if byte & 0xC0 != 0x80 {
            self.broken = true;
            return None;
        }
        self.left -= 1;
        self.value = self.value << 6 | u32::from(byte & 0x3F);
        if self.left > 0 {
            return None;
        }
        // `from_u32` excludes surrogates and values above U+10FFFF.
        let char = char::from_u32(self.value).filter(|_| self.value >= self.least);
        self.broken |= char.is_none();
        char
    }

    /// Consumes an escaped unit. Returns the character that ends with it, if one does.
    pub(super) fn unit(&mut self, unit: u16) -> Option<char> {
        self.broken |= self.left != 0;
        let high = std::mem::take(&mut self.high);
        match (high, unit) {
            (0, 0xD800..=0xDBFF) => {
                self.high = unit;
                None
            }
            (0, _) | (_, 0xDC00..=0xDFFF) => {
                let value = match high {
                    0 => u32::from(unit),
                    _ => 0x1_0000 + (u32::from(high & 0x3FF) << 10 | u32::from(unit & 0x3FF)),
                };
                let char = char::from_u32(value);
                self.broken |= char.is_none();
                char
            }
            _ => {
                self.broken = true;
                None
            }
        }
    }

    /// Marks the end of the string, at which nothing may be pending.
    pub(super) fn end(&mut self) {
        self.broken |= self.is_pending();
    }

    /// Returns whether a character has begun and not ended.
    pub(super) fn is_pending(&self) -> bool {
        self.left != 0 || self.high != 0
    }

    /// Returns whether anything read so far is not text.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }
}
