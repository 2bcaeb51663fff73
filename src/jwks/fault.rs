//! Why a key set could not be taken up: a closed set, so that it may be a label.

use crate::decision::caller::token::ring::RingFault;

/// Why a fetch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum FetchFault {
    /// The certificates or the proxy of the configuration cannot be used.
    Settings,
    /// An address that no key set is fetched from.
    Address,
    /// No connection, or no TLS.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// A redirect, which is not followed.
    Redirect,
    /// A status other than 200.
    Status,
    /// Something other than JSON.
    ContentType,
    /// Too large.
    TooLarge,
    /// The answer broke off.
    Body,
    /// The discovery document is not the issuer's, or names no usable `jwks_uri`.
    Discovery,
    /// No JWK set.
    Malformed,
    /// Too many keys.
    TooMany,
    /// The same `kid` twice.
    DuplicateKid,
    /// No usable key.
    Empty,
}

impl FetchFault {
    /// Every fault, for metrics.
    pub const ALL: [FetchFault; 14] = [
        FetchFault::Settings,
        FetchFault::Address,
        FetchFault::Connect,
        FetchFault::Timeout,
        FetchFault::Redirect,
        FetchFault::Status,
        FetchFault::ContentType,
        FetchFault::TooLarge,
        FetchFault::Body,
        FetchFault::Discovery,
        FetchFault::Malformed,
        FetchFault::TooMany,
        FetchFault::DuplicateKid,
        FetchFault::Empty,
    ];

    /// Returns the label.
    pub fn as_str(self) -> &'static str {
        match self {
            FetchFault::Settings => "settings",
            FetchFault::Address => "address",
            FetchFault::Connect => "connect",
            FetchFault::Timeout => "timeout",
            FetchFault::Redirect => "redirect",
            FetchFault::Status => "status",
            FetchFault::ContentType => "content_type",
            FetchFault::TooLarge => "too_large",
            FetchFault::Body => "body",
            FetchFault::Discovery => "discovery",
            FetchFault::Malformed => "malformed",
            FetchFault::TooMany => "too_many",
            FetchFault::DuplicateKid => "duplicate_kid",
            FetchFault::Empty => "empty",
        }
    }
}

/// A fetch that failed: why, and what may be logged of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
pub struct FetchError {
    /// The kind of failure.
    pub fault: FetchFault,
    /// What may be logged besides; empty where the kind says all.
    pub detail: String,
}

impl FetchError {
    /// Returns an error of this kind.
    pub fn new(fault: FetchFault, detail: impl Into<String>) -> FetchError {
        FetchError { fault, detail: detail.into() }
    }
}

impl From<RingFault> for FetchFault {
    fn from(fault: RingFault) -> FetchFault {
        match fault {
            RingFault::Malformed => FetchFault::Malformed,
            RingFault::TooMany => FetchFault::TooMany,
            RingFault::DuplicateKid => FetchFault::DuplicateKid,
            RingFault::Empty => FetchFault::Empty,
        }
    }
}
