//! The user on whose behalf a key asks, named in a header that the key chooses (`on_behalf_of`).
//!
//! Scheme. The proxy passes one header on, together with its name; herdgate reads it for keys that choose the same
//! header and for no other, so that a client cannot have its requests counted as another's. Upper and lower case of
//! ASCII are treated as one (an e-mail address is written both ways), and surrounding space is ignored. An absent or
//! empty name is a user too: all such requests of a key share one scope, so that nobody escapes a limit by leaving the
//! header out. A header that occurs twice is refused, and so is a comma, by which a proxy joins two headers (RFC 9110
//! section 5.2).

use crate::decision::inquiry::{HeaderField, OnBehalf};
use crate::decision::reason::Reason;

/// Longest name of a user, in bytes: the longest e-mail address has 254 (RFC 5321, erratum 1690).
pub const NAME_MAX: usize = 256;

/// A user's name in the form that is compared: trimmed, with ASCII letters in lower case. It needs no heap.
#[derive(Debug, Clone, Copy)]
pub struct UserName {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl UserName {
    /// Returns the form of a written name that is compared. `None` if the text cannot be a name.
    pub fn new(written: &[u8]) -> Option<UserName> {
        let trimmed = written.trim_ascii();
        let mut name = UserName { bytes: [0; NAME_MAX], len: trimmed.len() };
        name.bytes.get_mut(..trimmed.len())?.copy_from_slice(trimmed);
        name.bytes.make_ascii_lowercase();
        let fits = |byte: &u8| *byte >= b' ' && *byte != 0x7f && *byte != b',';
        trimmed.iter().all(fits).then_some(name)
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Returns whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Returns whether a key may choose this header: a token (RFC 9110 section 5.1) in lower case, of at most 64 bytes,
/// that has no use of its own (`authorization`, `cookie`, `host` and the like).
pub fn is_header(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let taken = ["authorization", "x-api-key", "api-key", "cookie", "host", "content-length", "x-forwarded-for"];
    (1..=64).contains(&name.len()) && name.bytes().all(fits) && !taken.contains(&name)
}

/// Returns the user who asks through a key that chooses `header`.
///
/// # Errors
/// [`Reason::OnBehalfNotPassed`] if the proxy passes another header on, [`Reason::OnBehalfAmbiguous`] if the header
/// occurs more than once or its value cannot be a name.
pub fn name(header: &str, passed: &OnBehalf<'_>) -> Result<UserName, Reason> {
    if !passed.header.eq_ignore_ascii_case(header.as_bytes()) {
        return Err(Reason::OnBehalfNotPassed);
    }
    let HeaderField { value, count } = passed.field;
    if count > 1 {
        return Err(Reason::OnBehalfAmbiguous);
    }
    UserName::new(value.unwrap_or_default()).ok_or(Reason::OnBehalfAmbiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, passed: &str, values: &[&[u8]], expected: Result<&str, Reason>) {
        let count = u32::try_from(values.len()).unwrap();
        let passed =
            OnBehalf { header: passed.as_bytes(), field: HeaderField { value: values.last().copied(), count } };
        let found = name(header, &passed).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        assert_eq!(found, expected.map(str::to_owned), "{values:?}");
    }

    #[test]
    fn a_user_is_named_once_in_the_header_of_the_key() {
        check("x-user", "x-user", &[b"Ann@Example.com"], Ok("ann@example.com"));
        check("x-user", "X-User", &[b" \tann "], Ok("ann"));
        check("x-user", "x-user", &["zo\u{eb}".as_bytes()], Ok("zo\u{eb}"));
        check("x-user", "x-user", &[], Ok(""));
        check("x-user", "x-user", &[b"  "], Ok(""));
        check("x-user", "x-user", &[&[b'a'; NAME_MAX]], Ok(&"a".repeat(NAME_MAX)));
    }

    #[test]
    fn what_two_could_read_in_two_ways_names_nobody() {
        for value in [&b"ann, bob"[..], b"ann,", b"a\0b", b"a\x7f", b"a\tb", &[b'a'; NAME_MAX + 1]] {
            check("x-user", "x-user", &[value], Err(Reason::OnBehalfAmbiguous));
        }
        check("x-user", "x-user", &[b"ann", b"ann"], Err(Reason::OnBehalfAmbiguous));
        check("x-user", "x-other", &[b"ann"], Err(Reason::OnBehalfNotPassed));
        check("x-user", "", &[], Err(Reason::OnBehalfNotPassed));
    }

    #[test]
    fn a_key_names_a_header_that_is_nobody_elses() {
        for (header, fits) in
            [("x-openwebui-user-email", true), ("authorization", false), ("X-User", false), ("", false), ("a b", false)]
        {
            assert_eq!(is_header(header), fits, "{header}");
        }
    }
}
