//! The public keys of one issuer: which entries of its JWK set (RFC 7517) are usable, and for what.
//!
//! A set is a file that others write. An entry that is not a public key for signatures is left out: symmetric keys,
//! private ones (which are published and so known to everybody), `use` and `key_ops` for anything else, unknown curves
//! and types, RSA below 2048 or above 4096 bits, exponents below 3, moduli of a broken generator. A set in which one
//! `kid` occurs twice is refused as a whole: two parsers would choose two different keys.

use super::jws::{Jws, KID_MAX, algorithm};
use super::members::Members;
use super::roca;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Most entries of a set.
pub const KEYS_MAX: usize = 64;

/// Members that only a private or a symmetric key has (RFC 7518 section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The usable keys of a set.
#[derive(Debug, Default)]
pub struct Ring {
    keys: Vec<PublicKey>,
}

/// A public key of an issuer.
#[derive(Debug)]
pub struct PublicKey {
    kid: Box<str>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The reason for which a whole set is refused; the previous set remains in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingFault {
    /// It is not a JWK set.
    Malformed,
    /// It has more than [`KEYS_MAX`] entries.
    TooMany,
    /// Two entries have the same `kid`.
    DuplicateKid,
    /// None of its entries is usable.
    Empty,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Members>,
}

impl Ring {
    /// Reads a JWK set. Returns its usable keys and the number of entries that were left out.
    ///
    /// # Errors
    /// A [`RingFault`] if the set as a whole is refused.
    pub fn read(json: &[u8]) -> Result<(Ring, usize), RingFault> {
        let Set { keys: entries } = serde_json::from_slice(json).map_err(|_| RingFault::Malformed)?;
        if entries.len() > KEYS_MAX {
            return Err(RingFault::TooMany);
        }
        let kids: Vec<&str> = entries.iter().filter_map(kid_of).collect();
        if kids.iter().enumerate().any(|(position, kid)| kids.iter().skip(position + 1).any(|other| other == kid)) {
            return Err(RingFault::DuplicateKid);
        }
        let keys: Vec<PublicKey> = entries.iter().filter_map(PublicKey::read).collect();
        if keys.is_empty() {
            return Err(RingFault::Empty);
        }
        let left_out = entries.len().saturating_sub(keys.len());
        Ok((Ring { keys }, left_out))
    }

    /// Returns the key of a `kid` for an algorithm. A JWT without `kid` matches only if the set has a single key.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&PublicKey> {
        let key = match (kid, &*self.keys) {
            (Some(kid), keys) => keys.iter().find(|key| &*key.kid == kid)?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        key.algorithms.contains(&algorithm).then_some(key)
    }

    /// Returns whether the set has a usable key of this `kid`.
    pub fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| &*key.kid == kid)
    }

    /// Returns the number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is no usable key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl PublicKey {
    /// Returns whether this key made the signature of the JWT.
    pub fn verifies(&self, jws: &Jws<'_>) -> bool {
        if !self.algorithms.contains(&jws.header.algorithm) {
            return false;
        }
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&jws.header.algorithm, &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(jws.signed, &jws.signature).is_ok())
    }

    /// Reads one entry. Returns `None` if it is unusable.
    fn read(entry: &Members) -> Option<PublicKey> {
        let text = |name| entry.get(name).and_then(Value::as_str);
        let private = PRIVATE.iter().any(|name| entry.has(name));
        let other_use = entry.has("use") && text("use") != Some("sig");
        let verify = |operations: &Value| {
            operations.as_array().is_some_and(|operations| operations.iter().any(|one| one == "verify"))
        };
        if private || other_use || entry.get("key_ops").is_some_and(|operations| !verify(operations)) {
            return None;
        }
        let kid = match entry.get("kid") {
            None => "",
            Some(_) => kid_of(entry).filter(|kid| !kid.is_empty() && kid.len() <= KID_MAX)?,
        };
        let (key, mut algorithms) = match (text("kty")?, text("crv")) {
            ("RSA", None) => rsa(text("n")?, text("e")?)?,
            ("EC", Some("P-256")) => (point(text("x")?, text("y")?, 32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (point(text("x")?, text("y")?, 48)?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => {
                let x = text("x")?;
                decoded(x).filter(|x| x.len() == 32)?;
                (DecodingKey::from_ed_components(x).ok()?, vec![Algorithm::EdDSA])
            }
            _ => return None,
        };
        if entry.has("alg") {
            let only = algorithm(text("alg")?)?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        (!algorithms.is_empty()).then(|| PublicKey { kid: kid.into(), algorithms, key })
    }
}

fn kid_of(entry: &Members) -> Option<&str> {
    entry.get("kid").and_then(Value::as_str)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn rsa(n: &str, e: &str) -> Option<(DecodingKey, Vec<Algorithm>)> {
    let (n, e) = (decoded(n)?, decoded(e)?);
    let (n, e) = (without_zeros(&n), without_zeros(&e));
    let bits = n.len().saturating_mul(8).saturating_sub(usize::try_from(n.first()?.leading_zeros()).ok()?);
    // The exponent is odd and at least 3; aws-lc accepts none above 33 bits.
    let exponent = e.len() <= 5 && e.last()? % 2 == 1 && e != [1];
    if !(2048..=4096).contains(&bits) || !exponent || roca::is_weak(n) {
        return None;
    }
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    Some((DecodingKey::from_rsa_raw_components(n, e), vec![RS256, RS384, RS512, PS256, PS384, PS512]))
}

fn point(x: &str, y: &str, len: usize) -> Option<DecodingKey> {
    let fits = decoded(x)?.len() == len && decoded(y)?.len() == len;
    DecodingKey::from_ec_components(x, y).ok().filter(|_| fits)
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
