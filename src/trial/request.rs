//! A request as text, and the inquiry that a proxy would make of it.
//!
//! Errors name the field and never show its content, which may be a credential.

use crate::decision::caller::keyset::{Digest, KeySet};
use crate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use crate::time::date;
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;

/// A request, read from a line with one JSON object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<'t> {
    /// The method, case kept.
    #[serde(borrow)]
    pub method: Cow<'t, str>,
    /// The request target as received: path and query, nothing decoded.
    #[serde(borrow)]
    pub path: Cow<'t, str>,
    /// Headers in their order; a name may stand more than once.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address; absent for one on a unix socket.
    #[serde(default)]
    pub src: Option<IpAddr>,
    /// The body as text.
    #[serde(default, borrow)]
    pub body: Option<Cow<'t, str>>,
    /// The body in base64 (RFC 4648 section 4), instead.
    #[serde(default, borrow)]
    pub body_base64: Option<Cow<'t, str>>,
    /// Size of the whole body in bytes, where `body` is only its beginning.
    #[serde(default)]
    pub body_size: Option<u64>,
    /// When it comes, RFC 3339.
    #[serde(default, borrow)]
    pub at: Option<Cow<'t, str>>,
    /// How it ended.
    #[serde(default)]
    pub usage: Option<ReplayUsage>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayUsage {
    /// Tokens of the prompt.
    #[serde(default, rename = "in")]
    pub input: Option<u64>,
    /// Tokens of the answer.
    #[serde(default, rename = "out")]
    pub output: Option<u64>,
    /// Milliseconds from the request to the end of its answer.
    #[serde(default)]
    pub ms: Option<u64>,
}

/// What is wrong with a request's text. It shows nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RequestError(String);

impl RequestError {
    /// Returns a fault with these words, which must show nothing of the text.
    pub fn new(what: impl Into<String>) -> RequestError {
        RequestError(what.into())
    }
}

/// The fields, and what each must be.
const FIELDS: [(&str, &str); 9] = [
    ("method", "a string"),
    ("path", "a string"),
    ("headers", "a list of pairs of strings"),
    ("src", "an IP address"),
    ("body", "a string"),
    ("body_base64", "a string"),
    ("body_size", "a whole number"),
    ("at", "a string"),
    ("usage", "an object of whole numbers \"in\", \"out\", \"ms\""),
];

impl<'t> Request<'t> {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &'t str) -> Result<Request<'t>, RequestError> {
        let request: Request<'_> = serde_json::from_str(text).map_err(|error| fault(text, &error))?;
        if request.body.is_some() && request.body_base64.is_some() {
            return Err(RequestError::new("both \"body\" and \"body_base64\" stand"));
        }
        Ok(request)
    }

    /// Returns when it comes, in milliseconds since 1970; `None` where it does not say.
    ///
    /// # Errors
    /// It is no time.
    pub fn at_unix_ms(&self) -> Result<Option<i64>, RequestError> {
        let wrong = || RequestError::new("\"at\" is not a time such as 2026-01-31T12:00:00Z");
        self.at.as_deref().map(|at| date::parse(at).ok_or_else(wrong)).transpose()
    }

    /// Returns the body's bytes.
    ///
    /// # Errors
    /// `body_base64` is no base64, or `body_size` contradicts the body.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, RequestError> {
        let bytes = match (&self.body, &self.body_base64) {
            (Some(body), _) => Cow::Borrowed(body.as_bytes()),
            (None, None) => Cow::Borrowed(&[][..]),
            (None, Some(encoded)) => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.as_bytes());
                Cow::Owned(decoded.map_err(|_| RequestError::new("\"body_base64\" is not base64"))?)
            }
        };
        match self.body_size {
            Some(size) if size < bytes.len() as u64 => {
                Err(RequestError::new("\"body_size\" is less than the body has"))
            }
            _ => Ok(bytes),
        }
    }

    /// Returns what a proxy asks that passes on the header `passes` for keys that name their users. `None` where method
    /// or path is empty, which no proxy can ask.
    pub fn inquiry<'a>(&'a self, uid: &'a [u8], passes: &'a str, bytes: &'a [u8]) -> Option<Inquiry<'a>> {
        if self.method.is_empty() || self.path.is_empty() {
            return None;
        }
        Some(Inquiry {
            uid,
            method: self.method.as_bytes(),
            target: self.path.as_bytes(),
            source: self.src,
            authorization: self.field("authorization"),
            x_api_key: self.field("x-api-key"),
            api_key: self.field("api-key"),
            on_behalf: OnBehalf { header: passes.as_bytes(), field: self.field(passes) },
            encoding: self.encoding(),
            body: BodyShown::Bytes { seen: bytes, size: self.body_size.unwrap_or(bytes.len() as u64) },
        })
    }

    /// Returns whether a header of this name stands.
    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim_matches([' ', '\t']).as_bytes())
    }

    fn field<'a>(&'a self, name: &'a str) -> HeaderField<'a> {
        self.values(name).fold(HeaderField::default(), |field, value| HeaderField {
            value: Some(value),
            count: field.count.saturating_add(1),
        })
    }

    /// Returns the first `Content-Encoding` that says anything but `identity`.
    fn encoding(&self) -> Option<&[u8]> {
        self.values("content-encoding").find(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
    }
}

/// Returns a key set in which `secret` stands for the key called `name`, so that a request can be tried without the
/// key's own secret. Of several secrets of the name it stands for the last that can be used, else for the last. `None`
/// where there is no such key.
pub fn lent(keys: &KeySet, name: &str, secret: &[u8], now_unix_ms: i64) -> Option<KeySet> {
    let named = || keys.iter().filter(|key| *key.name == *name);
    let usable = named().filter(|key| {
        !key.revoked
            && key.expires_unix_ms.is_none_or(|expires| now_unix_ms < expires.get())
            && key.not_before_unix_ms.is_none_or(|begins| now_unix_ms >= begins.get())
    });
    let key = usable.last().or_else(|| named().last())?.clone();
    let mut lent = keys.clone();
    lent.insert(Digest::of(secret), key).then_some(lent)
}

/// Returns what serde found, without a byte of the text.
fn fault(text: &str, error: &serde_json::Error) -> RequestError {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return RequestError(format!("is not JSON (column {})", error.column()));
    };
    let Value::Object(members) = value else { return RequestError::new("is not a JSON object") };
    for (field, must) in FIELDS {
        let Some(value) = members.get(field) else {
            if matches!(field, "method" | "path") {
                return RequestError(format!("\"{field}\" is missing"));
            }
            continue;
        };
        if !fits(field, value) {
            return RequestError(format!("\"{field}\" must be {must}"));
        }
    }
    let unknown = members.keys().find(|name| FIELDS.iter().all(|(field, _)| field != name));
    let near = unknown.and_then(|name| crate::files::spelling::nearest(name, FIELDS.iter().map(|(field, _)| *field)));
    match (unknown, near) {
        (Some(_), Some(near)) => RequestError(format!("has an unknown field; did you mean \"{near}\"?")),
        (Some(_), None) => {
            let known: Vec<&str> = FIELDS.iter().map(|(field, _)| *field).collect();
            RequestError(format!("has an unknown field; the fields are {}", known.join(", ")))
        }
        (None, _) => RequestError::new("has a field twice"),
    }
}

fn fits(field: &str, value: &Value) -> bool {
    let optional = !matches!(field, "method" | "path" | "headers");
    if optional && value.is_null() {
        return true;
    }
    match field {
        "headers" => value.as_array().is_some_and(|pairs| {
            pairs
                .iter()
                .all(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2 && pair.iter().all(Value::is_string)))
        }),
        "src" => value.as_str().is_some_and(|address| address.parse::<IpAddr>().is_ok()),
        "body_size" => value.is_u64(),
        "usage" => value.as_object().is_some_and(|usage| {
            let known = |(name, value): (&String, &Value)| {
                matches!(name.as_str(), "in" | "out" | "ms") && (value.is_null() || value.is_u64())
            };
            usage.iter().all(known)
        }),
        _ => value.is_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        for (text, expected) in [
            ("hunter2", "is not JSON (column 1)"),
            (r#"["hunter2"]"#, "is not a JSON object"),
            (r#"{"path":"hunter2"}"#, "\"method\" is missing"),
            (r#"{"method":"GET"}"#, "\"path\" is missing"),
            (r#"{"method":7,"path":"hunter2"}"#, "\"method\" must be a string"),
            (r#"{"method":"GET","path":"/","headers":["hunter2"]}"#, "\"headers\" must be a list of pairs of strings"),
            (
                r#"{"method":"GET","path":"/","headers":[["a","hunter2","c"]]}"#,
                "\"headers\" must be a list of pairs of strings",
            ),
            (r#"{"method":"GET","path":"/","src":"hunter2"}"#, "\"src\" must be an IP address"),
            (r#"{"method":"GET","path":"/","body":{"model":"hunter2"}}"#, "\"body\" must be a string"),
            (r#"{"method":"GET","path":"/","body_size":-1}"#, "\"body_size\" must be a whole number"),
            (
                r#"{"method":"GET","path":"/","usage":{"hunter2":1}}"#,
                "\"usage\" must be an object of whole numbers \"in\", \"out\", \"ms\"",
            ),
            (r#"{"method":"GET","path":"/","boddy":"hunter2"}"#, "has an unknown field; did you mean \"body\"?"),
            (r#"{"method":"GET","path":"/","path":"/hunter2"}"#, "has a field twice"),
            (r#"{"method":"GET","path":"/","body":"","body_base64":""}"#, "both \"body\" and \"body_base64\" stand"),
        ] {
            let fault = Request::read(text).err().unwrap();
            assert_eq!(fault.0, expected, "{text}");
        }
        let unknown = Request::read(r#"{"method":"GET","path":"/","hunter2":1}"#).err().unwrap();
        assert!(unknown.0.starts_with("has an unknown field; the fields are method, path,"), "{unknown:?}");
    }

    #[test]
    fn headers_carry_how_often_they_stand_whatever_their_case() {
        let text = r#"{"method":"POST","path":"/x","src":"::1","headers":[["X-Api-Key"," a "],["x-api-key","b"],["Authorization",""],["Content-Encoding","identity"],["content-encoding","GZIP"],["X-User","ann"]],"body":"abc","body_size":9}"#;
        let request = Request::read(text).unwrap();
        let bytes = request.bytes().unwrap();
        let inquiry = request.inquiry(b"1", "x-user", &bytes).unwrap();
        let value = |field: HeaderField<'_>| (field.value.map(|value| value.escape_ascii().to_string()), field.count);
        assert_eq!(value(inquiry.x_api_key), (Some("b".to_owned()), 2));
        assert_eq!(value(inquiry.authorization), (Some(String::new()), 1));
        assert_eq!(value(inquiry.api_key), (None, 0));
        assert_eq!(value(inquiry.on_behalf.field), (Some("ann".to_owned()), 1));
        assert_eq!(inquiry.encoding, Some(&b"GZIP"[..]));
        assert_eq!(inquiry.source, Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert!(matches!(inquiry.body, BodyShown::Bytes { seen: b"abc", size: 9 }));
    }

    #[test]
    fn bodies_and_times_that_cannot_be_are_refused() {
        let read = |rest: &str| format!(r#"{{"method":"POST","path":"/",{rest}}}"#);
        for (rest, expected) in [
            (r#""body_base64":"eyJ9""#, Ok(&b"{\"}"[..])),
            (r#""body_base64":"e*""#, Err("\"body_base64\" is not base64")),
            (r#""body":"abc","body_size":2"#, Err("\"body_size\" is less than the body has")),
            (r#""body":"a\u00e9""#, Ok("a\u{e9}".as_bytes())),
        ] {
            let text = read(rest);
            let request = Request::read(&text).unwrap();
            let found = request.bytes().map(Cow::into_owned).map_err(|fault| fault.0);
            assert_eq!(found, expected.map(<[u8]>::to_vec).map_err(str::to_owned), "{rest}");
        }
        let text = read(r#""at":"yesterday""#);
        assert!(Request::read(&text).unwrap().at_unix_ms().is_err());
        let text = read(r#""at":"1970-01-01T00:00:01Z""#);
        assert_eq!(Request::read(&text).unwrap().at_unix_ms(), Ok(Some(1000)));
    }
}
