//! JSON Web Tokens: to whom a JWT belongs, decided by the key sets of the View. Pure: no fetch, no clock, no memory.
//!
//! Scheme (RFC 7515, 7519, 8725 and its draft successor). A JWT is read in this order, and the first doubt refuses it:
//! 1. Shape and header (`jws`): three base64url parts without slack bits, a header without duplicate members, an
//!    asymmetric `alg`, no `crit`, `b64` or `zip`, a `typ` of an access or identity token. `jku`, `x5u`, `jwk` and
//!    `x5c` are never used: a key comes from the issuer's set or not at all.
//! 2. `iss`, still unproven, selects one configured issuer by exact comparison; nothing else is taken from it.
//! 3. The issuer's own list must contain the algorithm, and its own key set (`ring`) must contain the key of this `kid`
//!    for this algorithm. So a key of one issuer never speaks for another, and no key is used with an algorithm that is
//!    not its own.
//! 4. The signature must verify (aws-lc, through `jsonwebtoken`).
//! 5. The claims (`claims`) `exp`, `iss`, `aud`, `sub` and the user claim must be present and of their types.
//! 6. The rules of the issuer select the plan.
//!
//! Every failure gets one answer, 401, as an unknown API key does; only the log says which failure it was.

pub mod claims;
pub mod fault;
pub mod issuer;
pub mod jws;
pub mod members;
pub mod ring;
pub mod rings;
mod roca;
pub mod verify;

pub use fault::TokenFault;
pub use issuer::{Issuer, Rule};
pub use ring::Ring;
pub use rings::{FetchStatus, LoadedRing, Rings};

use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scope;
use crate::decision::plan::policy::PlanIndex;
use crate::decision::view::View;
use std::sync::Arc;

/// Longest time for which a key set is used after the issuer last confirmed it, in nanoseconds: a day.
pub const STALE_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// A proven JWT: for whom it speaks, and how long that may be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The issuer: a position in the policy's `issuers`.
    pub issuer: u16,
    /// The user as a log may show it: printable, at most 128 characters.
    pub user: Arc<str>,
    /// The scope under which the user's own usage is counted.
    pub scope: Scope,
    /// The plan that the claims lead to.
    pub plan: PlanIndex,
    /// The team that the claims lead to.
    pub team: Option<Arc<str>>,
    /// Milliseconds since 1970 from which the JWT has expired, including leeway.
    pub expires_unix_ms: i64,
    /// Monotonic nanoseconds from which the key that proved it is too old.
    pub stale_ns: u64,
}

impl VerifiedToken {
    /// Returns whether the proof still holds.
    pub fn holds(&self, now: Moment) -> bool {
        now.unix_ms < self.expires_unix_ms && now.mono_ns < self.stale_ns
    }
}

/// A proven caller, and the scope under which its requests are counted: its own, or one that it shares with others
/// (`max_users`).
#[derive(Debug, Clone)]
pub struct TokenUser {
    /// The facts that the JWT proved.
    pub token: Arc<VerifiedToken>,
    /// The scope under which its usage is counted.
    pub scope: Scope,
}

/// The refusal of a JWT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRejection {
    /// The reason for the refusal.
    pub fault: TokenFault,
    /// The key that the issuer's set lacks, which is a reason to fetch the set again.
    pub missing: Option<MissingKey>,
}

/// A key that an issuer's set lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// The `kid` that the JWT names.
    pub kid: Box<str>,
}

impl From<TokenFault> for TokenRejection {
    fn from(fault: TokenFault) -> TokenRejection {
        TokenRejection { fault, missing: None }
    }
}

/// A prover of JWTs for decisions. [`Afresh`](verify::Afresh) is the definition; any other must give the same answers,
/// only sooner, or with a shared scope in place of a user's own.
pub trait TokenProver {
    /// Proves a JWT.
    ///
    /// # Errors
    /// The reason for which the JWT does not hold.
    fn prove(&self, view: &View, token: &[u8], now: Moment) -> Result<TokenUser, TokenFault>;
}
