//! An issuer as the configuration describes it (`[[issuer]]`), and the plan that its claims lead to.

use super::claims::Claims;
use crate::decision::plan::limits::Scope;
use crate::decision::plan::policy::PlanIndex;
use jsonwebtoken::Algorithm;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Longest user name shown in a log, in characters.
const SHOWN_MAX: usize = 128;

/// An issuer whose JWTs are accepted.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The exact `iss` of its JWTs.
    pub name: Arc<str>,
    /// The `aud` that a JWT must carry.
    pub audience: Box<str>,
    /// The signature algorithms that are accepted from it.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the user.
    pub user_claim: Box<str>,
    /// The plan of users to whom no rule applies; `None` refuses them.
    pub plan: Option<PlanIndex>,
    /// The rules, of which the first that applies decides.
    pub rules: Vec<Rule>,
    /// Most users whose usage is counted separately; further users share one scope.
    pub max_users: u32,
}

/// A rule that gives a plan to the users with a certain claim (`[[issuer.rule]]`).
#[derive(Debug, Clone)]
pub struct Rule {
    /// The name of the claim.
    pub claim: Box<str>,
    /// The value of the claim, or one of its values.
    pub value: Box<str>,
    /// The plan of those users.
    pub plan: PlanIndex,
    /// The team of those users.
    pub team: Option<Arc<str>>,
}

impl Issuer {
    /// Returns the plan and team that claims lead to.
    pub fn assign(&self, claims: &Claims) -> Option<(PlanIndex, Option<Arc<str>>)> {
        let fits = |rule: &&Rule| claims.has(&rule.claim, &rule.value);
        match self.rules.iter().find(fits) {
            Some(rule) => Some((rule.plan, rule.team.clone())),
            None => Some((self.plan?, None)),
        }
    }
}

/// Returns the scope of one user of an issuer.
pub fn user_scope(issuer: &str, user: &str) -> Scope {
    scope(b"jwt\0", issuer, user)
}

/// Returns the scope that users share who came when all places were taken.
pub fn shared_scope(issuer: &str) -> Scope {
    scope(b"jwt-shared\0", issuer, "")
}

/// A zero byte separates the parts: an issuer's name, which comes from the configuration, contains none.
fn scope(kind: &[u8], issuer: &str, user: &str) -> Scope {
    let hash = Sha256::new().chain_update(kind).chain_update(issuer).chain_update([0]).chain_update(user);
    let digest: [u8; 32] = hash.finalize().into();
    let mut head = [0; 16];
    head.copy_from_slice(&digest[..16]);
    Scope(u128::from_be_bytes(head))
}

/// Returns a user's name as a log may show it.
pub fn printable(user: &str) -> Box<str> {
    user.escape_debug().take(SHOWN_MAX).collect()
}
