//! The quota books: takes all limits of a claim or none, and gives them back. Pure: integers and the moment handed in.

use super::durations::Durations;
use super::gcra::{self, Take};
use super::shares::Shares;
use super::silence::Silence;
use super::slots::{Slot, Slots};
use super::users::Users;
use super::waits::Waits;
use crate::decision::choose::Load;
use crate::decision::limits::{Holder, LIMITS_MAX, Limit, Limits, Scope, Seats, User};
use crate::decision::moment::Moment;
use crate::decision::verdict::Standing;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

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
pub enum Excess {
    /// A request rate is used up.
    Rate(RateExcess),
    /// The caller, its user or its team has as many requests on their way as it may.
    Concurrency {
        /// Which of them.
        holder: Holder,
        /// Nanoseconds after which one of them will probably have ended.
        retry_ns: u64,
    },
}

/// A request rate is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateExcess {
    /// Nanoseconds until all of its limits would allow it.
    pub retry_ns: u64,
    /// Where the caller stands with the limit that takes longest.
    pub standing: Standing,
    /// Whose limit that is.
    pub holder: Holder,
}

/// How long requests are taken to last before any has ended: a long answer of a slow model.
const UNLEARNED_NS: u64 = 60_000_000_000;

/// Past this many entries the books look for stale ones; it doubles while they are all live.
const SWEEP_FROM: usize = 4096;

/// All books in memory.
#[derive(Debug)]
pub struct Books {
    /// When each limit would be whole again. An entry in the past equals no entry, so stale ones can be dropped.
    whole_at_ns: HashMap<(Scope, u8), u64, Seeded>,
    /// Turns taken by each pool. Bounded by the models a fleet ever listed, see [`Books::retain_pools`].
    turns: HashMap<u64, u64, Seeded>,
    sweep_at: usize,
    pub(super) slots: Slots,
    users: Users,
    durations: Durations,
    silence: Silence,
    /// Nanoseconds after which a slot ends though no line came (`[ledger] max_stream`).
    max_stream_ns: u64,
    /// Who has had how much of which server.
    pub(super) shares: Shares,
    /// How long servers take.
    pub(super) waits: Waits,
    /// When lines came again after they had stopped: of what was opened before, some lines are lost for ever.
    heard_again: Moment,
}

impl Default for Books {
    fn default() -> Books {
        Books::new(3_600_000_000_000)
    }
}

/// What a usage line, or time, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// This slot was open and is released.
    Released(Slot),
    /// No such slot is open: the line came again, late, or for a request that took none.
    Nothing,
}

impl Books {
    /// Empty books, whose slots end after `max_stream_ns` at the latest.
    pub fn new(max_stream_ns: u64) -> Books {
        let seeded = Seeded::new();
        Books {
            whole_at_ns: HashMap::with_hasher(seeded),
            turns: HashMap::with_hasher(seeded),
            sweep_at: SWEEP_FROM,
            slots: Slots::default(),
            users: Users::default(),
            durations: Durations::default(),
            silence: Silence::default(),
            shares: Shares::default(),
            waits: Waits::default(),
            max_stream_ns,
            heard_again: Moment::default(),
        }
    }

    /// Takes every limit of a claim, or none.
    ///
    /// # Errors
    /// [`Excess`] where one of them is used up; the books are then unchanged.
    pub fn admit(&mut self, limits: &Limits, seats: &Seats, pool_key: u64, now: Moment) -> Result<Admission, Excess> {
        self.expire(now);
        let is_full = |most: u32, scope| self.slots.of_caller(scope) >= most;
        if let Some(full) = seats.iter().find(|seat| seat.most.is_some_and(|most| is_full(most, seat.scope))) {
            return Err(Excess::Concurrency { holder: full.holder, retry_ns: self.usual_ns(500) });
        }
        let mut taken = [0_u64; LIMITS_MAX];
        let mut tightest: Option<Standing> = None;
        let mut excess: Option<RateExcess> = None;
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
                        excess = Some(RateExcess { retry_ns, standing, holder: limit.holder });
                    }
                }
            }
        }
        if let Some(excess) = excess {
            return Err(Excess::Rate(excess));
        }
        for (limit, tat_ns) in limits.iter().zip(taken) {
            self.whole_at_ns.insert((limit.scope, limit.position), tat_ns);
        }
        self.sweep(now);
        let turn = self.turns.entry(pool_key).or_default();
        *turn = turn.wrapping_add(1);
        Ok(Admission { requests: tightest, turn: turn.wrapping_sub(1) })
    }

    /// The books a user is counted in now: its own, or those it shares where the key has too many users. Changes nothing.
    pub fn scope_of(&self, user: &User) -> Scope {
        self.users.scope_of(user)
    }

    /// Remembers the user of a request that was granted.
    pub fn note_user(&mut self, user: &User, now: Moment) {
        self.users.note(user, now);
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

    /// Forgets the users of keys that no longer exist.
    pub fn retain_keys(&mut self, exists: impl Fn(Scope) -> bool) {
        self.users.retain_keys(exists);
    }

    /// Opens the slot of a granted request.
    pub fn open(&mut self, slot: Slot) {
        self.silence.granted(slot.opened);
        // One expired to make room was the oldest of very many: nothing learned from it.
        let _ = self.slots.open(slot);
    }

    /// A usage line with a receipt of ours: the request has ended. Releasing twice equals once.
    pub fn ended(&mut self, id: u128, now: Moment) -> Ended {
        self.hear(now);
        let released = self.slots.release(id);
        self.learn(released, now)
    }

    /// A usage line without a receipt: where its request took a slot, its verdict never arrived at the proxy.
    pub fn ended_unheard(&mut self, uid: u64, now: Moment) -> Ended {
        let released = self.slots.release_uid(uid);
        if released.is_some() {
            self.hear(now);
        }
        // How long it took says nothing of requests that were served.
        released.map_or(Ended::Nothing, Ended::Released)
    }

    /// Ends what is older than a stream may be; and, of what was opened before or while usage lines had stopped coming,
    /// what is older than almost every request lives: its lines may be lost. Answers how many.
    pub fn expire(&mut self, now: Moment) -> usize {
        let doubtful_ns = if self.is_silent(now) { now.mono_ns } else { self.heard_again.mono_ns };
        let usual_ago_ns = now.mono_ns.saturating_sub(self.usual_ns(990).min(self.max_stream_ns));
        let too_long_ago_ns = now.mono_ns.saturating_sub(self.max_stream_ns);
        self.slots.expire(doubtful_ns.min(usual_ago_ns).max(too_long_ago_ns))
    }

    /// A line came that belonged to a grant.
    fn hear(&mut self, now: Moment) {
        if self.is_silent(now) {
            self.heard_again = now;
        }
        self.silence.line(now);
    }

    /// Whether usage lines have stopped coming while requests are granted: the alarm.
    pub fn is_silent(&self, now: Moment) -> bool {
        self.silence.is_silent(now, self.usual_ns(990))
    }

    /// The requests on their way.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Changes how long a slot may stay open (configuration reloaded).
    pub fn set_max_stream_ns(&mut self, max_stream_ns: u64) {
        self.max_stream_ns = max_stream_ns;
    }

    /// How long `permille`/1000 of the requests take; a guess before any ended, at least a second.
    fn usual_ns(&self, permille: u32) -> u64 {
        self.durations.quantile_ms(permille).map_or(UNLEARNED_NS, |ms| ms.saturating_mul(1_000_000)).max(1_000_000_000)
    }

    fn learn(&mut self, released: Option<Slot>, now: Moment) -> Ended {
        match released {
            Some(slot) => {
                self.durations.note(now.since(slot.opened) / 1_000_000);
                Ended::Released(slot)
            }
            None => Ended::Nothing,
        }
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

impl Load for Books {
    fn on_their_way(&self, server_key: u64, pool_key: u64) -> u32 {
        self.slots.of_pair(server_key, pool_key)
    }

    fn on_their_way_in_all(&self, server_key: u64) -> u32 {
        self.slots.of_server(server_key)
    }
}

/// Fewer requests left, or as few and longer until it is whole.
fn is_tighter(one: Standing, other: Standing) -> bool {
    (one.remaining, std::cmp::Reverse(one.reset_ns)) < (other.remaining, std::cmp::Reverse(other.reset_ns))
}

/// Mixes what is a hash already: scopes are SHA-256 of names, pool keys hashes of model names. Some of the names a client
/// can choose (a user's, a network's), and could choose to meet in one bucket. So the mixing is seeded at start, and
/// folds the product of 64 by 64 bits, of which every bit depends on the seed. SipHash would be a third of the time
/// `admit` takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeded(u64);

impl Seeded {
    pub(super) fn new() -> Seeded {
        Seeded(RandomState::new().build_hasher().finish() | 1)
    }
}

impl BuildHasher for Seeded {
    type Hasher = FoldingHasher;

    fn build_hasher(&self) -> FoldingHasher {
        FoldingHasher { state: self.0, seed: self.0 }
    }
}

pub(super) struct FoldingHasher {
    state: u64,
    seed: u64,
}

impl FoldingHasher {
    fn mix(&mut self, value: u64) {
        // 2^64 over the golden ratio (Knuth, TAOCP 6.4), so that no seed is a weak factor.
        let product = u128::from(self.state ^ value) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        self.state = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for FoldingHasher {
    fn finish(&self) -> u64 {
        self.state
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
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }
}
