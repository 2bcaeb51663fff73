//! The quota books: takes all limits of a claim or none, and gives them back. Pure: integers and the moment handed in.

use super::gcra::{self, Take};
use crate::decision::limits::{LIMITS_MAX, Limit, Limits, Scope};
use crate::decision::moment::Moment;
use crate::decision::verdict::Standing;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A claim was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The caller's tightest limit after this request; `None` where nothing limits it.
    pub requests: Option<Standing>,
    /// Whose turn it is in the claim's pool.
    pub turn: u64,
}

/// A claim was over a limit; nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Nanoseconds until all of its limits would allow it.
    pub retry_ns: u64,
    /// Where the caller stands with the limit that takes longest.
    pub standing: Standing,
}

/// Past this many entries the books look for stale ones; it doubles while they are all live.
const SWEEP_FROM: usize = 4096;

/// All books in memory.
#[derive(Debug)]
pub struct Books {
    /// When each limit would be whole again. An entry in the past equals no entry, so stale ones can be dropped.
    whole_at_ns: HashMap<(Scope, u8), u64, BuildHasherDefault<IdentityHasher>>,
    /// Turns taken by each pool. Bounded by the models a fleet ever listed, see [`Books::retain_pools`].
    turns: HashMap<u64, u64, BuildHasherDefault<IdentityHasher>>,
    sweep_at: usize,
}

impl Default for Books {
    fn default() -> Books {
        Books { whole_at_ns: HashMap::default(), turns: HashMap::default(), sweep_at: SWEEP_FROM }
    }
}

impl Books {
    /// Takes every limit of a claim, or none.
    ///
    /// # Errors
    /// [`Excess`] where one of them is used up; the books are then unchanged.
    pub fn admit(&mut self, limits: &Limits, pool_key: u64, now: Moment) -> Result<Admission, Excess> {
        let mut taken = [0_u64; LIMITS_MAX];
        let mut tightest: Option<Standing> = None;
        let mut excess: Option<Excess> = None;
        for (limit, slot) in limits.iter().zip(&mut taken) {
            match gcra::take(limit.quota, self.whole_at(limit), now.mono_ns) {
                Take::Allow { tat_ns, standing } => {
                    *slot = tat_ns;
                    if tightest.is_none_or(|other| is_tighter(standing, other)) {
                        tightest = Some(standing);
                    }
                }
                Take::Deny { retry_ns, standing } => {
                    if excess.is_none_or(|other| retry_ns > other.retry_ns) {
                        excess = Some(Excess { retry_ns, standing });
                    }
                }
            }
        }
        if let Some(excess) = excess {
            return Err(excess);
        }
        for (limit, tat_ns) in limits.iter().zip(taken) {
            self.whole_at_ns.insert((limit.scope, limit.position), tat_ns);
        }
        self.sweep(now);
        let turn = self.turns.entry(pool_key).or_default();
        *turn = turn.wrapping_add(1);
        Ok(Admission { requests: tightest, turn: turn.wrapping_sub(1) })
    }

    /// Gives back what an admitted claim took: no server could take it, so it is not charged (LiteLLM #39309).
    pub fn release(&mut self, limits: &Limits) {
        for limit in limits.iter() {
            if let Some(tat_ns) = self.whole_at_ns.get_mut(&(limit.scope, limit.position)) {
                *tat_ns = gcra::give_back(limit.quota, *tat_ns);
            }
        }
    }

    /// Forgets the turns of pools that no longer exist.
    pub fn retain_pools(&mut self, exists: impl Fn(u64) -> bool) {
        self.turns.retain(|pool_key, _| exists(*pool_key));
    }

    /// Entries held, for metrics and tests.
    pub fn len(&self) -> usize {
        self.whole_at_ns.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.whole_at_ns.is_empty()
    }

    fn whole_at(&self, limit: &Limit) -> u64 {
        self.whole_at_ns.get(&(limit.scope, limit.position)).copied().unwrap_or(0)
    }

    fn sweep(&mut self, now: Moment) {
        if self.whole_at_ns.len() >= self.sweep_at {
            self.whole_at_ns.retain(|_, tat_ns| *tat_ns > now.mono_ns);
            self.sweep_at = (self.whole_at_ns.len() * 2).max(SWEEP_FROM);
        }
    }
}

/// Fewer requests left, or as few and longer until it is whole.
fn is_tighter(one: Standing, other: Standing) -> bool {
    (one.remaining, std::cmp::Reverse(one.reset_ns)) < (other.remaining, std::cmp::Reverse(other.reset_ns))
}

/// Mixes what is a hash already: scopes are SHA-256 of names that an operator gave, pool keys hashes of model names. No
/// client can choose either, so nothing is gained by a keyed hash, which would be a third of the time `admit` takes.
#[derive(Default)]
struct IdentityHasher(u64);

impl IdentityHasher {
    fn mix(&mut self, value: u64) {
        // 2^64 over the golden ratio (Knuth, TAOCP 6.4): spreads neighbouring positions of one scope.
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }
    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
    fn write_u128(&mut self, value: u128) {
        let [low, high] = [value as u64, (value >> 64) as u64];
        self.mix(low ^ high);
    }
}
