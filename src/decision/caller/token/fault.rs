//! The reasons for which a JWT is refused. They are for the log alone: the client sees no difference.

/// The first fault that was found in a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// It is not three parts of base64url, or the parts are not JSON objects, or it is too long.
    Malformed,
    /// The header has a member twice, or one of a wrong type.
    Header,
    /// The header asks for something that must be understood and is not: `crit`, `b64`, `zip`, `cty`.
    Critical,
    /// The `typ` is that of another kind of token.
    Type,
    /// The algorithm is not one that this issuer may use.
    Algorithm,
    /// No such issuer is configured.
    UnknownIssuer,
    /// The issuer's keys were never fetched, or too long ago.
    NoKeys,
    /// The issuer's set has no key of this `kid` for this algorithm.
    UnknownKid,
    /// The signature does not match.
    Signature,
    /// A required claim is absent, or a claim is of a wrong type.
    Claim(&'static str),
    /// It is meant for another audience.
    Audience,
    /// It is past its `exp`.
    Expired,
    /// Its `nbf` or `iat` lies in the future.
    Early,
    /// Its lifetime is longer than a JWT may have.
    Lifetime,
    /// No rule gives its user a plan, and the issuer has none.
    NoPlan,
}

impl TokenFault {
    /// Returns a short fixed name for the log. The set of names is closed.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenFault::Malformed => "token_malformed",
            TokenFault::Header => "token_header",
            TokenFault::Critical => "token_critical",
            TokenFault::Type => "token_type",
            TokenFault::Algorithm => "token_algorithm",
            TokenFault::UnknownIssuer => "token_unknown_issuer",
            TokenFault::NoKeys => "token_no_keys",
            TokenFault::UnknownKid => "token_unknown_kid",
            TokenFault::Signature => "token_signature",
            TokenFault::Claim(claim) => claim,
            TokenFault::Audience => "token_audience",
            TokenFault::Expired => "token_expired",
            TokenFault::Early => "token_early",
            TokenFault::Lifetime => "token_lifetime",
            TokenFault::NoPlan => "token_no_plan",
        }
    }
}
