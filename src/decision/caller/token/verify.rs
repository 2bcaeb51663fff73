//! The proof of a JWT, from its text to its user.

use super::claims::Claims;
use super::jws::Jws;
use super::{MissingKey, STALE_NS, TokenFault, TokenProver, TokenRejection, TokenUser, VerifiedToken, issuer};
use crate::decision::moment::Moment;
use crate::decision::view::View;
use std::sync::Arc;

/// A prover that proves every JWT anew, and gives every user a scope of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Afresh;

impl TokenProver for Afresh {
    fn prove(&self, view: &View, token: &[u8], now: Moment) -> Result<TokenUser, TokenFault> {
        let token = verify(view, token, now).map_err(|rejected| rejected.fault)?;
        Ok(TokenUser { scope: token.scope, token: Arc::new(token) })
    }
}

/// Proves a JWT with the issuers and key sets of a View.
///
/// # Errors
/// The reason for which the JWT does not hold, and the key that was missing if that is the reason.
pub fn verify(view: &View, token: &[u8], now: Moment) -> Result<VerifiedToken, TokenRejection> {
    let jws = Jws::read(token)?;
    let claims = Claims::read(&jws.payload)?;
    let iss = claims.issuer()?;
    let position = view.policy.issuers.iter().position(|issuer| *issuer.name == *iss);
    let (position, issuer) = position
        .and_then(|position| Some((u16::try_from(position).ok()?, view.policy.issuers.get(position)?)))
        .ok_or(TokenFault::UnknownIssuer)?;
    if !issuer.algorithms.contains(&jws.header.algorithm) {
        return Err(TokenFault::Algorithm.into());
    }
    let loaded = view.rings.get(&issuer.name).ok_or(TokenFault::NoKeys)?;
    let stale_ns = loaded.confirmed_ns.saturating_add(STALE_NS);
    if now.mono_ns >= stale_ns {
        return Err(TokenFault::NoKeys.into());
    }
    let kid = jws.header.kid.as_deref();
    let Some(key) = loaded.ring.find(kid, jws.header.algorithm) else {
        // A key that is present but not for this algorithm will not be for it after another fetch either.
        let missing = kid.filter(|kid| !loaded.ring.has(kid));
        let missing = missing.map(|kid| MissingKey { issuer: issuer.name.clone(), kid: kid.into() });
        return Err(TokenRejection { fault: TokenFault::UnknownKid, missing });
    };
    if !key.verifies(&jws) {
        return Err(TokenFault::Signature.into());
    }
    let expires_unix_ms = claims.hold(&issuer.audience, now.unix_ms)?;
    let user = claims.user(&issuer.user_claim)?;
    let (plan, team) = issuer.assign(&claims).ok_or(TokenFault::NoPlan)?;
    Ok(VerifiedToken {
        issuer: position,
        user: issuer::printable(user).into(),
        scope: issuer::user_scope(&issuer.name, user),
        plan,
        team,
        expires_unix_ms,
        stale_ns,
    })
}
