//! Failed credentials by network (`[auth] failures`): a network with too many of them must wait before its next credential is
//! looked up.
//!
//! Scheme. governor's GCRA keeps one number for each network (a /32 or /64). A question from a network that has used up its
//! failures is refused at once; each failure is taken from what is left. Decisions that run at once may each pass before the
//! first has failed, so that a network can exceed its failures by the number of threads that decide. The address is the one
//! that the proxy saw, never one of a header.
//!
//! The map is bounded. When it is full it forgets networks that need not wait, and then any: an attacker with 65,536 networks
//! is not slowed by a limit per network, and must not lock others out by filling the map.

use crate::decision::caller::network::Network;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Quota;
use dashmap::{DashMap, Entry};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{NotUntil, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Most networks remembered.
pub const NETWORKS_MAX: usize = 65_536;

type FailureLimiter = RateLimiter<Network, FailureStore, HandedIn, NoOpMiddleware<Nanos>>;

/// The limiter of one quota.
#[derive(Debug)]
pub struct Failures {
    quota: Quota,
    networks: Arc<Networks>,
    now_ns: HandedIn,
    /// Counts a failure of a network.
    counting: FailureLimiter,
    /// Says whether another failure would be too many, and changes nothing.
    looking: FailureLimiter,
}

impl Failures {
    /// Returns a limiter that remembers no network yet.
    pub fn new(quota: Quota) -> Failures {
        let networks = Arc::new(Networks::default());
        let now_ns = HandedIn(Arc::default());
        let narrow = |count: u64| u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let spacing = Duration::from_nanos((quota.period_ns.get() / quota.count.get()).max(1));
        let theirs = governor::Quota::with_period(spacing)
            .unwrap_or(governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(narrow(quota.burst.get()));
        let limiter = |counts| {
            let store = FailureStore { networks: networks.clone(), counts };
            RateLimiter::new(theirs, store, now_ns.clone())
        };
        Failures { quota, counting: limiter(true), looking: limiter(false), networks, now_ns }
    }

    /// Returns the quota of each network.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Returns the nanoseconds that a network must wait before its next credential is looked up; `None` where it need not.
    pub fn wait_ns(&self, network: Network, now: Moment) -> Option<u64> {
        self.now_ns.hand_in(now);
        let wait = |until: NotUntil<Nanos>| until.wait_time_from(Nanos::new(now.mono_ns)).as_nanos();
        let waiting = self.looking.check_key(&network).err().map(wait)?;
        Some(u64::try_from(waiting).unwrap_or(u64::MAX))
    }

    /// Counts a failed credential of a network.
    pub fn failed(&self, network: Network, now: Moment) {
        self.now_ns.hand_in(now);
        if self.networks.is_full() {
            self.networks.make_room(now);
        }
        // Refused where more credentials fail at once than the quota has left: the network waits already.
        let _ = self.counting.check_key(&network);
    }

    /// Returns how many networks are remembered.
    pub fn len(&self) -> usize {
        self.networks.whole_at_ns.len()
    }

    /// Returns whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.networks.whole_at_ns.is_empty()
    }
}

/// When each network has its whole quota again, in nanoseconds (monotonic).
#[derive(Debug, Default)]
struct Networks {
    whole_at_ns: DashMap<Network, u64>,
    /// Upper bound of the map's length. To count the map would take every lock of it.
    held: AtomicUsize,
}

impl Networks {
    fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= NETWORKS_MAX
    }

    /// Frees at least half of the places, so that one search serves many failures.
    fn make_room(&self, now: Moment) {
        self.whole_at_ns.retain(|_, whole_at_ns| *whole_at_ns > now.mono_ns);
        let mut kept = 0_usize;
        self.whole_at_ns.retain(|_, _| {
            kept = kept.saturating_add(1);
            kept <= NETWORKS_MAX / 2
        });
        self.held.store(self.whole_at_ns.len(), Ordering::Relaxed);
    }
}

/// governor's view of the networks.
#[derive(Debug)]
struct FailureStore {
    networks: Arc<Networks>,
    /// Whether a measurement is kept.
    counts: bool,
}

impl StateStore for FailureStore {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, network: &Network, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Networks { whole_at_ns, held } = &*self.networks;
        if !self.counts {
            let whole_at = whole_at_ns.get(network).map(|whole_at_ns| Nanos::new(*whole_at_ns));
            return measure(whole_at).map(|(outcome, _)| outcome);
        }
        // The entry holds its shard's lock, so nothing changes in between; no other access is made under it.
        let entry = whole_at_ns.entry(*network);
        let before = if let Entry::Occupied(entry) = &entry { Some(Nanos::new(*entry.get())) } else { None };
        let (outcome, whole_at) = measure(before)?;
        entry.insert(whole_at.as_u64());
        held.fetch_add(usize::from(before.is_none()), Ordering::Relaxed);
        Ok(outcome)
    }
}

/// governor's clock, which shows the latest moment that a decision handed in.
#[derive(Debug, Clone)]
struct HandedIn(Arc<AtomicU64>);

impl HandedIn {
    fn hand_in(&self, now: Moment) {
        self.0.fetch_max(now.mono_ns, Ordering::Relaxed);
    }
}

impl Clock for HandedIn {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    const S: u64 = 1_000_000_000;

    fn at(ms: u64) -> Moment {
        Moment { mono_ns: S + ms * 1_000_000, unix_ms: 0 }
    }

    fn limiter(count: u64, period_s: u64) -> Failures {
        let some = |value| NonZeroU64::new(value).unwrap();
        Failures::new(Quota { count: some(count), period_ns: some(period_s * S), burst: some(count) })
    }

    fn network(number: u32) -> Network {
        Network::V4(number.to_be_bytes())
    }

    #[test]
    fn who_fails_too_often_waits_as_long_as_told_and_looking_costs_nothing() {
        let failures = limiter(3, 60);
        let one = network(1);
        for _ in 0..3 {
            for _ in 0..10 {
                assert_eq!(failures.wait_ns(one, at(0)), None);
            }
            failures.failed(one, at(0));
        }
        for (ms, wait_ms) in [(0, Some(20_000)), (5_000, Some(15_000)), (19_999, Some(1)), (20_000, None)] {
            assert_eq!(failures.wait_ns(one, at(ms)), wait_ms.map(|ms| ms * 1_000_000), "{ms}");
        }
        assert_eq!(failures.wait_ns(network(2), at(0)), None, "another network");
        failures.failed(one, at(20_000));
        assert_eq!(failures.wait_ns(one, at(20_000)), Some(20 * S));
    }

    #[test]
    fn networks_remembered_are_bounded() {
        let failures = limiter(1, 3_600);
        for number in 0..NETWORKS_MAX as u32 + 10 {
            failures.failed(network(number), at(0));
        }
        assert!(failures.len() <= NETWORKS_MAX && failures.len() > NETWORKS_MAX / 4, "{}", failures.len());
        // Those that have nothing to wait for go first.
        let failures = limiter(1, 1);
        for number in 0..NETWORKS_MAX as u32 {
            failures.failed(network(number), at(0));
        }
        failures.failed(network(u32::MAX), at(2_000));
        assert_eq!(failures.len(), 1);
    }
}
