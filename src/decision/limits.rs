//! The limits a claim takes from: which books, and how much they hold.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u128);

/// One limit of one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Whose.
    pub scope: Scope,
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
    /// How many; `None` is no limit, but they are counted all the same.
    pub most: Option<u32>,
}

/// Most limits one claim can be subject to.
pub const LIMITS_MAX: usize = 16;

/// The limits of one claim, without heap.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    items: [Option<Limit>; LIMITS_MAX],
    len: usize,
}

impl Limits {
    /// Adds a limit. `config::compile` holds every plan to [`LIMITS_MAX`]; past it this answers false, and the caller
    /// must refuse rather than admit with a limit forgotten.
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
}
