//! What a proxy asks: the facts that every ingress must supply, and how an absent fact is written.
//!
//! An adapter fills these fields from what the proxy itself knows (SPOE arguments, nginx variables in headers under
//! names of ours) and never from a header that the client could have set, except for the credentials.

use crate::decision::request::body::{Body, BodyFault};
use std::net::IpAddr;

/// One question: may this request go through, and to which server?
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The proxy's own identifier of the request (`unique-id`, `$request_id`); empty if it sent none.
    pub uid: &'a [u8],
    /// The request method as received, with its case kept.
    pub method: &'a [u8],
    /// The request target exactly as received: nothing is decoded, and it may be in absolute form (HAProxy shows HTTP/2
    /// requests so).
    pub target: &'a [u8],
    /// The address of the client as the proxy sees it; `None` if the proxy does not know it.
    pub source: Option<IpAddr>,
    /// The header `Authorization`.
    pub authorization: HeaderField<'a>,
    /// The header `x-api-key` (Anthropic's clients).
    pub x_api_key: HeaderField<'a>,
    /// The header `api-key` (Azure's clients).
    pub api_key: HeaderField<'a>,
    /// The header that may name a user behind a key, if this proxy passes one on.
    pub on_behalf: OnBehalf<'a>,
    /// The value of `Content-Encoding`, if the request has one.
    pub encoding: Option<&'a [u8]>,
    /// The request body, as far as this ingress can show it.
    pub body: BodyShown<'a>,
}

/// The header by which a key may name a user (`on_behalf_of`). It is read for keys that choose it, and for no other.
#[derive(Clone, Copy, Default, Debug)]
pub struct OnBehalf<'a> {
    /// The name of the header that the proxy passes on, in any case; empty if it passes none.
    pub header: &'a [u8],
    /// The value of that header.
    pub field: HeaderField<'a>,
}

/// A header that may carry a credential: its value and the number of its occurrences in the request.
///
/// The count is separate because proxies show one value even if a request carried two (RFC 9110 section 5.2), and two
/// credentials are refused rather than chosen between.
#[derive(Clone, Copy, Default)]
pub struct HeaderField<'a> {
    /// The value of the (last) occurrence.
    pub value: Option<&'a [u8]>,
    /// The number of occurrences in the request.
    pub count: u32,
}

impl<'a> HeaderField<'a> {
    /// Returns a header that occurs once.
    pub fn once(value: &'a [u8]) -> HeaderField<'a> {
        HeaderField { value: Some(value), count: 1 }
    }

    /// Returns whether the request carried this header at all.
    pub fn is_present(&self) -> bool {
        self.value.is_some() || self.count > 0
    }
}

impl Inquiry<'_> {
    /// Returns whether the request carried any credential header at all.
    pub fn has_credential(&self) -> bool {
        [self.authorization, self.x_api_key, self.api_key].iter().any(HeaderField::is_present)
    }
}

impl std::fmt::Debug for HeaderField<'_> {
    /// Never shows the value: it may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Field({} occurrence(s), {})", self.count, if self.value.is_some() { "redacted" } else { "absent" })
    }
}

/// How much of the body the ingress can show.
#[derive(Clone, Copy)]
pub enum BodyShown<'a> {
    /// The bytes that the proxy has, and the size that it announced. If `seen.len() < size`, the bytes are a prefix,
    /// which is never decided on.
    Bytes {
        /// The bytes at hand.
        seen: &'a [u8],
        /// The size of the whole body in bytes, as far as the proxy knows it.
        size: u64,
    },
    /// The ingress pushed the whole body through a [`crate::decision::request::body::BodyReader`] while it arrived.
    Read(&'a Result<Body, BodyFault>),
    /// The body was larger than this ingress reads.
    TooLarge,
    /// This ingress never sees bodies (nginx `auth_request`).
    Hidden,
}

impl std::fmt::Debug for BodyShown<'_> {
    /// Never shows the bytes: prompts are private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BodyShown::Bytes { seen, size } => write!(f, "Bytes({} of {size})", seen.len()),
            BodyShown::Read(result) => write!(f, "Read({})", if result.is_ok() { "ok" } else { "fault" }),
            BodyShown::TooLarge => f.write_str("TooLarge"),
            BodyShown::Hidden => f.write_str("Hidden"),
        }
    }
}
