//! The compact form of a signed JWT (RFC 7515 section 7.1), and what its header may say.

use super::fault::TokenFault;
use super::members::Members;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

/// Longest JWT, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;

/// Longest `kid`, in bytes.
pub const KID_MAX: usize = 256;

/// The values that `typ` may have, without `application/`: an identity token, or an access token of RFC 9068.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Header members that change how a JWT must be read. herdgate understands none of them, so none may be present: `crit`
/// (RFC 7515 section 4.1.11; fast-jwt GHSA-hm7r-c7qw-ghp6, Authlib CVE-2025-59420), `b64` (RFC 7797), `zip` and `cty`
/// (a JWT inside a JWT).
const MEANINGFUL: [&str; 4] = ["crit", "b64", "zip", "cty"];

/// The parts of a JWT; none of them is proven.
#[derive(Debug)]
pub struct Jws<'t> {
    /// The contents of its header.
    pub header: JwsHeader,
    /// Its payload, decoded.
    pub payload: Vec<u8>,
    /// The signed bytes: the first two parts as they came.
    pub signed: &'t [u8],
    /// Its signature, decoded.
    pub signature: Vec<u8>,
}

/// The members of a header that are used.
#[derive(Debug, PartialEq, Eq)]
pub struct JwsHeader {
    /// The `alg`, which is never `none` and never symmetric.
    pub algorithm: Algorithm,
    /// The `kid`, at most [`KID_MAX`] bytes.
    pub kid: Option<Box<str>>,
}

/// Returns whether a credential has the shape of a JWT: three parts of base64url. The issuers alone judge one that has.
pub fn is_token_shaped(credential: &[u8]) -> bool {
    let dots = credential.iter().filter(|byte| **byte == b'.').count();
    dots == 2 && credential.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Returns the algorithm called `name`, if it signs with a private key. Symmetric algorithms would make the issuer's
/// public set a set of secrets, so they do not exist here.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

impl Jws<'_> {
    /// Splits a JWT into its parts.
    ///
    /// # Errors
    /// The fault in its shape or header.
    pub fn read(token: &[u8]) -> Result<Jws<'_>, TokenFault> {
        if token.len() > TOKEN_MAX || !is_token_shaped(token) {
            return Err(TokenFault::Malformed);
        }
        let mut parts = token.splitn(3, |byte| *byte == b'.');
        let mut part = || parts.next().ok_or(TokenFault::Malformed);
        let (header, payload, signature) = (part()?, part()?, part()?);
        // The two parts and the dot between them; neither sum can overflow a length that was checked.
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(TokenFault::Malformed)?;
        Ok(Jws {
            header: JwsHeader::read(&decoded(header)?)?,
            payload: decoded(payload)?,
            signed,
            signature: decoded(signature)?,
        })
    }
}

impl JwsHeader {
    fn read(json: &[u8]) -> Result<JwsHeader, TokenFault> {
        let members: Members = serde_json::from_slice(json).map_err(|_| TokenFault::Header)?;
        if MEANINGFUL.iter().any(|name| members.has(name)) {
            return Err(TokenFault::Critical);
        }
        if let Some(typ) = members.get("typ") {
            let typ = typ.as_str().ok_or(TokenFault::Type)?.to_ascii_lowercase();
            if !TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ)) {
                return Err(TokenFault::Type);
            }
        }
        let alg = members.get("alg").and_then(|alg| alg.as_str()).ok_or(TokenFault::Header)?;
        let kid = match members.get("kid") {
            None => None,
            Some(kid) => match kid.as_str() {
                Some(kid) if !kid.is_empty() && kid.len() <= KID_MAX => Some(kid.into()),
                _ => return Err(TokenFault::Header),
            },
        };
        Ok(JwsHeader { algorithm: algorithm(alg).ok_or(TokenFault::Algorithm)?, kid })
    }
}

/// Decodes base64url without padding and without slack bits, so that every value has one spelling.
fn decoded(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}
