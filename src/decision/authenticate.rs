//! Step 2: who is calling.
//!
//! Scheme. Exactly one credential header, exactly once: `Authorization: Bearer`, `x-api-key` or `api-key`. Two credentials
//! are refused and never chosen between, because the proxy, herdgate and a server could each choose another one. What is
//! presented is hashed and looked up (see `keyset`); unknown, expired and revoked keys take the same path and get the same
//! answer. Where issuers are configured, what has the shape of a token goes to them (see `token`) and to the keys never.

use super::inquiry::{Field, Inquiry};
use super::keyset::Digest;
use super::limits::Scope;
use super::moment::Moment;
use super::policy::{Plan, PlanIndex};
use super::token::jws::is_token_shaped;
use super::token::{TokenFault, Tokens, User};
use super::verdict::Reason;
use super::view::View;
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{tag_no_case, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{all_consuming, recognize};
use sha2::{Digest as _, Sha256};

/// Longest credential looked at, in bytes. JWTs of large identity providers reach a few KiB.
pub const CREDENTIAL_MAX: usize = 8 * 1024;

/// Who is calling, and on which plan.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'v> {
    /// The key's name, or the issuer of its token.
    pub name: &'v str,
    /// Its plan: what it may do.
    pub plan: &'v Plan,
    /// The plan's position.
    pub plan_index: PlanIndex,
    /// Its books.
    pub scope: Scope,
}

/// Finds the caller, and the user that its token names.
pub fn authenticate<'v>(
    view: &'v View,
    inquiry: &Inquiry<'_>,
    tokens: &dyn Tokens,
    now: Moment,
) -> Result<(Caller<'v>, Option<User>), Reason> {
    let secret = credential(inquiry)?;
    if !view.policy.issuers.is_empty() && is_token_shaped(secret) {
        let user = tokens.prove(view, secret, now).map_err(Reason::Token)?;
        return Ok((token_caller(view, &user).ok_or(Reason::Token(TokenFault::NoPlan))?, Some(user)));
    }
    let digest = Digest(Sha256::digest(secret).into());
    let key = view.keys.get(&digest).ok_or(Reason::UnknownKey)?;
    if key.revoked {
        return Err(Reason::RevokedKey);
    }
    if key.expires_unix_ms.is_some_and(|expires| now.unix_ms >= expires) {
        return Err(Reason::ExpiredKey);
    }
    let (plan_index, plan) = view.plan_of(key).ok_or(Reason::UnknownPlan)?;
    Ok((Caller { name: &key.name, plan, plan_index, scope: key.scope }, None))
}

/// The caller of a proven token.
fn token_caller<'v>(view: &'v View, user: &User) -> Option<Caller<'v>> {
    let plan_index = user.token.plan;
    let issuer = view.policy.issuers.get(usize::from(user.token.issuer))?;
    let plan = view.policy.plans.get(usize::from(plan_index.0))?;
    Some(Caller { name: &issuer.name, plan, plan_index, scope: user.scope })
}

/// The one credential of a request.
fn credential<'a>(inquiry: &Inquiry<'a>) -> Result<&'a [u8], Reason> {
    let fields = [inquiry.authorization, inquiry.x_api_key, inquiry.api_key];
    let mut present = fields.iter().filter(|field| field.is_present());
    let Some(field) = present.next() else { return Err(Reason::NoCredential) };
    if present.next().is_some() || field.count != 1 {
        return Err(Reason::SeveralCredentials);
    }
    let Field { value: Some(value), .. } = *field else { return Err(Reason::MalformedCredential) };
    if value.len() > CREDENTIAL_MAX {
        return Err(Reason::MalformedCredential);
    }
    let parsed = if inquiry.authorization.is_present() { bearer(value) } else { all_consuming(b64token).parse(value) };
    parsed.map(|(_, token)| token).map_err(|_| Reason::MalformedCredential)
}

/// `Bearer` SP b64token (RFC 6750 section 2.1), the scheme in any case (RFC 9110 section 11.1), exactly one space.
fn bearer(value: &[u8]) -> IResult<&[u8], &[u8]> {
    let (token, _) = (tag_no_case("Bearer"), char(' ')).parse(value)?;
    all_consuming(b64token).parse(token)
}

/// b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
fn b64token(value: &[u8]) -> IResult<&[u8], &[u8]> {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    recognize((take_while1(symbol), take_while(|byte| byte == b'='))).parse(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::inquiry::BodyShown;

    /// What three credential headers (each a list of values) come to: the token, or why not.
    fn check(authorization: &[&[u8]], x_api_key: &[&[u8]], api_key: &[&[u8]], expected: Result<&str, Reason>) {
        let field = |values: &[&'static [u8]]| Field {
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
