//! The limits a claim takes from: which books, and how much they hold.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU64;

/// A request-rate limit: `count` requests in `period_ns`, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests per period.
    pub count: NonZeroU64,
    /// Length of the period in nanoseconds.
    pub period_ns: NonZeroU64,
    /// Requests that may come at once.
    pub burst: NonZeroU64,
}

/// Whose books a limit is kept in: a 128-bit hash of the identity, stable over reloads and restarts, so that quota
/// belongs to the identity and not to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope(pub u128);

impl Scope {
    /// The books of `name` among all of this kind. Kinds are apart: a team and a key of one name share nothing.
    pub fn of(kind: &str, name: &[u8]) -> Scope {
        Scope::within(kind, &[], name)
    }

    /// The books of `name` within another scope: a user of a key.
    pub fn of_user(key: Scope, name: &[u8]) -> Scope {
        Scope::within("user", &key.0.to_be_bytes(), name)
    }

    fn within(kind: &str, whose: &[u8], name: &[u8]) -> Scope {
        let hashed = Sha256::new().chain_update(kind).chain_update(b"\0").chain_update(whose).chain_update(name);
        let digest: [u8; 32] = hashed.finalize().into();
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        Scope(u128::from_be_bytes(head))
    }
}

/// Who holds a limit, for the log: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The key itself.
    Key,
    /// The user on whose behalf a key asks.
    User,
    /// The key's team.
    Team,
    /// An address without credential.
    Address,
    /// All callers without credential together.
    Anonymous,
}

/// One limit of one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Whose.
    pub scope: Scope,
    /// What kind of identity that is.
    pub holder: Holder,
    /// Which of the identity's limits: its position in the plan.
    pub position: u8,
    /// How much.
    pub quota: Quota,
}

/// Requests one identity may have on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// Whose.
    pub scope: Scope,
    /// What kind of identity that is.
    pub holder: Holder,
    /// How many; `None` is no limit, but they are counted all the same.
    pub most: Option<u32>,
}

/// Most limits one claim can be subject to.
pub const LIMITS_MAX: usize = 16;

/// Most request rates of one plan.
pub const RATES_MAX: usize = 5;

/// Most identities one claim is counted for: a key, its user and its team; or an address and all of them together.
pub const SCOPES_MAX: usize = 4;

// A key's plan, its user's and its team's: what the configuration lets through always has room.
const _: () = assert!(3 * RATES_MAX <= LIMITS_MAX && RATES_MAX < LIMITS_MAX);

/// The limits of one claim, without heap.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    items: [Option<Limit>; LIMITS_MAX],
    len: usize,
}

impl Limits {
    /// Adds a limit. `config::compile` holds every plan to [`RATES_MAX`], so that there is room; past it this answers
    /// false, and the caller must refuse rather than admit with a limit forgotten.
    #[must_use]
    pub fn push(&mut self, limit: Limit) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(limit);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The limits, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.items[..self.len].iter().flatten()
    }

    /// Whether nothing limits this claim.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts what is held by `from` for `to` instead.
    pub fn move_scope(&mut self, from: Scope, to: Scope) {
        self.items.iter_mut().flatten().filter(|limit| limit.scope == from).for_each(|limit| limit.scope = to);
    }
}

/// The identities a claim takes a slot for, without heap. Empty: it takes none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seats {
    items: [Option<Concurrency>; SCOPES_MAX],
    len: usize,
}

impl Seats {
    /// Adds an identity. False past [`SCOPES_MAX`]: the caller must refuse.
    #[must_use]
    pub fn push(&mut self, seat: Concurrency) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(seat);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The identities, the caller itself first.
    pub fn iter(&self) -> impl Iterator<Item = &Concurrency> {
        self.items[..self.len].iter().flatten()
    }

    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts what is held by `from` for `to` instead.
    pub fn move_scope(&mut self, from: Scope, to: Scope) {
        self.items.iter_mut().flatten().filter(|seat| seat.scope == from).for_each(|seat| seat.scope = to);
    }

    /// Their scopes alone.
    pub fn scopes(&self) -> Scopes {
        Scopes(self.items.map(|seat| seat.map(|seat| seat.scope)))
    }
}

/// The identities a slot is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes([Option<Scope>; SCOPES_MAX]);

impl Scopes {
    /// One identity alone.
    pub fn one(scope: Scope) -> Scopes {
        let mut scopes = Scopes::default();
        scopes.0[0] = Some(scope);
        scopes
    }

    /// The scopes, the caller's own first.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().flatten().copied()
    }
}

/// A user on whose behalf a key asks. How many have books of their own is bounded for each key: the ledger knows them,
/// and counts whoever is one too many in `shared`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The key's scope.
    pub key: Scope,
    /// The user's books.
    pub scope: Scope,
    /// The books of all who have none of their own, those without a name included.
    pub shared: Scope,
}
