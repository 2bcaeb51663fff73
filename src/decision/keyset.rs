//! The API keys a decision reads: digests only, never a secret.
//!
//! Scheme. A key is 256 random bits, so its SHA-256 digest cannot be reversed or guessed and needs no slow hash (argon2
//! would only hand an attacker a CPU bomb a request). What is presented is hashed and looked up by digest; an attacker
//! cannot steer a digest, so the time a look-up takes tells nothing of use. A digest presented as a credential is hashed
//! like anything else and therefore never authenticates (LiteLLM GHSA-69x8-hrgq-fjj8).

use super::limits::Scope;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// SHA-256 of a presented secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl std::hash::Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut head = [0; 8];
        head.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(head));
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(redacted)")
    }
}

/// One key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The name it was made under; the caller's name in log and books.
    pub name: Box<str>,
    /// Its plan: position in [`KeySet::plans`].
    pub plan: u16,
    /// Milliseconds since 1970 from which it no longer authenticates.
    pub expires_unix_ms: Option<i64>,
    /// Revoked keys stay in the file so that the log can tell them from unknown ones.
    pub revoked: bool,
    /// The books of this identity.
    pub scope: Scope,
}

/// All keys of `keys.toml`, indexed by digest.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    by_digest: HashMap<Digest, u32, BuildHasherDefault<DigestHasher>>,
    plans: Vec<Arc<str>>,
}

impl KeySet {
    /// An empty set with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> KeySet {
        KeySet {
            keys: Vec::with_capacity(capacity),
            by_digest: HashMap::with_capacity_and_hasher(capacity, BuildHasherDefault::default()),
            plans: Vec::new(),
        }
    }

    /// Adds a key under the digest of its secret. False, and nothing added, where the digest is there already.
    pub fn insert(&mut self, digest: Digest, key: Key) -> bool {
        let Ok(position) = u32::try_from(self.keys.len()) else { return false };
        match self.by_digest.entry(digest) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(position);
                self.keys.push(key);
                true
            }
        }
    }

    /// The position of a plan's name in [`KeySet::plans`], added where it is new. `None` past 65,536 plans.
    pub fn intern_plan(&mut self, name: &str) -> Option<u16> {
        if let Some(found) = self.plans.iter().position(|plan| &**plan == name) {
            return u16::try_from(found).ok();
        }
        let position = u16::try_from(self.plans.len()).ok()?;
        self.plans.push(name.into());
        Some(position)
    }

    /// The key whose secret has this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Key> {
        self.by_digest.get(digest).and_then(|&position| self.keys.get(position as usize))
    }

    /// Names of the plans that keys refer to.
    pub fn plans(&self) -> &[Arc<str>] {
        &self.plans
    }

    /// Number of keys, revoked and expired ones included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Takes the first eight bytes of a digest as its hash: SHA-256 output needs no further mixing.
#[derive(Default)]
pub struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
