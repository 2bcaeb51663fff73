//! The time until a limit is full again, as OpenAI's `x-ratelimit-reset-*` headers write it: Go's `time.Duration`.
//!
//! Examples are `6m0s`, `1.5s`, `20ms` (Go, `time.Duration.String`; OpenAI, rate limit headers). Clients parse exactly
//! this form. It is rounded up to whole milliseconds, so that a client that comes back then is not too early.

use std::fmt::Write;

/// Longest span, in bytes: `u64::MAX` nanoseconds are `5124095h34m33.71s`.
const LEN_MAX: usize = 24;

/// A written span, on the stack.
#[derive(Clone, Copy)]
pub struct Reset {
    bytes: [u8; LEN_MAX],
    len: usize,
}

impl Reset {
    /// Writes a span of `ns` nanoseconds.
    pub fn new(ns: u64) -> Reset {
        let mut text = Reset { bytes: [0; LEN_MAX], len: 0 };
        let ms = ns.div_ceil(1_000_000);
        // LEN_MAX is enough for the longest span, so writing cannot fail.
        let _ = text.span(ms);
        text
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    fn span(&mut self, ms: u64) -> std::fmt::Result {
        if ms == 0 {
            return self.write_str("0s");
        }
        if ms < 1000 {
            return write!(self, "{ms}ms");
        }
        let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        if hours > 0 {
            write!(self, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(self, "{minutes}m")?;
        }
        // Go leaves out trailing zeros of the fraction, and the point with them.
        match ms % 1000 {
            0 => write!(self, "{seconds}s"),
            rest if rest % 100 == 0 => write!(self, "{seconds}.{}s", rest / 100),
            rest if rest % 10 == 0 => write!(self, "{seconds}.{:02}s", rest / 10),
            rest => write!(self, "{seconds}.{rest:03}s"),
        }
    }
}

impl Write for Reset {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len.saturating_add(text.len());
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_go_writes_durations() {
        const MS: u64 = 1_000_000;
        const S: u64 = 1000 * MS;
        let cases = [
            (0, "0s"),
            (1, "1ms"),
            (MS, "1ms"),
            (MS + 1, "2ms"),
            (20 * MS, "20ms"),
            (999 * MS, "999ms"),
            (999 * MS + 1, "1s"),
            (S, "1s"),
            (1500 * MS, "1.5s"),
            (8640 * MS, "8.64s"),
            (1_001 * MS, "1.001s"),
            (1_050 * MS, "1.05s"),
            (59_999 * MS, "59.999s"),
            (60 * S, "1m0s"),
            (360 * S, "6m0s"),
            (90_500 * MS, "1m30.5s"),
            (3600 * S, "1h0m0s"),
            (86_400 * S, "24h0m0s"),
            (3_661 * S + 10 * MS, "1h1m1.01s"),
            (u64::MAX, "5124095h34m33.71s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(Reset::new(ns).as_str(), expected, "{ns}");
        }
    }
}
