//! Signs tokens as an identity provider does, and as an attacker would: header and payload are taken as they are written.

// Only tests use it, and they fail loudly.
#![allow(clippy::expect_used)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A private key with a name.
#[derive(Debug)]
pub struct Signer {
    /// Its `kid`.
    pub kid: String,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// Base64url without padding.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// Returns a new P-256 key.
    pub fn es256(kid: &str) -> Signer {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        Signer { kid: kid.to_owned(), key: Key::Es256(key) }
    }

    /// Returns a new RSA key of 2048 bits.
    pub fn rs256(kid: &str) -> Signer {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        Signer { kid: kid.to_owned(), key: Key::Rs256(key) }
    }

    /// Returns a new Ed25519 key.
    pub fn eddsa(kid: &str) -> Signer {
        Signer { kid: kid.to_owned(), key: Key::EdDsa(Ed25519KeyPair::generate().expect("an Ed25519 key")) }
    }

    /// Returns the `alg` of its signatures.
    pub fn alg(&self) -> &'static str {
        match self.key {
            Key::Es256(_) => "ES256",
            Key::Rs256(_) => "RS256",
            Key::EdDsa(_) => "EdDSA",
        }
    }

    /// Its public half, as an entry of a JWK set.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y)})
            }
            Key::Rs256(key) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                let [n, e] = [n, e].map(|number| encoded(number.big_endian_without_leading_zero()));
                json!({"kty": "RSA", "n": n, "e": e})
            }
            Key::EdDsa(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key())}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        jwk
    }

    /// Signs a header and a payload as they are.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(payload));
        format!("{message}.{}", encoded(self.signature(message.as_bytes())))
    }

    /// Returns a token with the usual header.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.alg(), "typ": "JWT", "kid": self.kid});
        self.sign(&header.to_string(), &claims.to_string())
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Es256(key) => key.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Key::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Key::EdDsa(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// Returns a JWK set of the public halves.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}
