//! Why a token is refused. For the log alone: the client is told no difference.

/// The first thing that was wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// Not three parts of base64url, or parts that are not JSON objects, or too long.
    Malformed,
    /// The header has a member twice, or one of a wrong type.
    Header,
    /// The header asks for something that must be understood and is not: `crit`, `b64`, `zip`, `cty`.
    Critical,
    /// The `typ` is that of another kind of token.
    Type,
    /// The algorithm is none that this issuer may use.
    Algorithm,
    /// No such issuer is configured.
    UnknownIssuer,
    /// The issuer's keys were never fetched, or too long ago.
    NoKeys,
    /// The issuer's set has no key of this `kid` for this algorithm.
    UnknownKid,
    /// The signature does not fit.
    Signature,
    /// A required claim is absent, or a claim is of a wrong type.
    Claim(&'static str),
    /// It is for somebody else.
    Audience,
    /// It is past its `exp`.
    Expired,
    /// Its `nbf` or `iat` lies ahead.
    Early,
    /// It would live longer than tokens may.
    Lifetime,
    /// No rule gives its user a plan, and the issuer has none.
    NoPlan,
}

impl TokenFault {
    /// A short fixed name for the log; a closed set.
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
