//! Lines of a stream, each in the same bounded memory.

use std::io::{self, BufRead};

/// Longest line, in bytes: a body of 64 MiB, which is the most that is decided on, in base64.
pub const LINE_MAX: usize = 96 << 20;

/// Reads line by line.
pub struct Lines<R> {
    from: R,
    max: usize,
    line: Vec<u8>,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum ReplayLine<'l> {
    /// Its bytes.
    Whole(&'l [u8]),
    /// It was longer than a line may be, and was passed over.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Reads the lines of a stream, none longer than `max` bytes.
    pub fn new(from: R, max: usize) -> Lines<R> {
        Lines { from, max, line: Vec::new() }
    }

    /// Returns the next line; `None` at the end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn next_line(&mut self) -> io::Result<Option<ReplayLine<'_>>> {
        self.line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let held = match self.from.fill_buf() {
                Ok(held) => held,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if held.is_empty() {
                break;
            }
            any = true;
            let end = held.iter().position(|byte| *byte == b'\n');
            let part = held.get(..end.unwrap_or(held.len())).unwrap_or_default();
            too_long |= self.line.len().saturating_add(part.len()) > self.max;
            if too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len().saturating_add(usize::from(end.is_some()));
            self.from.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok(match (any, too_long) {
            (false, _) => None,
            (true, true) => Some(ReplayLine::TooLong),
            (true, false) => Some(ReplayLine::Whole(&self.line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_come_whole_or_are_passed_over() {
        let cases: [(&[u8], &[&str]); 6] = [
            (b"", &[]),
            (b"a\nbb\n", &["a", "bb"]),
            (b"a\nbb", &["a", "bb"]),
            (b"\n\na", &["", "", "a"]),
            (b"12345678\n123456789\nx\n", &["12345678", "-", "x"]),
            (b"1234567890123456789012345678901234567890", &["-"]),
        ];
        for (bytes, expected) in cases {
            // A small buffer, so that lines come in parts.
            let mut lines = Lines::new(BufReader::with_capacity(3, bytes), 8);
            let mut found = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                found.push(match line {
                    ReplayLine::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                    ReplayLine::TooLong => "-".to_owned(),
                });
            }
            assert_eq!(found, expected, "{}", bytes.escape_ascii());
        }
    }
}
