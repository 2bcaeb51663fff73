//! The books against a naive model and against governor, over random streams of requests.

use governor::clock::FakeRelativeClock;
use governor::{Quota as GovernorQuota, RateLimiter};
use herdgate::decision::fleet::roster::PoolKey;
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::{Account, Accounts, Holder, Quota, Scope, Terms, Window};
use herdgate::ledger::account::LimitExcess;
use herdgate::ledger::books::Books;
use proptest::prelude::*;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

const MINUTE: u64 = 60_000_000_000;

/// `script`: milliseconds → what remains after an admission, or the seconds to wait.
fn check(quotas: &[Quota], script: &[(u64, Result<u64, f64>)]) {
    let mut books = Books::default();
    let terms = terms(quotas);
    let limits = accounts(&terms);
    for (step, (ms, expected)) in script.iter().enumerate() {
        let found = books
            .admit(&limits, 0, None, at(ms * 1_000_000))
            .map(|admission| admission.standings.requests.unwrap().remaining)
            .map_err(|excess| wait_ns(excess) as f64 / 1e9);
        assert_eq!(found, *expected, "step {step} at {ms} ms");
    }
}

#[test]
fn a_burst_is_taken_at_once_and_comes_back_at_the_rate() {
    check(
        &[quota(60, MINUTE, 3)],
        &[
            (0, Ok(2)),
            (0, Ok(1)),
            (0, Ok(0)),
            (0, Err(1.0)),
            (400, Err(0.6)),
            (1000, Ok(0)),
            (1000, Err(1.0)),
            (10_000, Ok(2)),
        ],
    );
}

#[test]
fn of_several_limits_the_tightest_is_reported_and_the_longest_wait_told() {
    check(
        &[quota(5, 1_000_000_000, 2), quota(60, MINUTE, 4)],
        &[(0, Ok(1)), (0, Ok(0)), (0, Err(0.2)), (200, Ok(0)), (400, Ok(0)), (600, Err(0.4)), (1000, Ok(0))],
    );
}

#[test]
fn a_limit_made_smaller_does_not_lock_its_caller_out_for_longer_than_the_new_one_could() {
    let mut books = Books::default();
    let wide = terms(&[quota(1, MINUTE, 100)]);
    let wide = accounts(&wide);
    for _ in 0..100 {
        books.admit(&wide, 0, None, at(0)).unwrap();
    }
    let narrow = terms(&[quota(60, MINUTE, 2)]);
    let narrow = accounts(&narrow);
    let excess = books.admit(&narrow, 0, None, at(0)).unwrap_err();
    assert_eq!(wait_ns(excess), 1_000_000_000);
}

#[test]
fn stale_entries_are_dropped_so_that_the_books_stay_bounded() {
    let mut books = Books::default();
    let terms = terms(&[quota(60, MINUTE, 3)]);
    for round in 0..20_u64 {
        for identity in 0..2_000_u128 {
            let mut limits = Accounts::default();
            let scope = Scope(u128::from(round) * 2_000 + identity);
            assert!(limits.push(Account { scope, holder: Holder::Key, terms: &terms }));
            books.admit(&limits, 0, None, at(round * MINUTE)).unwrap();
        }
    }
    assert!(books.len() <= 8_192, "{} entries for 40,000 identities that came once", books.len());
}

#[test]
fn pools_take_turns_of_their_own() {
    let mut books = Books::default();
    let none = Accounts::default();
    let turns: Vec<u64> =
        [1, 2, 1, 2, 1].iter().map(|key| books.admit(&none, 0, PoolKey::new(*key), at(0)).unwrap().turn).collect();
    assert_eq!(turns, [0, 0, 1, 1, 2]);
    books.retain_pools(|key| key.get() == 1);
    assert_eq!(books.admit(&none, 0, PoolKey::new(1), at(0)).unwrap().turn, 3);
    assert_eq!(books.admit(&none, 0, PoolKey::new(2), at(0)).unwrap().turn, 0);
}

proptest! {
    #[test]
    fn the_books_agree_with_a_naive_bucket_model(
        quotas in quotas(),
        gaps in prop::collection::vec(0..3_000_000_000_u64, 1..200),
    ) {
        let mut books = Books::default();
        let terms = terms(&quotas);
        let limits = accounts(&terms);
        let mut model: Vec<_> = quotas.iter().map(|quota| NaiveBucket::full(*quota)).collect();
        let mut now = 0;
        for gap in gaps {
            now += gap;
            model.iter_mut().for_each(|bucket| bucket.refill(now));
            let allowed = model.iter().all(|bucket| bucket.credit_ns >= bucket.interval());
            // The calendar notes the time whatever comes of a claim.
            books.charged_of(Scope(0), Window::Day, at(now));
            let before = format!("{books:?}");
            match books.admit(&limits, 0, None, at(now)) {
                Ok(admission) => {
                    prop_assert!(allowed);
                    model.iter_mut().for_each(|bucket| bucket.credit_ns -= bucket.interval());
                    let remaining = model.iter().map(|bucket| bucket.credit_ns / bucket.interval()).min().unwrap();
                    prop_assert_eq!(u128::from(admission.standings.requests.unwrap().remaining), remaining);
                }
                Err(excess) => {
                    prop_assert!(!allowed);
                    prop_assert_eq!(before, format!("{books:?}"), "a refusal changed the books");
                    let wait =
                        model.iter().map(|bucket| bucket.interval().saturating_sub(bucket.credit_ns)).max().unwrap();
                    prop_assert_eq!(u128::from(wait_ns(excess)), wait);
                }
            }
        }
    }

    #[test]
    fn waiting_as_long_as_told_is_enough_and_a_moment_less_is_not(quotas in quotas()) {
        let mut books = Books::default();
        let terms = terms(&quotas);
        let limits = accounts(&terms);
        let excess = loop {
            if let Err(excess) = books.admit(&limits, 0, None, at(0)) {
                break excess;
            }
        };
        prop_assert!(books.admit(&limits, 0, None, at(wait_ns(excess) - 1)).is_err());
        prop_assert!(books.admit(&limits, 0, None, at(wait_ns(excess))).is_ok());
    }

    #[test]
    fn a_release_gives_back_exactly_what_was_taken(quotas in quotas(), taken in 0..10_usize) {
        let (mut with, mut without) = (Books::default(), Books::default());
        let terms = terms(&quotas);
        let limits = accounts(&terms);
        for _ in 0..taken {
            let _ = with.admit(&limits, 0, None, at(0));
            let _ = without.admit(&limits, 0, None, at(0));
        }
        if with.admit(&limits, 0, None, at(0)).is_ok() {
            with.release(&limits);
        }
        for later in [0, 0, 1_000_000, 5_000_000_000] {
            let found = with.admit(&limits, 0, None, at(later)).map(|admission| admission.standings.requests);
            prop_assert_eq!(found, without.admit(&limits, 0, None, at(later)).map(|admission| admission.standings.requests));
        }
    }

    #[test]
    fn governor_agrees_with_our_gcra(
        interval_ms in 1..100_u64,
        burst in 1..20_u32,
        gaps in prop::collection::vec(0..2_000_000_000_u64, 1..200),
    ) {
        let interval_ns = interval_ms * 1_000_000;
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(
            GovernorQuota::with_period(Duration::from_nanos(interval_ns))
                .unwrap()
                .allow_burst(NonZeroU32::new(burst).unwrap()),
            clock.clone(),
        );
        let mut books = Books::default();
        let terms = terms(&[quota(1, interval_ns, u64::from(burst))]);
        let limits = accounts(&terms);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            clock.advance(Duration::from_nanos(gap));
            for _ in 0..burst.min(3) {
                prop_assert_eq!(books.admit(&limits, 0, None, at(now)).is_ok(), theirs.check().is_ok());
            }
        }
    }
}

/// A limit kept as nanoseconds of credit: the same curve written the other way round.
struct NaiveBucket {
    quota: Quota,
    credit_ns: u128,
    at_ns: u64,
}

impl NaiveBucket {
    fn full(quota: Quota) -> NaiveBucket {
        let mut bucket = NaiveBucket { quota, credit_ns: 0, at_ns: 0 };
        bucket.credit_ns = bucket.capacity();
        bucket
    }
    fn interval(&self) -> u128 {
        u128::from(self.quota.period_ns.get().div_ceil(self.quota.count.get()))
    }
    fn capacity(&self) -> u128 {
        self.interval() * u128::from(self.quota.burst.get())
    }
    fn refill(&mut self, now_ns: u64) {
        self.credit_ns = (self.credit_ns + u128::from(now_ns - self.at_ns)).min(self.capacity());
        self.at_ns = now_ns;
    }
}

fn wait_ns(excess: LimitExcess) -> u64 {
    excess.retry_ns.unwrap()
}

fn quotas() -> impl Strategy<Value = Vec<Quota>> {
    let one = (1..200_u64, prop::sample::select(vec![1_000_000_000, MINUTE, 60 * MINUTE]), 1..20_u64)
        .prop_map(|(count, period, burst)| quota(count, period, burst));
    prop::collection::vec(one, 1..5)
}

fn quota(count: u64, period_ns: u64, burst: u64) -> Quota {
    let some = |value: u64| NonZeroU64::new(value).unwrap();
    Quota { count: some(count), period_ns: some(period_ns), burst: some(burst) }
}

fn terms(quotas: &[Quota]) -> Terms {
    Terms { requests: quotas.to_vec(), ..Terms::default() }
}

fn accounts(terms: &Terms) -> Accounts<'_> {
    let mut accounts = Accounts::default();
    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms }));
    accounts
}

fn at(ns: u64) -> Moment {
    Moment { mono_ns: 1_000_000_000 + ns, unix_ms: 0 }
}
