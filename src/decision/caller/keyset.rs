//! The API keys a decision reads: digests only, never a secret.
//!
//! Scheme. A key is 256 random bits, so its SHA-256 digest cannot be reversed or guessed and needs no slow hash (argon2
//! would only hand an attacker a CPU bomb a request). What is presented is hashed and looked up by digest; an attacker
//! cannot steer a digest, so the time a look-up takes tells nothing of use. A digest presented as a credential is hashed
//! like anything else and therefore never authenticates (LiteLLM GHSA-69x8-hrgq-fjj8).
//!
//! Secrets from elsewhere may be guessable, and whoever reads the file could try guesses against plain digests. With a
//! pepper, which is kept in a file of its own, what is kept is HMAC-SHA-256 under it: the key file alone can then be tried
//! against nothing. Digests made before there was a pepper stay valid, so both are looked up.

use crate::decision::plan::limits::Scope;
use foldhash::fast::RandomState;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::hash::Hasher;
use std::num::NonZeroI64;
use std::sync::Arc;
use zeroize::Zeroizing;

/// SHA-256 of a presented secret, or its HMAC under the pepper.
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
    /// The SHA-256 of a secret.
    pub fn of(secret: &[u8]) -> Digest {
        Digest(Sha256::digest(secret).into())
    }

    /// Its first 64 bits: what tells secrets apart where the digest itself must not stand.
    pub fn fingerprint(&self) -> u64 {
        let mut head = [0; 8];
        head.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(head)
    }
}

/// What digests are keyed with (`[keys] pepper_file`). Wipes itself when dropped.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// A pepper of these bytes.
    pub fn new(bytes: &[u8]) -> Pepper {
        // A key longer than a block is its digest, a shorter one padded with zeroes (RFC 2104 section 2).
        let mut block = Zeroizing::new([0; 64]);
        match block.get_mut(..bytes.len()) {
            Some(head) => head.copy_from_slice(bytes),
            None => block[..32].copy_from_slice(&Sha256::digest(bytes)),
        }
        Pepper(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    /// The HMAC-SHA-256 of a secret.
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

/// One secret of a key. Secrets of one name are one identity: they share books, plan, team and users.
#[derive(Debug, Clone)]
pub struct Key {
    /// The name it was made under; the caller's name in log and books.
    pub name: Box<str>,
    /// Its plan: position in [`KeySet::plans`].
    pub plan: u16,
    /// Its team: position in [`KeySet::teams`].
    pub team: Option<u16>,
    /// Milliseconds since 1970 before which it does not authenticate yet.
    pub not_before_unix_ms: Option<UnixMs>,
    /// Milliseconds since 1970 from which it no longer authenticates.
    pub expires_unix_ms: Option<UnixMs>,
    /// Revoked keys stay in the file so that the log can tell them from unknown ones.
    pub revoked: bool,
    /// The books of this identity.
    pub scope: Scope,
    /// Where the key asks for others: by which header it names them. Few keys have it.
    pub on_behalf: Option<Box<Behalf>>,
}

/// Milliseconds since 1970, in so many bytes that an absent one takes no more: there may be 100,000 keys, three times over
/// during a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(NonZeroI64);

impl UnixMs {
    /// The first millisecond of 1970 counts as the one before.
    pub fn new(ms: i64) -> UnixMs {
        const BEFORE: NonZeroI64 = match NonZeroI64::new(-1) {
            Some(before) => before,
            None => NonZeroI64::MIN,
        };
        UnixMs(NonZeroI64::new(ms).unwrap_or(BEFORE))
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0.get()
    }
}

impl From<i64> for UnixMs {
    fn from(ms: i64) -> UnixMs {
        UnixMs::new(ms)
    }
}

/// A secret that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'k> {
    /// The key's name.
    pub name: &'k str,
    /// `added`, `removed`, `revoked`, `raised`, `raise ended` or `changed`.
    pub what: &'static str,
    /// The plan whose limits hold for it now, and until when (milliseconds since 1970), where it is raised.
    pub raised: Option<(&'k str, i64)>,
}

/// How a set of keys differs from another.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<'k> {
    /// The first of them, in the order of the file; what was removed comes last.
    pub first: Vec<Change<'k>>,
    /// How many there are.
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
    /// Whether nothing of its own is different; names of plans and teams are looked up in each one's own set.
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

/// How a key names its users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behalf {
    /// The header, in lower case.
    pub header: Box<str>,
    /// The plan whose request rates and concurrency hold for each user: position in [`KeySet::plans`].
    pub plan: u16,
}

/// The limits of another plan in place of those of a key's own, for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The plan whose limits hold: position in [`KeySet::plans`].
    pub plan: u16,
    /// Milliseconds since 1970 from which the key's own hold again.
    pub until_unix_ms: i64,
}

/// All keys of `keys.toml`, indexed by digest.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    by_digest: HashMap<Digest, u32, RandomState>,
    plans: Vec<Arc<str>>,
    teams: Vec<Arc<str>>,
    /// Beside the keys, of which there may be very many, because few are raised at once.
    raised: HashMap<Scope, Raised>,
    pepper: Option<Pepper>,
}

impl KeySet {
    /// An empty set with room for `capacity` keys.
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

    /// The same with digests keyed by `pepper` among it.
    pub fn with_pepper(self, pepper: Option<Pepper>) -> KeySet {
        KeySet { pepper, ..self }
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

    /// Has the limits of another plan hold for a key. False, and nothing changed, where it is raised otherwise already.
    pub fn raise(&mut self, key: Scope, raised: Raised) -> bool {
        *self.raised.entry(key).or_insert(raised) == raised
    }

    /// How a key is raised now.
    pub fn raised(&self, key: Scope, now_unix_ms: i64) -> Option<Raised> {
        if self.raised.is_empty() {
            return None;
        }
        self.raised.get(&key).copied().filter(|raised| now_unix_ms < raised.until_unix_ms)
    }

    /// The name of the plan by which a key is raised, and until when, over or not.
    fn raise_of(&self, key: &Key) -> Option<(&str, i64)> {
        let raised = self.raised.get(&key.scope)?;
        Some((self.plans.get(usize::from(raised.plan))?, raised.until_unix_ms))
    }

    /// The position of a plan's name in [`KeySet::plans`], added where it is new. `None` past 65,536 plans.
    pub fn intern_plan(&mut self, name: &str) -> Option<u16> {
        intern(&mut self.plans, name)
    }

    /// The position of a team's name in [`KeySet::teams`], added where it is new. `None` past 65,536 teams.
    pub fn intern_team(&mut self, name: &str) -> Option<u16> {
        intern(&mut self.teams, name)
    }

    /// The key a presented secret belongs to, and [`Digest::fingerprint`] of the secret.
    pub fn find(&self, secret: &[u8]) -> Option<(&Key, u64)> {
        let look = |digest: Digest| Some((self.get(&digest)?, digest.fingerprint()));
        let peppered = self.pepper.as_ref().and_then(|pepper| look(pepper.digest(secret)));
        peppered.or_else(|| look(Digest::of(secret)))
    }

    /// The fingerprints of all secrets.
    pub fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.by_digest.keys().map(Digest::fingerprint)
    }

    /// The key whose secret has this digest.
    pub fn get(&self, digest: &Digest) -> Option<&Key> {
        self.by_digest.get(digest).and_then(|&position| self.keys.get(position as usize))
    }

    /// What is different in `next`, by name and secret.
    pub fn changes<'k>(&'k self, next: &'k KeySet, most: usize) -> Changes<'k> {
        // Positions first, and names of the few that are told: all keys may have changed at once.
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
        Changes { first: told.collect(), total: found.len() }
    }

    /// Names of the plans that keys refer to.
    pub fn plans(&self) -> &[Arc<str>] {
        &self.plans
    }

    /// Names of the teams that keys refer to.
    pub fn teams(&self) -> &[Arc<str>] {
        &self.teams
    }

    /// Every key, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
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

fn intern(names: &mut Vec<Arc<str>>, name: &str) -> Option<u16> {
    if let Some(found) = names.iter().position(|known| &**known == name) {
        return u16::try_from(found).ok();
    }
    let position = u16::try_from(names.len()).ok()?;
    names.push(name.into());
    Some(position)
}
