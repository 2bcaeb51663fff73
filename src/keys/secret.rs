//! The secret of an API key: how it is made, and how a mistyped one is told from an unknown one.
//!
//! Scheme. `hg_`, then 256 bits of the operating system's randomness as 43 base62 digits, then the CRC-32 of all that as 6
//! base62 digits. The prefix lets secret scanners find leaked keys; the checksum tells a typo from an unknown key without
//! a look-up and is no protection: CRC-32 is public arithmetic. What protects is the 256 bits. A CRC-32 notices every
//! change confined to 32 bits in a row, hence every change of one character.

use crate::decision::caller::keyset::Digest;
use rand::TryRng;
use sha2::{Digest as _, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// What every key begins with.
pub const PREFIX: &str = "hg_";

/// Digits of the random part: 62^43 is the first power over 2^256.
const RANDOM_DIGITS: usize = 43;

/// Digits of the checksum: 62^6 is the first power over 2^32.
const CHECKSUM_DIGITS: usize = 6;

/// Length of a key in bytes.
pub const LENGTH: usize = PREFIX.len() + RANDOM_DIGITS + CHECKSUM_DIGITS;

/// Shortest secret taken over from elsewhere, in bytes: shorter ones can be guessed, and digests are not slow on purpose.
pub const IMPORTED_MIN: usize = 32;

/// Shortest of those that are said to be weak.
pub const WEAK_MIN: usize = 8;

/// Longest secret taken over from elsewhere, in bytes.
pub const IMPORTED_MAX: usize = 512;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key as its owner holds it. Printed only by [`Secret::reveal`], and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// Why a secret that was made elsewhere is not imported: what the secret is or does, without the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImportError(&'static str);

impl Secret {
    /// Makes a new key from the operating system's random generator.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn generate() -> std::io::Result<Secret> {
        let mut random = Zeroizing::new([0; 32]);
        rand::rngs::SysRng.try_fill_bytes(&mut *random).map_err(std::io::Error::other)?;
        Ok(Secret::from_random(*random))
    }

    /// Makes the key of these 256 bits.
    pub fn from_random(random: [u8; 32]) -> Secret {
        let mut text = String::with_capacity(LENGTH);
        text.push_str(PREFIX);
        push_base62(&mut text, random, RANDOM_DIGITS);
        let checksum = checksum_of(text.as_bytes());
        push_base62(&mut text, checksum, CHECKSUM_DIGITS);
        Secret(Zeroizing::new(text))
    }

    /// Returns a secret that was made elsewhere. A `weak` one may be short and repeat itself: its importer has said that this
    /// is known.
    ///
    /// # Errors
    /// Where it cannot be a secret, or is weak and `weak` does not say so. The secret is not in the message.
    pub fn imported(written: &str, weak: bool) -> Result<Secret, ImportError> {
        let kinds = (0..=u8::MAX).filter(|byte| written.as_bytes().contains(byte)).count();
        let presentable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if written.len() < IMPORTED_MIN && !weak {
            Err(ImportError("is shorter than 32 characters and could be guessed"))
        } else if written.len() < WEAK_MIN {
            Err(ImportError("is shorter than 8 characters"))
        } else if written.len() > IMPORTED_MAX {
            Err(ImportError("is longer than 512 characters"))
        } else if !written.bytes().all(presentable) {
            Err(ImportError("holds a character that no Authorization header can carry (RFC 6750)"))
        } else if kinds < 8 && !weak {
            Err(ImportError("repeats a few characters and could be guessed"))
        } else if looks_malformed(written.as_bytes()) {
            Err(ImportError("begins with hg_ but its length or checksum is wrong; it was probably cut or mistyped"))
        } else {
            Ok(Secret(Zeroizing::new(written.to_owned())))
        }
    }

    /// Returns the secret itself, to be shown once to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of it where there is no pepper.
    pub fn digest(&self) -> Digest {
        digest(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Returns the digest under which a presented credential is looked up.
pub fn digest(presented: &[u8]) -> Digest {
    Digest(Sha256::digest(presented).into())
}

/// Returns whether a credential claims to be a key of ours (`hg_`) and cannot be one: wrong length, characters or
/// checksum.
pub fn looks_malformed(presented: &[u8]) -> bool {
    let Some(digits) = presented.strip_prefix(PREFIX.as_bytes()) else { return false };
    if presented.len() != LENGTH || !digits.iter().all(u8::is_ascii_alphanumeric) {
        return true;
    }
    let (body, checksum) = presented.split_at(LENGTH - CHECKSUM_DIGITS);
    let mut expected = String::with_capacity(CHECKSUM_DIGITS);
    push_base62(&mut expected, checksum_of(body), CHECKSUM_DIGITS);
    expected.as_bytes() != checksum
}

fn checksum_of(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_be_bytes()
}

/// Appends a big-endian number as `digits` base62 digits, zeros in front.
fn push_base62<const N: usize>(text: &mut String, mut number: [u8; N], digits: usize) {
    let mut reversed = Vec::with_capacity(digits);
    for _ in 0..digits {
        let mut remainder = 0_u32;
        for byte in &mut number {
            // At most 61 * 256 + 255, so the quotient is below 256.
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        reversed.push(char::from(ALPHABET[remainder as usize]));
    }
    text.extend(reversed.iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_part_is_a_fixed_width_base62_number() {
        let mut one = [0; 32];
        one[31] = 62;
        let cases = [
            ([0; 32], "0".repeat(43)),
            (one, format!("{}10", "0".repeat(41))),
            // 2^256 - 1, computed outside this program.
            ([0xff; 32], MOST.to_owned()),
        ];
        for (random, digits) in cases {
            let secret = Secret::from_random(random);
            assert_eq!(&secret.reveal()[3..46], digits);
            assert_eq!(secret.reveal().len(), LENGTH);
            assert!(!looks_malformed(secret.reveal().as_bytes()));
        }
    }

    const MOST: &str = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1";
}
