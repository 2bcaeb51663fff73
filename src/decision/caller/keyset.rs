//! The API keys that a decision reads: digests only, never a secret.
//!
//! Scheme. An API key is 256 random bits, so its SHA-256 digest cannot be reversed or guessed and needs no slow hash
//! (argon2 would only give an attacker an expensive computation on every request). The credential is hashed and looked
//! up by digest; an attacker cannot steer a digest, so the duration of a look-up tells nothing of use. A digest
//! presented as a credential is hashed like anything else and therefore never authenticates (LiteLLM
//! GHSA-69x8-hrgq-fjj8).
//!
//! Secrets from elsewhere may be guessable, and an attacker who reads the file could test guesses against plain
//! digests. With a pepper, which is kept in a file of its own, the key file stores HMAC-SHA-256 under that pepper:
//! guesses cannot be tested against the key file alone. Digests made before there was a pepper stay valid, so both
//! kinds are looked up.

use crate::decision::plan::limits::Scope;
use foldhash::fast::RandomState;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::hash::Hasher;
use std::num::NonZeroI64;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The SHA-256 of a secret, or its HMAC under the pepper.
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

impl Digest {
    /// Returns the SHA-256 of a secret.
    pub fn of(secret: &[u8]) -> Digest {
        Digest(Sha256::digest(secret).into())
    }

    /// Returns the first 64 bits, which tell secrets apart where the digest itself must not appear.
    pub fn fingerprint(&self) -> u64 {
        let mut head = [0; 8];
        head.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(head)
    }
}

/// The key of the HMAC by which secrets are stored (`[keys] pepper_file`). Wipes itself when dropped.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// Creates a pepper from these bytes.
    pub fn new(bytes: &[u8]) -> Pepper {
        // A key longer than a block is its digest, a shorter one padded with zeroes (RFC 2104 section 2).
        let mut block = Zeroizing::new([0; 64]);
        match block.get_mut(..bytes.len()) {
            Some(head) => head.copy_from_slice(bytes),
            None => block[..32].copy_from_slice(&Sha256::digest(bytes)),
        }
        Pepper(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    /// Returns the HMAC-SHA-256 of a secret.
    pub fn digest(&self, secret: &[u8]) -> Digest {
        let mut mac = self.0.clone();
        mac.update(secret);
        Digest(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper(redacted)")
    }
}

/// One secret of an API key. Secrets of one name are one identity: they share usage, plan, team and users.
#[derive(Debug, Clone)]
pub struct Key {
    /// The name under which the key was made; it is the caller's name in the log and in usage.
    pub name: Box<str>,
    /// The key's plan: a position in [`KeySet::plans`].
    pub plan: u16,
    /// The key's team: a position in [`KeySet::teams`].
    pub team: Option<u16>,
    /// Milliseconds since 1970 before which the secret does not authenticate yet.
    pub not_before_unix_ms: Option<UnixMs>,
    /// Milliseconds since 1970 from which the secret no longer authenticates.
    pub expires_unix_ms: Option<UnixMs>,
    /// Whether the secret is revoked. Revoked keys stay in the file so that the log can tell them from unknown ones.
    pub revoked: bool,
    /// The scope under which the usage of this identity is counted.
    pub scope: Scope,
    /// How the key names its users, if it asks on behalf of others. Few keys do.
    pub on_behalf: Option<Box<Behalf>>,
}

/// Milliseconds since 1970, in a form whose `Option` takes no more bytes: there may be 100,000 keys, three times over
/// during a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(NonZeroI64);

impl UnixMs {
    /// Creates a time. 0, the first millisecond of 1970, is stored as the one before it.
    pub fn new(ms: i64) -> UnixMs {
        const BEFORE: NonZeroI64 = match NonZeroI64::new(-1) {
            Some(before) => before,
            None => NonZeroI64::MIN,
        };
        UnixMs(NonZeroI64::new(ms).unwrap_or(BEFORE))
    }

    /// Returns the number of milliseconds since 1970.
    pub fn get(self) -> i64 {
        self.0.get()
    }
}

impl From<i64> for UnixMs {
    fn from(ms: i64) -> UnixMs {
        UnixMs::new(ms)
    }
}

/// A change of one secret between two sets of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'k> {
    /// The name of the key.
    pub name: &'k str,
    /// The kind of change: `added`, `removed`, `revoked`, `raised`, `raise ended` or `changed`.
    pub what: &'static str,
    /// The temporary plan whose limits apply to the key now, and its end (milliseconds since 1970), if it has one.
    pub raised: Option<(&'k str, i64)>,
}

/// The differences between two sets of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyChanges<'k> {
    /// The first changes, in the order of the file; removed secrets come last.
    pub first: Vec<Change<'k>>,
    /// The number of all changes.
    pub total: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Added,
    Removed,
    Revoked,
    Raised,
    RaiseEnded,
    Changed,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Removed => "removed",
            What::Revoked => "revoked",
            What::Raised => "raised",
            What::RaiseEnded => "raise ended",
            What::Changed => "changed",
        }
    }
}

impl Key {
    /// Returns whether both keys are the same in all that is their own. Names of plans and teams are looked up in each
    /// key's own set.
    fn is_as(&self, other: &Key, ours: &KeySet, theirs: &KeySet) -> bool {
        let plan = |set: &'_ KeySet, plan: u16| set.plans.get(usize::from(plan)).cloned();
        let team = |set: &'_ KeySet, team: Option<u16>| set.teams.get(usize::from(team?)).cloned();
        let users = |set: &KeySet, key: &Key| {
            key.on_behalf.as_ref().map(|behalf| (behalf.header.clone(), plan(set, behalf.plan)))
        };
        (&self.name, self.revoked, self.not_before_unix_ms, self.expires_unix_ms)
            == (&other.name, other.revoked, other.not_before_unix_ms, other.expires_unix_ms)
            && plan(ours, self.plan) == plan(theirs, other.plan)
            && team(ours, self.team) == team(theirs, other.team)
            && users(ours, self) == users(theirs, other)
    }
}

/// The way in which a key names its users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behalf {
    /// The name of the header, in lower case.
    pub header: Box<str>,
    /// The plan whose request rates and concurrency apply to each user: a position in [`KeySet::plans`].
    pub plan: u16,
}

/// A temporary plan (`key raise`): for a time the limits of another plan replace those of the key's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemporaryPlan {
    /// The plan whose limits apply: a position in [`KeySet::plans`].
    pub plan: u16,
    /// Milliseconds since 1970 from which the limits of the key's own plan apply again.
    pub until_unix_ms: i64,
}

/// All keys of `keys.toml`, indexed by digest.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    by_digest: HashMap<Digest, u32, RandomState>,
    plans: Vec<Arc<str>>,
    teams: Vec<Arc<str>>,
    /// Kept apart from the keys, of which there may be very many, because few have a temporary plan at once.
    raised: HashMap<Scope, TemporaryPlan>,
    pepper: Option<Pepper>,
}

impl KeySet {
    /// Creates an empty set with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> KeySet {
        KeySet {
            keys: Vec::with_capacity(capacity),
            by_digest: HashMap::with_capacity_and_hasher(capacity, RandomState::default()),
            plans: Vec::new(),
            teams: Vec::new(),
            raised: HashMap::new(),
            pepper: None,
        }
    }

    /// Returns the same set, in which digests may also be keyed by `pepper`.
    pub fn with_pepper(self, pepper: Option<Pepper>) -> KeySet {
        KeySet { pepper, ..self }
    }

    /// Adds a key under the digest of its secret. Returns false, and adds nothing, if the digest is already present.
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

    /// Gives a key a temporary plan. Returns false, and changes nothing, if the key already has a different one.
    pub fn raise(&mut self, key: Scope, raised: TemporaryPlan) -> bool {
        *self.raised.entry(key).or_insert(raised) == raised
    }

    /// Returns the temporary plan of a key, if it has one now.
    pub fn raised(&self, key: Scope, now_unix_ms: i64) -> Option<TemporaryPlan> {
        if self.raised.is_empty() {
            return None;
        }
        self.raised.get(&key).copied().filter(|raised| now_unix_ms < raised.until_unix_ms)
    }

    /// Returns the name of the key's temporary plan and its end in milliseconds since 1970, whether or not that has
    /// passed.
    fn raise_of(&self, key: &Key) -> Option<(&str, i64)> {
        let raised = self.raised.get(&key.scope)?;
        Some((self.plans.get(usize::from(raised.plan))?, raised.until_unix_ms))
    }

    /// Returns the position of a plan's name in [`KeySet::plans`], adding it if it is new. `None` past 65,536 plans.
    pub fn intern_plan(&mut self, name: &str) -> Option<u16> {
        intern(&mut self.plans, name)
    }

    /// Returns the position of a team's name in [`KeySet::teams`], adding it if it is new. `None` past 65,536 teams.
    pub fn intern_team(&mut self, name: &str) -> Option<u16> {
        intern(&mut self.teams, name)
    }

    /// Returns the key to which a secret belongs, and the [`Digest::fingerprint`] of the secret.
    pub fn find(&self, secret: &[u8]) -> Option<(&Key, u64)> {
        let look = |digest: Digest| Some((self.get(&digest)?, digest.fingerprint()));
        let peppered = self.pepper.as_ref().and_then(|pepper| look(pepper.digest(secret)));
        peppered.or_else(|| look(Digest::of(secret)))
    }

    /// Returns the fingerprints of all secrets.
    pub fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.by_digest.keys().map(Digest::fingerprint)
    }

    /// Returns the key whose secret has this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Key> {
        self.by_digest.get(digest).and_then(|&position| self.keys.get(position as usize))
    }

    /// Returns the differences between this set and `next`, by name and secret. At most `most` of them are listed.
    pub fn changes<'k>(&'k self, next: &'k KeySet, most: usize) -> KeyChanges<'k> {
        // Positions are collected first, and names only for the few that are listed: all keys may have changed at once.
        let was = |(digest, position): (&Digest, &u32)| {
            let key = next.keys.get(*position as usize)?;
            let what = match self.get(digest) {
                None => What::Added,
                Some(old) if !old.revoked && key.revoked => What::Revoked,
                Some(old) if !old.is_as(key, self, next) => What::Changed,
                Some(old) => match (self.raise_of(old), next.raise_of(key)) {
                    (was, is) if was == is => return None,
                    (_, Some(_)) => What::Raised,
                    (_, None) => What::RaiseEnded,
                },
            };
            Some((false, *position, what))
        };
        let is_gone = |(digest, position): (&Digest, &u32)| {
            (!next.by_digest.contains_key(digest)).then_some((true, *position, What::Removed))
        };
        let mut found: Vec<(bool, u32, What)> = self.by_digest.iter().filter_map(is_gone).collect();
        found.extend(next.by_digest.iter().filter_map(was));
        found.sort_unstable_by_key(|(removed, position, _)| (*removed, *position));
        let told = found.iter().take(most).filter_map(|(removed, position, what)| {
            let set = if *removed { self } else { next };
            let key = set.keys.get(*position as usize)?;
            Some(Change { name: &key.name, what: what.as_str(), raised: next.raise_of(key) })
        });
        KeyChanges { first: told.collect(), total: found.len() }
    }

    /// Returns the names of the plans to which keys refer.
    pub fn plans(&self) -> &[Arc<str>] {
        &self.plans
    }

    /// Returns the names of the teams to which keys refer.
    pub fn teams(&self) -> &[Arc<str>] {
        &self.teams
    }

    /// Returns every key, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Returns the number of keys, including revoked and expired ones.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn intern(names: &mut Vec<Arc<str>>, name: &str) -> Option<u16> {
    if let Some(found) = names.iter().position(|known| &**known == name) {
        return u16::try_from(found).ok();
    }
    let position = u16::try_from(names.len()).ok()?;
    names.push(name.into());
    Some(position)
}
