//! Reads the facts of an inquiry from request headers.

use crate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use crate::gate::{Decision, Gate};
use crate::metrics::Port;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderName};
use std::net::IpAddr;

/// `$request_method`
pub const METHOD: HeaderName = HeaderName::from_static("x-herdgate-method");
/// `$request_uri`: the raw target.
pub const URI: HeaderName = HeaderName::from_static("x-herdgate-uri");
/// `$remote_addr`
pub const SOURCE: HeaderName = HeaderName::from_static("x-herdgate-source");
/// `$request_id`
pub const UID: HeaderName = HeaderName::from_static("x-herdgate-uid");

/// The header that names a user behind a key: its value, and which header that is.
pub const ON_BEHALF: HeaderName = HeaderName::from_static("x-herdgate-on-behalf");
/// See [`ON_BEHALF`].
pub const ON_BEHALF_NAME: HeaderName = HeaderName::from_static("x-herdgate-on-behalf-name");

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Why the headers of a question cannot be read. It names the header and never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// A header that must be there once is absent, empty or repeated.
    #[error("{0} does not stand exactly once")]
    NotOnce(&'static str),
    /// The client's address cannot be read.
    #[error("x-herdgate-source is not an address")]
    NotAnAddress,
}

/// Content of a question's headers, borrowed from them.
#[derive(Debug)]
pub struct Facts<'h> {
    uid: &'h [u8],
    method: &'h [u8],
    target: &'h [u8],
    source: Option<IpAddr>,
    authorization: HeaderField<'h>,
    x_api_key: HeaderField<'h>,
    api_key: HeaderField<'h>,
    on_behalf: OnBehalf<'h>,
    encoding: Option<&'h [u8]>,
}

impl<'h> Facts<'h> {
    /// Reads the four facts and the credentials.
    ///
    /// # Errors
    /// Where a fact is absent, empty, repeated or unreadable.
    pub fn read(headers: &'h HeaderMap) -> Result<Facts<'h>, FactError> {
        let method = once(headers, &METHOD).ok_or(FactError::NotOnce("x-herdgate-method"))?;
        let target = once(headers, &URI).ok_or(FactError::NotOnce("x-herdgate-uri"))?;
        let source = once(headers, &SOURCE).ok_or(FactError::NotOnce("x-herdgate-source"))?;
        let uid = once(headers, &UID).ok_or(FactError::NotOnce("x-herdgate-uid"))?;
        Ok(Facts {
            uid,
            method,
            target,
            source: address(source).ok_or(FactError::NotAnAddress)?,
            authorization: field(headers, &AUTHORIZATION),
            x_api_key: field(headers, &X_API_KEY),
            api_key: field(headers, &API_KEY),
            on_behalf: OnBehalf {
                header: once(headers, &ON_BEHALF_NAME).unwrap_or_default(),
                field: field(headers, &ON_BEHALF),
            },
            encoding: encoding(headers),
        })
    }

    /// Returns the inquiry, with what is known of the body.
    pub fn inquiry<'a>(&self, body: BodyShown<'a>) -> Inquiry<'a>
    where
        'h: 'a,
    {
        Inquiry {
            uid: self.uid,
            method: self.method,
            target: self.target,
            source: self.source,
            authorization: self.authorization,
            x_api_key: self.x_api_key,
            api_key: self.api_key,
            on_behalf: self.on_behalf,
            encoding: self.encoding,
            body,
        }
    }
}

/// Refuses a question that lacks a fact, and warns of it at most once a second.
pub fn malformed(gate: &Gate, headers: &HeaderMap, detail: impl std::fmt::Display) -> Decision<'static> {
    let decided = gate.refuse_malformed(Port::Http);
    if let Some(passed_over) = gate.warning_due() {
        let uid = once(headers, &UID).unwrap_or_default();
        let uid = uid.get(..64).unwrap_or(uid).escape_ascii();
        tracing::warn!(id = decided.id.as_str(), %uid, %detail, passed_over, "HTTP port: a question that cannot be put");
    }
    decided
}

/// Returns the value of a header that stands exactly once and is not empty.
pub fn once<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.as_bytes();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

/// Reads a client's address. nginx writes `unix:` for a client on a unix socket, which has none.
fn address(written: &[u8]) -> Option<Option<IpAddr>> {
    if written == b"unix:" {
        return Some(None);
    }
    std::str::from_utf8(written).ok()?.parse().ok().map(Some)
}

fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> HeaderField<'h> {
    let mut field = HeaderField::default();
    for value in headers.get_all(name) {
        field = HeaderField { value: Some(value.as_bytes()), count: field.count.saturating_add(1) };
    }
    field
}

/// Returns the first `Content-Encoding` that is not `identity`: one such is enough to refuse, wherever it stands.
fn encoding(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| value.as_bytes())
        .reduce(|first, next| if first.eq_ignore_ascii_case(b"identity") { next } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(lines: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    const WELL: [(&str, &[u8]); 4] = [
        ("X-Herdgate-Method", b"POST"),
        ("X-Herdgate-Uri", b"/api/chat?x=%20\xfc"),
        ("X-Herdgate-Source", b"192.0.2.7"),
        ("X-Herdgate-Uid", b"u1"),
    ];

    #[test]
    fn facts_are_what_our_own_headers_say_to_the_byte() {
        let headers = headers(&WELL);
        let inquiry = Facts::read(&headers).unwrap().inquiry(BodyShown::Hidden);
        assert_eq!(inquiry.method, b"POST");
        assert_eq!(inquiry.target, b"/api/chat?x=%20\xfc");
        assert_eq!(inquiry.source, Some(IpAddr::from([192, 0, 2, 7])));
        assert_eq!(inquiry.uid, b"u1");
        assert!(!inquiry.authorization.is_present() && !inquiry.x_api_key.is_present());
        assert!(!inquiry.api_key.is_present() && inquiry.encoding.is_none());
    }

    #[test]
    fn a_fact_that_is_absent_empty_or_repeated_is_an_error_that_names_it() {
        for absent in 0..WELL.len() {
            let name = WELL[absent].0.to_ascii_lowercase();
            let mut lines = WELL.to_vec();
            lines.remove(absent);
            let without = lines.clone();
            // A spelling that some servers fold into the real one does not fill in for it.
            let underscored: &'static str = name.replace('-', "_").leak();
            lines.push((underscored, WELL[absent].1));
            let underscore = lines;
            let mut twice = WELL.to_vec();
            twice.push(WELL[absent]);
            let mut other = WELL.to_vec();
            other.push((WELL[absent].0, b"other"));
            let mut empty = WELL.to_vec();
            empty[absent].1 = b"";
            for lines in [without, underscore, twice, other, empty] {
                let error = Facts::read(&headers(&lines)).unwrap_err().to_string();
                assert!(error.starts_with(&name), "{error} for {lines:?}");
            }
        }
    }

    #[test]
    fn headers_a_client_may_send_change_no_fact() {
        let mut lines = WELL.to_vec();
        let spoofed: [(&str, &[u8]); 9] = [
            ("X_Herdgate_Method", b"GET"),
            ("X-Herdgate_Uri", b"/api/tags"),
            ("X-Forwarded-For", b"198.51.100.1"),
            ("X-Real-IP", b"198.51.100.1"),
            ("Forwarded", b"for=198.51.100.1"),
            ("X-Original-URI", b"/api/tags"),
            ("X-Forwarded-Uri", b"/api/tags"),
            ("X-HTTP-Method-Override", b"GET"),
            ("X-Request-Id", b"mine"),
        ];
        lines.extend(spoofed);
        let (plain, spoofed) = (headers(&WELL), headers(&lines));
        let said = |headers: &HeaderMap| format!("{:?}", Facts::read(headers).unwrap().inquiry(BodyShown::Hidden));
        assert_eq!(said(&plain), said(&spoofed));
    }

    #[test]
    fn credentials_carry_how_often_they_stand() {
        for name in ["Authorization", "x-api-key", "Api-Key"] {
            for count in 1..4 {
                let mut lines = WELL.to_vec();
                lines.extend([(name, &b"Bearer first"[..]), (name, b""), (name, b"Bearer last")].iter().take(count));
                let headers = headers(&lines);
                let facts = Facts::read(&headers).unwrap();
                let field = match name {
                    "Authorization" => facts.authorization,
                    "x-api-key" => facts.x_api_key,
                    _ => facts.api_key,
                };
                let last: &[u8] = [&b"Bearer first"[..], b"", b"Bearer last"][count - 1];
                assert_eq!((field.value, field.count as usize), (Some(last), count), "{name}");
            }
        }
    }

    #[test]
    fn the_user_behind_a_key_comes_by_our_own_header_alone() {
        let passed: [(&str, &[u8]); 2] = [("X-Herdgate-On-Behalf-Name", b"x-user"), ("X-Herdgate-On-Behalf", b"ann")];
        let with = |more: &[(&'static str, &'static [u8])]| {
            let headers = headers(&[&WELL[..], more].concat());
            let on_behalf = Facts::read(&headers).unwrap().inquiry(BodyShown::Hidden).on_behalf;
            (on_behalf.header.to_vec(), on_behalf.field.value.map(<[u8]>::to_vec), on_behalf.field.count)
        };
        assert_eq!(with(&[]), (vec![], None, 0));
        assert_eq!(with(&passed), (b"x-user".to_vec(), Some(b"ann".to_vec()), 1));
        assert_eq!(with(&passed[..1]), (b"x-user".to_vec(), None, 0), "nginx leaves an empty header out");
        assert_eq!(with(&[passed[0], passed[1], passed[1]]).2, 2);
        assert_eq!(with(&[passed[0], passed[0], passed[1]]).0, b"", "which header it is must be clear");
        assert_eq!(with(&[("X-User", b"ann")]), (vec![], None, 0));
    }

    #[test]
    fn sources_are_addresses_or_a_unix_socket() {
        let cases: [(&[u8], Option<Option<IpAddr>>); 6] = [
            (b"::1", Some(Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])))),
            (b"unix:", Some(None)),
            (b"unix", None),
            (b"localhost", None),
            (b"192.0.2.7, 192.0.2.8", None),
            (b"192.0.2.7:80", None),
        ];
        for (written, expected) in cases {
            assert_eq!(address(written), expected, "{}", written.escape_ascii());
        }
    }

    #[test]
    fn any_encoding_but_identity_shows_wherever_it_stands() {
        type Case = (&'static [&'static [u8]], Option<&'static [u8]>);
        let cases: [Case; 5] = [
            (&[], None),
            (&[b"identity"], Some(b"identity")),
            (&[b"gzip", b"identity"], Some(b"gzip")),
            (&[b"Identity", b"br"], Some(b"br")),
            (&[b"identity, gzip"], Some(b"identity, gzip")),
        ];
        for (values, expected) in cases {
            let mut lines = WELL.to_vec();
            lines.extend(values.iter().map(|value| ("Content-Encoding", *value)));
            assert_eq!(encoding(&headers(&lines)), expected);
        }
    }
}
