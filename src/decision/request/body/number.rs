//! JSON numbers: their grammar (RFC 8259 section 6), byte by byte, and the values that servers accept as whole numbers.

use super::text::Text;

/// Longest number that is read, in bytes. An `i64` needs 20; a double, as any printer writes it, needs 25.
pub const NUMBER_MAX: usize = 32;

/// The part of a number that has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberState {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl NumberState {
    /// Returns the state after the first byte of a value, if a number can begin with that byte.
    pub(super) fn begin(byte: u8) -> Option<NumberState> {
        match byte {
            b'-' => Some(NumberState::Minus),
            b'0' => Some(NumberState::Zero),
            b'1'..=b'9' => Some(NumberState::Whole),
            _ => None,
        }
    }

    /// Returns the state after one more byte, if that byte can belong to the number.
    pub(super) fn then(self, byte: u8) -> Option<NumberState> {
        use NumberState::*;
        match (self, byte) {
            (Minus, b'0') => Some(Zero),
            (Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Some(Whole),
            (Zero | Whole, b'.') => Some(Point),
            (Point | Fraction, b'0'..=b'9') => Some(Fraction),
            (Zero | Whole | Fraction, b'e' | b'E') => Some(Exponent),
            (Exponent, b'+' | b'-') => Some(ExponentSign),
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => Some(ExponentDigits),
            _ => None,
        }
    }

    /// Returns whether the number may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, NumberState::Zero | NumberState::Whole | NumberState::Fraction | NumberState::ExponentDigits)
    }
}

/// Returns what Go's `encoding/json` reads into an `int`: digits with an optional minus sign, in the range of an `i64`.
pub(super) fn integer(written: &Text<NUMBER_MAX>) -> Option<i64> {
    if written.cut { None } else { written.as_str().parse().ok() }
}

/// Returns what Ollama's `Options.FromMap` (`api/types.go`) reads: a double, then `int64(t)`. Only whole numbers that a
/// double represents exactly (up to 2^53) are accepted; Ollama would round or truncate the others, and another server
/// might not.
pub(super) fn whole_double(written: &Text<NUMBER_MAX>) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let double = finite_double(written)?;
    (double.trunc() == double && double.abs() <= EXACT).then_some(double as i64)
}

/// Returns the number as a double, if it is in a double's range (Go refuses other numbers).
pub(super) fn finite_double(written: &Text<NUMBER_MAX>) -> Option<f64> {
    if written.cut {
        return None;
    }
    written.as_str().parse::<f64>().ok().filter(|double| double.is_finite())
}
