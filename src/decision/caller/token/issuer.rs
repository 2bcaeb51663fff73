//! What the configuration says of an issuer (`[[issuer]]`), and how its claims lead to a plan.

use super::claims::Claims;
use crate::decision::plan::limits::Scope;
use crate::decision::plan::policy::PlanIndex;
use jsonwebtoken::Algorithm;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Longest user shown in a log, in characters.
const SHOWN_MAX: usize = 128;

/// An issuer whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The exact `iss` of its tokens.
    pub name: Arc<str>,
    /// The `aud` that a token must carry.
    pub audience: Box<str>,
    /// Signature algorithms accepted from it.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the user.
    pub user_claim: Box<str>,
    /// The plan of users that no rule takes; `None` refuses them.
    pub plan: Option<PlanIndex>,
    /// The first that fits decides.
    pub rules: Vec<Rule>,
    /// Most users with books of their own; those past it share one.
    pub max_users: u32,
}

/// A plan for the users with one claim (`[[issuer.rule]]`).
#[derive(Debug, Clone)]
pub struct Rule {
    /// The claim.
    pub claim: Box<str>,
    /// Its value, or one of its values.
    pub value: Box<str>,
    /// The plan.
    pub plan: PlanIndex,
    /// The team.
    pub team: Option<Arc<str>>,
}

impl Issuer {
    /// The plan and team that claims lead to.
    pub fn assign(&self, claims: &Claims) -> Option<(PlanIndex, Option<Arc<str>>)> {
        let fits = |rule: &&Rule| claims.has(&rule.claim, &rule.value);
        match self.rules.iter().find(fits) {
            Some(rule) => Some((rule.plan, rule.team.clone())),
            None => Some((self.plan?, None)),
        }
    }
}

/// The books of one user of an issuer.
pub fn user_scope(issuer: &str, user: &str) -> Scope {
    scope(b"jwt\0", issuer, user)
}

/// The books that users share who came when all places were taken.
pub fn shared_scope(issuer: &str) -> Scope {
    scope(b"jwt-shared\0", issuer, "")
}

/// A zero byte separates: an issuer, from the configuration, has none.
fn scope(kind: &[u8], issuer: &str, user: &str) -> Scope {
    let hash = Sha256::new().chain_update(kind).chain_update(issuer).chain_update([0]).chain_update(user);
    let digest: [u8; 32] = hash.finalize().into();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    Scope(u128::from_be_bytes(head))
}

/// A user as a log may show it.
pub fn printable(user: &str) -> Box<str> {
    user.escape_debug().take(SHOWN_MAX).collect()
}
