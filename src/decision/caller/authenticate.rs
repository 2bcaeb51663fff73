//! Step 2: finds out who is calling.
//!
//! Scheme. A request has exactly one credential header, exactly once: `Authorization: Bearer`, `x-api-key` or
//! `api-key`. Two credentials are refused and never chosen between, because the proxy, herdgate and a server could each
//! choose another one. The credential is hashed and looked up (see `keyset`); unknown, expired and revoked API keys
//! take the same path and get the same answer. Only a request without any credential can be anonymous: a wrong key is
//! never treated as no key. If issuers are configured, a credential that has the shape of a JWT is judged by them alone
//! (see `token`), never by the API keys.

use super::keyset::Key;
use super::network::Network;
use super::on_behalf;
use super::token::jws::is_token_shaped;
use super::token::{self, TokenFault, TokenProver};
use crate::decision::inquiry::{HeaderField, Inquiry};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Scope, UserScopes};
use crate::decision::plan::policy::{Anonymous, Plan, PlanIndex, Team};
use crate::decision::reason::Reason;
use crate::decision::view::View;
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{tag_no_case, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{all_consuming, recognize};

/// Longest credential that is examined, in bytes. JWTs of large identity providers reach a few KiB.
pub const CREDENTIAL_MAX: usize = 8 * 1024;

/// An identified caller and its plan.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'v> {
    /// The API key's name, the issuer of its JWT, or `anonymous`.
    pub name: &'v str,
    /// The plan that says what the caller may do.
    pub plan: &'v Plan,
    /// The position of the plan in the policy.
    pub plan_index: PlanIndex,
    /// The plan whose limits apply to the caller: its own, unless its key has a temporary plan (`key raise`).
    pub held_to: &'v Plan,
    /// The scope under which its usage is counted.
    pub scope: Scope,
    /// The evidence of its identity, and what else limits it.
    pub identity: Identity<'v>,
}

/// The evidence by which a caller is identified.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'v> {
    /// An API key.
    Key {
        /// The key.
        key: &'v Key,
        /// Which of the key's secrets was presented: [`Digest::fingerprint`](super::keyset::Digest::fingerprint).
        fingerprint: u64,
        /// The team to which the key belongs, and the plan whose limits the team shares.
        team: Option<(&'v Team, &'v Plan)>,
        /// The user on whose behalf the key asks, and the plan whose limits apply to each user.
        user: Option<(UserScopes, &'v Plan)>,
    },
    /// A proven JWT; [`token::TokenUser`] says whose it is.
    Token {
        /// The team that its claims lead to, and the plan whose limits the team shares.
        team: Option<(&'v Team, &'v Plan)>,
    },
    /// The network of the client only.
    Anonymous(&'v Anonymous),
}

impl Caller<'_> {
    /// Returns the temporary plan whose limits apply to the caller's key, if it has one.
    pub fn raised(&self) -> Option<&Plan> {
        (!std::ptr::eq(self.held_to, self.plan)).then_some(self.held_to)
    }

    /// Returns the user on whose behalf the caller's key asks.
    pub fn user(&self) -> Option<UserScopes> {
        match self.identity {
            Identity::Key { user, .. } => user.map(|(user, _)| user),
            Identity::Token { .. } | Identity::Anonymous(_) => None,
        }
    }

    /// Returns the team to which the caller belongs.
    pub fn team(&self) -> Option<&Team> {
        match self.identity {
            Identity::Key { team, .. } | Identity::Token { team } => team.map(|(team, _)| team),
            Identity::Anonymous(_) => None,
        }
    }
}

/// A refusal: no caller was found who may call.
#[derive(Debug, Clone)]
pub struct Turned<'v> {
    /// The reason for the refusal.
    pub reason: Reason,
    /// The key, if it is known: the log says whose key was used after its end.
    pub key: Option<&'v Key>,
}

impl From<Reason> for Turned<'_> {
    fn from(reason: Reason) -> Self {
        Turned { reason, key: None }
    }
}

/// Finds the caller, and the user that its JWT names.
///
/// # Errors
/// A [`Turned`] with the reason, if the credential is missing, malformed, ambiguous or unknown, or its owner may not
/// call now.
pub fn authenticate<'v>(
    view: &'v View,
    inquiry: &Inquiry<'_>,
    tokens: &dyn TokenProver,
    now: Moment,
) -> Result<(Caller<'v>, Option<token::TokenUser>), Turned<'v>> {
    if !inquiry.has_credential() {
        return Ok((anonymous(view, inquiry)?, None));
    }
    let secret = credential(inquiry)?;
    if !view.policy.issuers.is_empty() && is_token_shaped(secret) {
        let user = tokens.prove(view, secret, now).map_err(Reason::Token)?;
        return Ok((token_caller(view, &user, now)?, Some(user)));
    }
    let (key, fingerprint) = view.keys.find(secret).ok_or(Reason::UnknownKey)?;
    match admitted(view, key, fingerprint, inquiry, now) {
        Ok(caller) => Ok((caller, None)),
        Err(reason) => Err(Turned { reason, key: Some(key) }),
    }
}

/// Returns the caller of a proven JWT.
fn token_caller<'v>(view: &'v View, user: &token::TokenUser, now: Moment) -> Result<Caller<'v>, Reason> {
    let plan_index = user.token.plan;
    let issuer = view.policy.issuers.get(usize::from(user.token.issuer)).ok_or(Reason::Token(TokenFault::NoPlan))?;
    let plan = view.plan(plan_index).ok_or(Reason::Token(TokenFault::NoPlan))?;
    if view.blocks.holds_user(user.token.user.as_bytes(), now) {
        return Err(Reason::Blocked);
    }
    let team = match &user.token.team {
        None => None,
        Some(name) => {
            let team = view.policy.teams.iter().find(|team| team.name == *name).ok_or(Reason::UnknownTeam)?;
            Some((team, view.plan(team.plan).ok_or(Reason::UnknownPlan)?))
        }
    };
    let identity = Identity::Token { team };
    Ok(Caller { name: &issuer.name, plan, plan_index, held_to: plan, scope: user.scope, identity })
}

/// Returns the caller to whom a known key belongs, if the key may call now.
fn admitted<'v>(
    view: &'v View,
    key: &'v Key,
    fingerprint: u64,
    inquiry: &Inquiry<'_>,
    now: Moment,
) -> Result<Caller<'v>, Reason> {
    if key.revoked {
        return Err(Reason::RevokedKey);
    }
    if key.expires_unix_ms.is_some_and(|expires| now.unix_ms >= expires.get()) {
        return Err(Reason::ExpiredKey);
    }
    if key.not_before_unix_ms.is_some_and(|begins| now.unix_ms < begins.get()) {
        return Err(Reason::EarlyKey);
    }
    if view.blocks.holds_key(key.scope, now) {
        return Err(Reason::Blocked);
    }
    let (plan_index, plan) = view.plan_of(key).ok_or(Reason::UnknownPlan)?;
    let team = match key.team {
        None => None,
        Some(position) => {
            let team = view.team_at(position).ok_or(Reason::UnknownTeam)?;
            Some((team, view.plan(team.plan).ok_or(Reason::UnknownPlan)?))
        }
    };
    let user = match &key.on_behalf {
        None => None,
        Some(behalf) => {
            let name = on_behalf::name(&behalf.header, &inquiry.on_behalf)?;
            if view.blocks.holds_user(name.as_bytes(), now) {
                return Err(Reason::Blocked);
            }
            let (_, plan) = view.plan_at(behalf.plan).ok_or(Reason::UnknownPlan)?;
            // An absent name is a user of its own, whose name no client can write.
            let shared = Scope::of_user(key.scope, &[]);
            let scope = if name.is_empty() { shared } else { Scope::of_user(key.scope, name.as_bytes()) };
            Some((UserScopes { key: key.scope, scope, shared }, plan))
        }
    };
    Ok(Caller {
        name: &key.name,
        plan,
        plan_index,
        held_to: view.raised(key, now).unwrap_or(plan),
        scope: key.scope,
        identity: Identity::Key { key, fingerprint, team, user },
    })
}

/// Returns the caller of a request without any credential, which is identified by its network, if the configuration has
/// a plan for that.
fn anonymous<'v>(view: &'v View, inquiry: &Inquiry<'_>) -> Result<Caller<'v>, Reason> {
    let all = view.policy.anonymous.as_ref().ok_or(Reason::NoCredential)?;
    let plan = view.plan(all.plan).ok_or(Reason::UnknownPlan)?;
    let scope = Network::of(inquiry.source).scope();
    let identity = Identity::Anonymous(all);
    Ok(Caller { name: "anonymous", plan, plan_index: all.plan, held_to: plan, scope, identity })
}

/// Returns the one credential of a request.
fn credential<'a>(inquiry: &Inquiry<'a>) -> Result<&'a [u8], Reason> {
    let fields = [inquiry.authorization, inquiry.x_api_key, inquiry.api_key];
    let mut present = fields.iter().filter(|field| field.is_present());
    let Some(field) = present.next() else { return Err(Reason::NoCredential) };
    if present.next().is_some() || field.count != 1 {
        return Err(Reason::SeveralCredentials);
    }
    let HeaderField { value: Some(value), .. } = *field else { return Err(Reason::MalformedCredential) };
    if value.len() > CREDENTIAL_MAX {
        return Err(Reason::MalformedCredential);
    }
    let parsed = if inquiry.authorization.is_present() { bearer(value) } else { all_consuming(b64token).parse(value) };
    parsed.map(|(_, token)| token).map_err(|_| Reason::MalformedCredential)
}

/// Parses `Bearer` SP b64token (RFC 6750 section 2.1), with the scheme in any case (RFC 9110 section 11.1) and exactly
/// one space.
fn bearer(value: &[u8]) -> IResult<&[u8], &[u8]> {
    let (token, _) = (tag_no_case("Bearer"), char(' ')).parse(value)?;
    all_consuming(b64token).parse(token)
}

/// Parses b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
fn b64token(value: &[u8]) -> IResult<&[u8], &[u8]> {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    recognize((take_while1(symbol), take_while(|byte| byte == b'='))).parse(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::inquiry::{BodyShown, OnBehalf};

    /// Checks what three credential headers (each a list of values) yield: the credential, or the reason for a refusal.
    fn check(authorization: &[&[u8]], x_api_key: &[&[u8]], api_key: &[&[u8]], expected: Result<&str, Reason>) {
        let field = |values: &[&'static [u8]]| HeaderField {
            value: values.last().copied(),
            count: u32::try_from(values.len()).unwrap(),
        };
        let leak = |values: &[&[u8]]| -> Vec<&'static [u8]> {
            values.iter().map(|value| &*Box::leak(value.to_vec().into_boxed_slice())).collect()
        };
        let inquiry = Inquiry {
            uid: b"",
            method: b"GET",
            target: b"/",
            source: None,
            authorization: field(&leak(authorization)),
            x_api_key: field(&leak(x_api_key)),
            api_key: field(&leak(api_key)),
            on_behalf: OnBehalf::default(),
            encoding: None,
            body: BodyShown::Hidden,
        };
        let found = credential(&inquiry).map(|token| String::from_utf8(token.to_vec()).unwrap());
        assert_eq!(found, expected.map(str::to_owned), "{authorization:?} {x_api_key:?} {api_key:?}");
    }

    #[test]
    fn exactly_one_well_formed_credential_is_read() {
        check(&[b"Bearer hg_abc"], &[], &[], Ok("hg_abc"));
        check(&[b"bEARER hg_abc=="], &[], &[], Ok("hg_abc=="));
        check(&[], &[b"hg_abc"], &[], Ok("hg_abc"));
        check(&[], &[], &[b"hg_abc"], Ok("hg_abc"));
        check(&[], &[], &[], Err(Reason::NoCredential));
    }

    #[test]
    fn malformed_credentials_are_refused() {
        let long = [b"Bearer ".as_slice(), &[b'a'; CREDENTIAL_MAX]].concat();
        for value in [
            b"".as_slice(),
            b"Bearer",
            b"Bearer ",
            b"Bearer  hg_abc",
            b"Bearer\thg_abc",
            b" Bearer hg_abc",
            b"Bearer hg_abc ",
            b"Bearer \"hg_abc\"",
            b"Bearer hg_abc, Bearer hg_def",
            b"Bearer hg=abc",
            b"Bearer hg_\xff",
            b"Bearer h\0g",
            b"Basic aGc6YWJj",
            b"hg_abc",
            &long,
        ] {
            check(&[value], &[], &[], Err(Reason::MalformedCredential));
        }
        check(&[], &[b""], &[], Err(Reason::MalformedCredential));
        check(&[], &[b"hg_a b"], &[], Err(Reason::MalformedCredential));
    }

    #[test]
    fn two_credentials_are_refused_even_when_they_agree() {
        check(&[b"Bearer a", b"Bearer a"], &[], &[], Err(Reason::SeveralCredentials));
        check(&[b"Bearer a"], &[b"a"], &[], Err(Reason::SeveralCredentials));
        check(&[], &[b"a"], &[b"a"], Err(Reason::SeveralCredentials));
        check(&[], &[b"a", b"b"], &[], Err(Reason::SeveralCredentials));
        check(&[b"Bearer a"], &[b"a"], &[b"a"], Err(Reason::SeveralCredentials));
    }
}
