//! The compact form of a signed token (RFC 7515 section 7.1), and what its header may say.

use super::fault::TokenFault;
use super::members::Members;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

/// Longest token, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;

/// Longest `kid`, in bytes.
pub const KID_MAX: usize = 256;

/// What `typ` may be, without `application/`: an identity token, or an access token of RFC 9068.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Header members that change how a token is to be read. None is understood here, so none may be there: `crit` (RFC 7515
/// section 4.1.11; fast-jwt GHSA-hm7r-c7qw-ghp6, Authlib CVE-2025-59420), `b64` (RFC 7797), `zip` and `cty` (a token inside
/// a token).
const MEANINGFUL: [&str; 4] = ["crit", "b64", "zip", "cty"];

/// A token taken apart; nothing of it is proven.
#[derive(Debug)]
pub struct Jws<'t> {
    /// What its header says.
    pub header: Header,
    /// Its payload, decoded.
    pub payload: Vec<u8>,
    /// What is signed: the first two parts as they came.
    pub signed: &'t [u8],
    /// Its signature, decoded.
    pub signature: Vec<u8>,
}

/// What is used of a header.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`; never `none`, never a symmetric one.
    pub algorithm: Algorithm,
    /// `kid`, at most [`KID_MAX`] bytes.
    pub kid: Option<Box<str>>,
}

/// Whether a credential has the shape of a token: three parts of base64url. One that has goes to the issuers alone.
pub fn is_token_shaped(credential: &[u8]) -> bool {
    let dots = credential.iter().filter(|byte| **byte == b'.').count();
    dots == 2 && credential.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// The algorithm called `name`, where it is a signature by a private key. Symmetric ones would make the issuer's public set
/// a set of secrets, so they do not exist here.
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
    /// Takes a token apart.
    ///
    /// # Errors
    /// What is wrong with its shape or header.
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
            header: Header::read(&decoded(header)?)?,
            payload: decoded(payload)?,
            signed,
            signature: decoded(signature)?,
        })
    }
}

impl Header {
    fn read(json: &[u8]) -> Result<Header, TokenFault> {
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
        Ok(Header { algorithm: algorithm(alg).ok_or(TokenFault::Algorithm)?, kid })
    }
}

/// Base64url without padding, and without slack bits: every value has one spelling.
fn decoded(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}
