//! The claims of a JWT (RFC 7519 section 4), each of its own type or refused.
//!
//! A claim of a wrong type is never treated as absent (jsonwebtoken CVE-2026-25537). Times are whole seconds;
//! fractions, which RFC 7519 would allow, are refused, since readers round them differently.

use super::fault::TokenFault;
use super::members::Members;
use serde_json::Value;

/// Seconds by which the issuer's clock may differ from ours.
pub const LEEWAY_S: i64 = 30;

/// Longest lifetime of a JWT from its `iat` (or from now, if it has none) to its `exp`, in seconds: a day.
pub const LIFETIME_S: i64 = 86_400;

/// Longest name of a user, in bytes.
pub const USER_MAX: usize = 256;

/// The claims of a JWT.
#[derive(Debug)]
pub struct Claims(Members);

impl Claims {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`TokenFault::Malformed`] if it is not a JSON object, or has a member twice.
    pub fn read(payload: &[u8]) -> Result<Claims, TokenFault> {
        serde_json::from_slice(payload).map(Claims).map_err(|_| TokenFault::Malformed)
    }

    /// Returns the value of `iss`.
    ///
    /// # Errors
    /// [`TokenFault::Claim`] if it is not a string.
    pub fn issuer(&self) -> Result<&str, TokenFault> {
        self.0.get("iss").and_then(Value::as_str).ok_or(TokenFault::Claim("token_claim_iss"))
    }

    /// Checks that the JWT is meant for `audience` and valid at `unix_ms`. Returns the end of its validity, including
    /// leeway, in milliseconds since 1970.
    ///
    /// # Errors
    /// The fault of the first claim that does not hold.
    pub fn hold(&self, audience: &str, unix_ms: i64) -> Result<i64, TokenFault> {
        let fault = TokenFault::Claim("token_claim_aud");
        let listed = match self.0.get("aud").ok_or(fault)? {
            Value::String(one) => one == audience,
            Value::Array(many) if many.iter().all(Value::is_string) => many.iter().any(|one| one == audience),
            _ => return Err(fault),
        };
        if !listed {
            return Err(TokenFault::Audience);
        }
        let sub = self.0.get("sub").and_then(Value::as_str).ok_or(TokenFault::Claim("token_claim_sub"))?;
        if sub.is_empty() {
            return Err(TokenFault::Claim("token_claim_sub"));
        }
        let expires = self.seconds("exp", "token_claim_exp")?.ok_or(TokenFault::Claim("token_claim_exp"))?;
        let begins = self.seconds("nbf", "token_claim_nbf")?;
        let issued = self.seconds("iat", "token_claim_iat")?;
        let now = unix_ms.div_euclid(1000);
        let ends = expires.saturating_add(LEEWAY_S);
        if now >= ends {
            return Err(TokenFault::Expired);
        }
        let latest = now.saturating_add(LEEWAY_S);
        if begins.is_some_and(|begins| begins > latest) || issued.is_some_and(|issued| issued > latest) {
            return Err(TokenFault::Early);
        }
        if expires.saturating_sub(issued.unwrap_or(now)) > LIFETIME_S {
            return Err(TokenFault::Lifetime);
        }
        Ok(ends.saturating_mul(1000))
    }

    /// Returns the user: the value of the claim that the configuration names. An `email` that the issuer says it has
    /// not verified is refused.
    ///
    /// # Errors
    /// [`TokenFault::Claim`] if it is not a string, is empty, or is longer than [`USER_MAX`].
    pub fn user(&self, claim: &str) -> Result<&str, TokenFault> {
        let unproven = claim == "email" && self.0.get("email_verified").is_some_and(|verified| verified != true);
        match self.value(claim).and_then(Value::as_str) {
            Some(user) if !user.is_empty() && user.len() <= USER_MAX && !unproven => Ok(user),
            _ => Err(TokenFault::Claim("token_claim_user")),
        }
    }

    /// Returns whether a claim is this string, or a list that contains it.
    pub fn has(&self, claim: &str, value: &str) -> bool {
        match self.value(claim) {
            Some(Value::String(one)) => one == value,
            Some(Value::Array(many)) => many.iter().any(|one| one == value),
            _ => false,
        }
    }

    /// Returns a claim by its name or, if there is none of that name, by following its dots (`realm_access.roles`).
    fn value(&self, claim: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(claim) {
            return Some(value);
        }
        let mut steps = claim.split('.');
        let first = self.0.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.as_object()?.get(step))
    }

    /// Returns a point in time, in seconds since 1970; `None` if it is absent.
    fn seconds(&self, claim: &str, fault: &'static str) -> Result<Option<i64>, TokenFault> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(seconds) if seconds >= 0 => Ok(Some(seconds)),
                _ => Err(TokenFault::Claim(fault)),
            },
        }
    }
}
