//! Token rates and budgets against naive models, over random streams of grants, settlements, lost lines, reloads and clock
//! jumps.

use herdgate::decision::fleet::roster::ServerKey;
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::{
    Account, Accounts, Budget, Cost, Holder, Quota, Scope, Scopes, Terms, Tokens, Window,
};
use herdgate::decision::request::endpoint::Endpoint;
use herdgate::ledger::account::ExhaustedLimit;
use herdgate::ledger::books::{Books, SettleOutcome};
use herdgate::ledger::reservation::{CallerName, Evidence, ProxyUid, Reservation};
use herdgate::ledger::tokens::observed::ObservedUsage;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

const S: u64 = 1_000_000_000;
const DAY_MS: i64 = 86_400_000;
/// Longest a stream may be in these tests.
const STREAM_NS: u64 = 600 * S;

/// Requests in flight: what is reserved for each, whether for the team too, and since when.
type Open = BTreeMap<u128, (u64, bool, u64)>;

/// What can happen to a request that is on its way, or to time.
#[derive(Debug, Clone)]
enum Event {
    /// A request that holds so many tokens asks, for the key alone or for its team, too.
    Ask { held: u64, team: bool },
    /// One on its way ends, having used this share (in percent) of what it held; its line comes so many times.
    Settle { which: usize, percent: u64, times: usize },
    /// The verdict of one on its way never arrived.
    Unheard { which: usize },
    /// A line comes for one that has ended already.
    Again { which: usize, percent: u64 },
    /// Time passes on both clocks, in milliseconds.
    Wait { ms: u64 },
    /// The wall clock jumps.
    Jump { ms: i64 },
    /// Nobody asks, and old slots end.
    Expire,
    /// A reload makes the key's token rate so many per minute.
    Reload { count: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..2_000_u64, any::<bool>()).prop_map(|(held, team)| Event::Ask { held, team }),
        5 => (any::<usize>(), 0..200_u64, 1..3_usize)
            .prop_map(|(which, percent, times)| Event::Settle { which, percent, times }),
        1 => any::<usize>().prop_map(|which| Event::Unheard { which }),
        1 => (any::<usize>(), 0..200_u64).prop_map(|(which, percent)| Event::Again { which, percent }),
        5 => (0..90_000_u64).prop_map(|ms| Event::Wait { ms }),
        1 => (-2 * DAY_MS..2 * DAY_MS).prop_map(|ms| Event::Jump { ms }),
        1 => Just(Event::Expire),
        1 => (500..20_000_u64).prop_map(|count| Event::Reload { count }),
    ]
}

/// A bucket in exact fractions: debt in thousandths of a token, times the period in nanoseconds.
struct ExactBucket {
    quota: Quota,
    debt: u128,
    at_ns: u64,
}

impl ExactBucket {
    fn at(&mut self, now_ns: u64) {
        let flown = u128::from(now_ns - self.at_ns) * u128::from(self.quota.count.get()) * 1000;
        self.debt = self.debt.saturating_sub(flown);
        self.at_ns = now_ns;
    }
    fn charge(&mut self, milli: u64) {
        self.debt += u128::from(milli) * u128::from(self.quota.period_ns.get());
    }
    /// Thousandths of a token of room beside what is held.
    fn room(&self, held: u64) -> i128 {
        let capacity = i128::from(self.quota.burst.get()) * 1000;
        capacity - (self.debt / u128::from(self.quota.period_ns.get())) as i128 - i128::from(held)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// LiteLLM #18730: a limit that requests at once walk past; LiteLLM#26672, Envoy AI Gateway#2394: budgets that look only
    /// at what was charged. Here what is on its way is held, so that whatever comes in
    /// what order, a limit is passed by no more than requests used beyond what they held.
    #[test]
    fn litellm_18730_no_order_of_events_passes_a_limit_by_more_than_what_went_beyond_its_reservation(
        events in prop::collection::vec(event(), 1..250),
    ) {
        let mut books = Books::new(STREAM_NS);
        let mut rate = quota(6_000, 60);
        let team_terms = Terms { budgets: vec![budget(30_000, Window::Day), budget(200_000, Window::Month)], ..Terms::default() };
        let mut key = ExactBucket { quota: rate, debt: 0, at_ns: S };
        let mut now = Moment { mono_ns: S, unix_ms: 1_790_000_000_000 };
        let (mut open, mut done) = (Open::new(), Vec::new());
        let (mut next_id, mut charges, mut beyond) = (1_u128, 0_u32, 0_u64);
        for event in events {
            key.at(now.mono_ns);
            match event {
                Event::Ask { held, team } => {
                    let key_terms = Terms { tokens: Some(rate), ..Terms::default() };
                    let mut accounts = Accounts::default();
                    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms: &key_terms }));
                    if team {
                        assert!(accounts.push(Account { scope: Scope(2), holder: Holder::Team, terms: &team_terms }));
                    }
                    // What is too old ends with the question; the model must see that first.
                    books.expire(now);
                    expire(&mut books, &mut open, &mut done, &mut key, &mut charges);
                    let milli = held * 1000;
                    let reserved = |of_team: bool| -> u64 {
                        open.values().filter(|(_, team, _)| *team || !of_team).map(|(held, ..)| held * 1000).sum()
                    };
                    let charged = |books: &mut Books, window| books.charged_of(Scope(2), window, now);
                    let before = format!("{books:?}");
                    let day = charged(&mut books, Window::Day) + reserved(true) + milli <= 30_000_000;
                    let month = charged(&mut books, Window::Month) + reserved(true) + milli <= 200_000_000;
                    let room = key.room(reserved(false));
                    match books.admit(&accounts, milli, None, now) {
                        Ok(_) => {
                            prop_assert!(room >= i128::from(milli), "{room} of room for {milli}");
                            prop_assert!(!team || (day && month));
                            let reservation = reservation(next_id, held, accounts.scopes(), now);
                            prop_assert!(books.open(reservation));
                            open.insert(next_id, (held, team, now.mono_ns));
                            next_id += 1;
                        }
                        Err(_) => {
                            // Each charge may be rounded up by a nanosecond of refill.
                            let slack = i128::from(charges + 1) * i128::from(1 + rate.count.get() * 1000 / rate.period_ns.get());
                            prop_assert!(room < i128::from(milli) + slack || (team && !(day && month)), "{room} of room");
                            prop_assert_eq!(before, format!("{books:?}"), "a refusal changed the books");
                        }
                    }
                }
                Event::Settle { which, percent, times } => {
                    let Some((&id, &(held, ..))) = nth(&open, which) else { continue };
                    let used = held * percent / 100;
                    for turn in 0..times {
                        let before = format!("{books:?}");
                        let ended = books.settle(id, &exactly(used), now);
                        if turn == 0 {
                            prop_assert!(matches!(&ended, SettleOutcome::Settled(record) if record.charge() == used * 1000
                                && record.evidence == Evidence::Exact));
                        } else {
                            prop_assert_eq!((ended, before), (SettleOutcome::Again, format!("{books:?}")));
                        }
                    }
                    open.remove(&id);
                    done.push(id);
                    key.charge(used * 1000);
                    charges += 1;
                    beyond += used.saturating_sub(held) * 1000;
                }
                Event::Unheard { which } => {
                    let Some((&id, _)) = nth(&open, which) else { continue };
                    let ended = books.ended_unheard(ProxyUid::new(id as u64).unwrap(), now);
                    prop_assert!(matches!(ended, SettleOutcome::Released(found, _) if found == id), "{ended:?}");
                    open.remove(&id);
                    done.push(id);
                }
                Event::Again { which, percent } => {
                    let Some(&id) = done.get(which % done.len().max(1)) else { continue };
                    // Late evidence of one that had expired may raise its charge, and then is debt.
                    if let SettleOutcome::Corrected(record) = books.settle(id, &exactly(percent * 10), now) {
                        let more = record.charge().saturating_sub(record.reservation.reserved());
                        key.charge(more);
                        charges += 1;
                        beyond += more;
                    }
                }
                Event::Wait { ms } => now = now.plus_ns(ms * 1_000_000),
                Event::Jump { ms } => now.unix_ms += ms,
                Event::Expire => {
                    books.expire(now);
                    expire(&mut books, &mut open, &mut done, &mut key, &mut charges);
                }
                Event::Reload { count } => {
                    rate = quota(count, 60);
                    // The new rate holds from the next question on.
                    let key_terms = Terms { tokens: Some(rate), ..Terms::default() };
                    let mut accounts = Accounts::default();
                    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms: &key_terms }));
                    books.expire(now);
                    expire(&mut books, &mut open, &mut done, &mut key, &mut charges);
                    if books.admit(&accounts, 0, None, now).is_ok() {
                        let debt = key.debt / u128::from(key.quota.period_ns.get());
                        key = ExactBucket { quota: rate, debt: debt * u128::from(rate.period_ns.get()), at_ns: now.mono_ns };
                    } else {
                        rate = key.quota;
                    }
                }
            }
            let held: u64 = open.values().map(|(held, ..)| held * 1000).sum();
            prop_assert_eq!(books.reserved_of(Scope(1)), held);
            prop_assert_eq!(books.in_flight_of(Scope(1)) as usize, open.len());
            let day = books.charged_of(Scope(2), Window::Day, now) + books.reserved_of(Scope(2));
            prop_assert!(day <= 30_000_000 + beyond, "{day} of 30,000,000 with {beyond} beyond");
        }
        // At idle nothing is held.
        let later = now.plus_ns(2 * STREAM_NS);
        books.expire(later);
        prop_assert_eq!((books.reserved_of(Scope(1)), books.reserved_of(Scope(2))), (0, 0));
        prop_assert!(books.slots().is_empty());
    }
}

/// What the books have expired is charged in the model, too: the reservation, because nothing else is known.
fn expire(books: &mut Books, open: &mut Open, done: &mut Vec<u128>, key: &mut ExactBucket, charges: &mut u32) {
    for record in books.take_expired() {
        let (held, ..) = open.remove(&record.reservation.id).unwrap();
        assert_eq!((record.evidence, record.charge()), (Evidence::Reserved, held * 1000));
        done.push(record.reservation.id);
        key.charge(held * 1000);
        *charges += 1;
    }
}

/// `script`: at a second, ask for so many tokens (with what is expected), or settle the n-th grant at so many.
enum Step {
    Ask(u64, u64, Result<u64, (ExhaustedLimit, u64)>),
    Settle(u64, u128, u64),
}

fn check(terms: &Terms, script: &[Step]) {
    let mut books = Books::new(3600 * S);
    let mut accounts = Accounts::default();
    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms }));
    let mut id = 0;
    for (number, step) in script.iter().enumerate() {
        match step {
            Step::Ask(second, held, expected) => {
                let now = at(*second);
                let found = books.admit(&accounts, held * 1000, None, now);
                let told = match &found {
                    Ok(admission) => Ok(admission.standings.tokens.map_or(0, |standing| standing.remaining)),
                    Err(excess) => Err((excess.limit, excess.retry_ns.unwrap_or(0).div_ceil(S))),
                };
                assert_eq!(told, *expected, "step {number}");
                if found.is_ok() {
                    books.open(reservation(id, *held, accounts.scopes(), now));
                    id += 1;
                }
            }
            Step::Settle(second, id, used) => {
                let ended = books.settle(*id, &exactly(*used), at(*second));
                assert!(matches!(ended, SettleOutcome::Settled(_)), "step {number}: {ended:?}");
            }
        }
    }
}

use Step::{Ask, Settle};

#[test]
fn what_was_held_and_not_used_is_free_again_at_once() {
    check(
        &Terms { tokens: Some(quota(1_000, 60)), ..Terms::default() },
        &[
            Ask(0, 800, Ok(200)),
            Ask(0, 300, Err((ExhaustedLimit::Tokens, 60))), // as long as requests are taken to last
            Settle(0, 0, 100),
            Ask(0, 900, Ok(0)),
            Ask(0, 1, Err((ExhaustedLimit::Tokens, 1))), // a hundred flow back at 1000 a minute
            Settle(0, 1, 900),
            Ask(0, 500, Err((ExhaustedLimit::Tokens, 30))),
            Ask(30, 500, Ok(0)),
        ],
    );
}

#[test]
fn debt_blocks_until_it_has_flowed_back() {
    check(
        &Terms { tokens: Some(quota(600, 60)), ..Terms::default() },
        &[
            Ask(0, 100, Ok(500)),
            Settle(0, 0, 1_800),
            Ask(0, 1, Err((ExhaustedLimit::Tokens, 121))),
            Ask(120, 1, Err((ExhaustedLimit::Tokens, 1))),
            Ask(121, 1, Ok(9)),
        ],
    );
}

#[test]
fn a_request_that_could_never_fit_is_told_so() {
    let never = |reserved, most| Err((ExhaustedLimit::NeverFits { reserved, most }, 0));
    check(
        &Terms { tokens: Some(quota(600, 60)), ..Terms::default() },
        &[Ask(0, 601, never(601, 600)), Ask(0, 600, Ok(0))],
    );
    check(
        &Terms { budgets: vec![budget(50, Window::Day)], ..Terms::default() },
        &[Ask(0, 51, never(51, 50)), Ask(0, 50, Ok(0))],
    );
}

/// LiteLLM #24677, #29191: 429 on the very first request, because too much was reserved for it.
#[test]
fn litellm_24677_the_first_request_of_an_unused_limit_passes() {
    for terms in [
        Terms { tokens: Some(quota(100, 60)), budgets: vec![budget(100, Window::Month)], ..Terms::default() },
        Terms { requests: vec![Quota { burst: some(1), ..quota(1, 3_600) }], concurrency: Some(1), ..Terms::default() },
    ] {
        let left = if terms.tokens.is_some() { 99 } else { 0 };
        check(&terms, &[Ask(0, 1, Ok(left))]);
    }
}

#[test]
fn a_budget_is_whole_again_when_its_window_ends_and_not_before() {
    // 1970-01-01, six hours before the day ends.
    let six_hours = 21_600;
    check(
        &Terms { budgets: vec![budget(100, Window::Day)], ..Terms::default() },
        &[
            Ask(64_800, 60, Ok(40)),
            Ask(64_800, 60, Err((ExhaustedLimit::Budget(Window::Day), 60))), // held, and may come free
            Settle(64_800, 0, 100),
            Ask(64_800, 1, Err((ExhaustedLimit::Budget(Window::Day), six_hours))),
            Ask(86_399, 1, Err((ExhaustedLimit::Budget(Window::Day), 1))),
            Ask(86_400, 60, Ok(40)),
        ],
    );
}

#[test]
fn a_request_that_crosses_midnight_counts_in_the_day_it_ends() {
    check(
        &Terms { budgets: vec![budget(100, Window::Day)], ..Terms::default() },
        &[
            Ask(86_399, 60, Ok(40)),
            Ask(86_400, 60, Err((ExhaustedLimit::Budget(Window::Day), 60))),
            Settle(86_401, 0, 90),
            Ask(86_402, 11, Err((ExhaustedLimit::Budget(Window::Day), 86_398))),
            Ask(86_402, 10, Ok(0)),
        ],
    );
}

#[test]
fn a_shadow_counts_and_lets_pass() {
    let terms = Terms { tokens: Some(quota(100, 60)), concurrency: Some(1), shadow: true, ..Terms::default() };
    let mut books = Books::new(3600 * S);
    let mut accounts = Accounts::default();
    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms: &terms }));
    for (id, expected) in [(0, None), (1, Some(ExhaustedLimit::Tokens)), (2, Some(ExhaustedLimit::Tokens))] {
        let admission = books.admit(&accounts, 80_000, None, at(0)).unwrap();
        let shadowed = admission.shadowed.map(|excess| excess.limit);
        assert!(
            shadowed == expected || (expected.is_some() && shadowed == Some(ExhaustedLimit::Concurrency)),
            "{shadowed:?}"
        );
        books.open(reservation(id, 80, accounts.scopes(), at(0)));
    }
    assert_eq!(books.reserved_of(Scope(1)), 240_000);
}

/// LiteLLM #14457: usage lost where the client disconnects. A request whose line never comes is charged what it held, and
/// otherwise when its line comes late.
#[test]
fn litellm_14457_a_lost_line_is_charged_and_a_late_one_corrects() {
    let mut books = Books::new(60 * S);
    let terms = Terms { budgets: vec![budget(1_000, Window::Day)], ..Terms::default() };
    let mut accounts = Accounts::default();
    assert!(accounts.push(Account { scope: Scope(1), holder: Holder::Key, terms: &terms }));
    books.admit(&accounts, 500_000, None, at(0)).unwrap();
    books.open(reservation(7, 500, accounts.scopes(), at(0)));
    assert_eq!(books.expire(at(61)), 1);
    let expired = books.take_expired();
    assert_eq!((expired[0].evidence, expired[0].charge()), (Evidence::Reserved, 500_000));
    let charged = |books: &mut Books| books.charged_of(Scope(1), Window::Day, at(70));
    assert_eq!((charged(&mut books), books.reserved_of(Scope(1))), (500_000, 0));
    let SettleOutcome::Corrected(record) = books.settle(7, &exactly(120), at(70)) else { panic!("not corrected") };
    assert_eq!((record.evidence, record.charge(), charged(&mut books)), (Evidence::Exact, 120_000, 120_000));
    assert_eq!(books.settle(7, &exactly(900), at(71)), SettleOutcome::Again);
    assert_eq!(charged(&mut books), 120_000);
}

fn nth(open: &Open, which: usize) -> Option<(&u128, &(u64, bool, u64))> {
    open.iter().nth(which % open.len().max(1))
}

fn exactly(tokens: u64) -> ObservedUsage {
    ObservedUsage { complete: true, tokens_out: Some(tokens), status: Some(200), ..ObservedUsage::default() }
}

fn some(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

fn quota(count: u64, period_s: u64) -> Quota {
    Quota { count: some(count), period_ns: some(period_s * S), burst: some(count) }
}

fn budget(most: u64, window: Window) -> Budget {
    Budget { most: some(most), window }
}

fn reservation(id: u128, tokens: u64, scopes: Scopes, now: Moment) -> Reservation {
    Reservation {
        id,
        uid: ProxyUid::new(id as u64),
        scopes,
        caller: CallerName::new("ann"),
        user: None,
        team: None,
        model: None,
        endpoint: Endpoint::Chat,
        stream: true,
        server: ServerKey::new(0),
        pool: None,
        opened_ns: now.mono_ns,
        opened_unix_ms: now.unix_ms,
        tokens: Tokens { prompt: 0, output: tokens },
        cost: Cost::default(),
        written: Default::default(),
    }
}

fn at(second: u64) -> Moment {
    Moment { mono_ns: (second + 1) * S, unix_ms: second as i64 * 1000 }
}
