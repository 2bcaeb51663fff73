//! Remembers JWTs that were verified, so that a signature is checked once and not with every request.
//!
//! Argument. The key of an entry is the SHA-256 of the whole token (LiteLLM CVE-2026-35030 took the first 20 characters), so one
//! token never stands for another. Only verified tokens are remembered, so nobody fills this memory without good ones; and it
//! is bounded all the same. An entry ends at the token's `exp`, when the key set is too old, and after [`REMEMBER_NS`]. All
//! entries end whenever the policy or any issuer's keys change: a key that was removed proves nothing a moment later.

use crate::decision::caller::keyset::Digest;
use crate::decision::caller::token::issuer::shared_scope;
use crate::decision::caller::token::verify::verify;
use crate::decision::caller::token::{Issuer, TokenFault, TokenProver, TokenUser, VerifiedToken};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scope;
use crate::decision::view::View;
use crate::mailbox::wanted::MissingKeyBoard;
use crate::metrics::{Metrics, Proof};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest time for which a token is remembered before it is verified again, in nanoseconds: five minutes.
pub const REMEMBER_NS: u64 = 300_000_000_000;

/// Most tokens in each half of the memory.
pub const HALF_MAX: usize = 8192;

/// How long an absent user keeps its place among `max_users`, in nanoseconds: a day, which is the longest period of a rate.
pub const PLACE_NS: u64 = 86_400_000_000_000;

/// Least nanoseconds between two searches for places that are free again.
const SEARCH_NS: u64 = 60_000_000_000;

/// Tokens that were verified, and the places of their users. Shared by all connections.
#[derive(Debug)]
pub struct ProvenTokens {
    /// Board on which missing keys are asked for.
    pub wanted: Arc<MissingKeyBoard>,
    metrics: Arc<Metrics>,
    remembered: Mutex<Remembered>,
    places: Mutex<Places>,
}

impl ProvenTokens {
    /// Returns an empty memory.
    pub fn new(metrics: Arc<Metrics>) -> ProvenTokens {
        ProvenTokens { wanted: Arc::default(), metrics, remembered: Mutex::default(), places: Mutex::default() }
    }

    /// Returns how many tokens are remembered.
    pub fn len(&self) -> usize {
        let remembered = lock(&self.remembered);
        remembered.young.len() + remembered.old.len()
    }

    /// Returns whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TokenProver for ProvenTokens {
    fn prove(&self, view: &View, token: &[u8], now: Moment) -> Result<TokenUser, TokenFault> {
        let digest = Digest(Sha256::digest(token).into());
        let known = lock(&self.remembered).get(&digest, view.token_epoch, now);
        let token = match known {
            Some(token) => {
                self.metrics.token(Proof::Remembered);
                token
            }
            // Verified without the lock, because that takes a hundred times as long as a look-up.
            None => match verify(view, token, now) {
                Ok(verified) => {
                    self.metrics.token(Proof::Proven);
                    let verified = Arc::new(verified);
                    lock(&self.remembered).insert(digest, &verified, view.token_epoch, now);
                    verified
                }
                Err(rejected) => {
                    self.metrics.token(Proof::Refused);
                    if let Some(missing) = &rejected.missing {
                        self.wanted.ask(missing, now);
                    }
                    return Err(rejected.fault);
                }
            },
        };
        let issuer = view.policy.issuers.get(usize::from(token.issuer)).ok_or(TokenFault::UnknownIssuer)?;
        let scope = lock(&self.places).scope(issuer, token.scope, now);
        Ok(TokenUser { token, scope })
    }
}

/// Two halves. Tokens are added to the young one; when that is full it replaces the old one, whose tokens are forgotten. A
/// look-up moves a token from the old half to the young one. So the last [`HALF_MAX`] tokens in use are always there.
#[derive(Debug, Default)]
struct Remembered {
    young: Half,
    old: Half,
    epoch: u64,
}

type Half = HashMap<Digest, ProvenToken, foldhash::fast::RandomState>;

#[derive(Debug, Clone)]
struct ProvenToken {
    token: Arc<VerifiedToken>,
    until_ns: u64,
}

impl Remembered {
    fn get(&mut self, digest: &Digest, epoch: u64, now: Moment) -> Option<Arc<VerifiedToken>> {
        if !self.is_of(epoch) {
            return None;
        }
        let entry = match self.young.get(digest) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(digest)?;
                self.add(*digest, entry.clone());
                entry
            }
        };
        if now.mono_ns >= entry.until_ns || !entry.token.holds(now) {
            self.young.remove(digest);
            return None;
        }
        Some(entry.token)
    }

    fn insert(&mut self, digest: Digest, token: &Arc<VerifiedToken>, epoch: u64, now: Moment) {
        if self.is_of(epoch) {
            let until_ns = now.mono_ns.saturating_add(REMEMBER_NS);
            self.add(digest, ProvenToken { token: token.clone(), until_ns });
        }
    }

    fn add(&mut self, digest: Digest, entry: ProvenToken) {
        if self.young.len() >= HALF_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, entry);
    }

    /// Returns whether the entries hold for a View of `epoch`. A newer epoch empties the memory first; a decision that still has
    /// an older View neither reads nor adds entries.
    fn is_of(&mut self, epoch: u64) -> bool {
        if epoch > self.epoch {
            *self = Remembered { epoch, ..Remembered::default() };
        }
        epoch == self.epoch
    }
}

/// Users with limits of their own, by issuer.
#[derive(Debug, Default)]
struct Places(HashMap<Arc<str>, UserSlots>);

#[derive(Debug, Default)]
struct UserSlots {
    last_ns: HashMap<Scope, u64>,
    search_ns: u64,
}

impl Places {
    /// Returns the scope of a user's limits: its own where it has a place or one is free, else the one that all users without a
    /// place share.
    fn scope(&mut self, issuer: &Issuer, user: Scope, now: Moment) -> Scope {
        if !self.0.contains_key(&issuer.name) {
            self.0.insert(issuer.name.clone(), UserSlots::default());
        }
        let Some(taken) = self.0.get_mut(&issuer.name) else { return user };
        let most = usize::try_from(issuer.max_users).unwrap_or(usize::MAX);
        let has_place = taken.last_ns.contains_key(&user);
        if !has_place && taken.last_ns.len() >= most && now.mono_ns >= taken.search_ns {
            taken.search_ns = now.mono_ns.saturating_add(SEARCH_NS);
            taken.last_ns.retain(|_, last| now.mono_ns.saturating_sub(*last) < PLACE_NS);
        }
        if has_place || taken.last_ns.len() < most {
            taken.last_ns.insert(user, now.mono_ns);
            return user;
        }
        shared_scope(&issuer.name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two map operations leaves each map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
