//! Slots against a naive list, and through the whole gate: opened once, ended once, whatever lines come in what order.

use herdgate::decision::fleet::choose::Load;
use herdgate::decision::fleet::roster::{PoolKey, ServerKey};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::{Account, Accounts, Cost, Holder, Scope, Scopes, Terms, Tokens};
use herdgate::decision::request::endpoint::Endpoint;
use herdgate::ledger::account::ExhaustedLimit;
use herdgate::ledger::books::{Books, SettleOutcome};
use herdgate::ledger::reservation::{CallerName, ProxyUid, Reservation};
use herdgate::ledger::slots::{SLOTS_MAX, Slots};
use herdgate::ledger::tokens::observed::ObservedUsage;
use proptest::prelude::*;
use std::collections::BTreeSet;

const S: u64 = 1_000_000_000;

proptest! {
    #[test]
    fn slots_agree_with_a_naive_list(events in prop::collection::vec(event(), 1..300)) {
        let mut slots = Slots::default();
        let mut list: Vec<Reservation> = Vec::new();
        let (mut ever, mut early) = (BTreeSet::new(), BTreeSet::new());
        let mut now = S;
        for event in events {
            match event {
                Event::Open { id, uid, caller, server } => {
                    let slot = slot(id, uid, caller, server, now);
                    // Ids are random and never come twice.
                    if ever.insert(id) {
                        let has_ended = slot.uid.is_some_and(|uid| slots.has_ended(uid));
                        prop_assert_eq!(has_ended, slot.uid.is_some_and(|uid| early.remove(&uid)));
                        if !has_ended {
                            slots.open(slot.clone());
                            list.push(slot);
                        }
                    }
                }
                Event::Release { id } => {
                    let expected = list.iter().position(|open| open.id == id).map(|at| list.remove(at));
                    prop_assert_eq!(slots.release(id), expected);
                    prop_assert_eq!(slots.release(id), None, "released twice");
                }
                Event::ReleaseUid { uid } => {
                    let uid = ProxyUid::new(uid).unwrap();
                    // Of several with one identifier, the newest is meant.
                    let expected = list.iter().rposition(|open| open.uid == Some(uid)).map(|at| list[at].clone());
                    let found = slots.release_uid(uid);
                    if found.is_none() {
                        early.insert(uid);
                    }
                    if let Some(found) = found {
                        list.retain(|open| open.id != found.id);
                        prop_assert_eq!(Some(found), expected);
                    }
                }
                Event::Wait { ns } => now += ns,
                Event::Expire { age } => {
                    let before = list.len();
                    list.retain(|open| open.opened_ns >= now.saturating_sub(age));
                    let expired = std::iter::from_fn(|| slots.expire_one(now.saturating_sub(age))).count();
                    prop_assert_eq!(expired, before - list.len());
                }
            }
            prop_assert_eq!(slots.len(), list.len());
            for server in 0..3 {
                let key = ServerKey::new(server).unwrap();
                let there = list.iter().filter(|open| open.server == Some(key)).count();
                prop_assert_eq!(slots.of_server(key) as usize, there);
                prop_assert_eq!(slots.of_pair(key, PoolKey::new(server)) as usize, there);
            }
        }
    }

    /// LiteLLM #20256: slots leaked on disconnects and locked keys until a restart. Whatever is lost, doubled or late,
    /// nothing stays open for longer than a stream may last.
    #[test]
    fn litellm_20256_no_slot_outlives_the_longest_stream(events in prop::collection::vec(event(), 1..300)) {
        let mut books = Books::new(60 * S);
        let mut now = S;
        for event in events {
            match event {
                Event::Open { id, uid, caller, server } => drop(books.open(slot(id, uid, caller, server, now))),
                Event::Release { id } => drop(books.settle(id, &ObservedUsage::default(), at(now))),
                Event::ReleaseUid { uid } => drop(books.ended_unheard(ProxyUid::new(uid).unwrap(), at(now))),
                Event::Wait { ns } | Event::Expire { age: ns } => now += ns,
            }
        }
        books.expire(at(now + 61 * S));
        prop_assert!(books.slots().is_empty());
        prop_assert_eq!((0..3).map(|server| books.in_flight_in_all(ServerKey::new(server).unwrap())).sum::<u32>(), 0);
    }
}

#[test]
fn a_caller_may_have_as_many_requests_on_their_way_as_its_plan_says() {
    let mut books = Books::new(3600 * S);
    let terms = at_once(Some(2));
    let two = accounts(&[(0, Holder::Key, &terms)]);
    for id in 0..2 {
        books.admit(&two, 0, None, at(S)).unwrap();
        books.open(slot(id, 0, 0, 0, S));
    }
    let excess = books.admit(&two, 0, None, at(S)).unwrap_err();
    assert_eq!((excess.limit, excess.holder), (ExhaustedLimit::Concurrency, Holder::Key));
    assert!(excess.retry_ns.is_some_and(|retry_ns| retry_ns >= S), "{excess:?}");
    let other = accounts(&[(1, Holder::Key, &terms)]);
    books.admit(&other, 0, None, at(S)).unwrap();
    assert!(matches!(books.settle(0, &ObservedUsage::default(), at(2 * S)), SettleOutcome::Settled(_)));
    assert_eq!(
        books.settle(0, &ObservedUsage::default(), at(2 * S)),
        SettleOutcome::Again,
        "a repeated line releases nothing"
    );
    books.admit(&two, 0, None, at(2 * S)).unwrap();
}

/// A request counts for its key, its user and its team at once; whoever is full refuses it, and nobody is then charged.
#[test]
fn slots_count_by_everyone_they_are_taken_for() {
    let mut books = Books::new(3600 * S);
    let [nine, two, three, any] = [Some(9), Some(2), Some(3), None].map(at_once);
    let ann = accounts(&[(1, Holder::Key, &nine), (11, Holder::User, &two), (21, Holder::Team, &three)]);
    let bob = accounts(&[(1, Holder::Key, &nine), (12, Holder::User, &two), (21, Holder::Team, &three)]);
    let other = accounts(&[(2, Holder::Key, &any), (21, Holder::Team, &three)]);
    let steps = [
        (&ann, None),
        (&ann, None),
        (&ann, Some(Holder::User)),
        (&bob, None),
        (&bob, Some(Holder::Team)),
        (&other, Some(Holder::Team)),
    ];
    for (id, (who, refused)) in steps.into_iter().enumerate() {
        match books.admit(who, 0, None, at(S)) {
            Ok(_) => {
                books.open(Reservation { id: id as u128, scopes: who.scopes(), ..slot(0, 0, 0, 0, S) });
            }
            Err(excess) => {
                assert_eq!((excess.limit, Some(excess.holder)), (ExhaustedLimit::Concurrency, refused), "{id}");
            }
        }
        assert_eq!(books.slots().len(), [1, 2, 2, 3, 3, 3][id], "{id}");
    }
    let held = |books: &Books, scope| books.in_flight_of(Scope(scope));
    assert_eq!([1, 11, 12, 21, 2].map(|scope| held(&books, scope)), [3, 2, 1, 3, 0]);
    books.settle(0, &ObservedUsage::default(), at(S));
    assert_eq!([1, 11, 12, 21].map(|scope| held(&books, scope)), [2, 1, 1, 2]);
    books.admit(&other, 0, None, at(S)).unwrap();
    books.settle(1, &ObservedUsage::default(), at(S));
    books.settle(3, &ObservedUsage::default(), at(S));
    assert_eq!([1, 11, 12, 21].map(|scope| held(&books, scope)), [0; 4]);
}

fn at_once(most: Option<u32>) -> Terms {
    Terms { concurrency: most, ..Terms::default() }
}

fn accounts<'t>(who: &[(u128, Holder, &'t Terms)]) -> Accounts<'t> {
    let mut accounts = Accounts::default();
    for &(scope, holder, terms) in who {
        assert!(accounts.push(Account { scope: Scope(scope), holder, terms }));
    }
    accounts
}

#[test]
fn while_lines_are_silent_slots_end_by_the_time_requests_usually_take() {
    let mut books = Books::new(3600 * S);
    // A hundred requests of 2 s each teach how long they take.
    for id in 0..100 {
        books.open(slot(id, 0, 0, 0, S));
        books.settle(id, &ObservedUsage::default(), at(3 * S));
    }
    for second in 0..30_u64 {
        books.open(slot(1000 + u128::from(second), 0, 0, 0, (4 + second) * S));
        books.expire(at((4 + second) * S));
    }
    assert!(books.is_silent(at(34 * S)), "thirty grants and no line for half a minute");
    assert!(books.slots().len() <= 4, "{} still open", books.slots().len());
    // One line is enough to trust them again.
    let last = 1029;
    assert!(matches!(books.settle(last, &ObservedUsage::default(), at(34 * S)), SettleOutcome::Settled(_)));
    assert!(!books.is_silent(at(34 * S)));
    // What was open then may have ended unheard; what came after ends by its line.
    books.open(slot(2000, 0, 0, 0, 35 * S));
    books.expire(at(40 * S));
    assert_eq!(books.slots().len(), 1, "only the one opened after lines came again");
}

/// A herdgate that was stopped for a while reads questions whose requests are gone, and whose lines came before.
#[test]
fn a_request_that_ended_before_its_verdict_takes_no_slot() {
    let mut books = Books::new(3600 * S);
    assert_eq!(books.ended_unheard(ProxyUid::new(7).unwrap(), at(S)), SettleOutcome::Unknown);
    assert!(!books.open(slot(1, 7, 0, 0, 2 * S)));
    assert!(books.slots().is_empty());
    books.open(slot(2, 8, 0, 0, 2 * S));
    assert_eq!(books.slots().len(), 1);
}

#[test]
fn what_can_be_open_is_bounded() {
    let mut slots = Slots::default();
    for id in 0..SLOTS_MAX as u128 + 500 {
        slots.open(slot(id, 0, 0, 0, S + id as u64));
    }
    assert_eq!(slots.len(), SLOTS_MAX);
    assert_eq!(slots.release(499), None, "the oldest made room");
    assert!(slots.release(500).is_some());
}

#[derive(Debug, Clone)]
enum Event {
    Open { id: u128, uid: u64, caller: u128, server: u64 },
    Release { id: u128 },
    ReleaseUid { uid: u64 },
    Wait { ns: u64 },
    Expire { age: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..300_u128, 0..20_u64, 0..3_u128, 0..3_u64)
            .prop_map(|(id, uid, caller, server)| Event::Open { id, uid, caller, server }),
        3 => (0..300_u128).prop_map(|id| Event::Release { id }),
        1 => (1..20_u64).prop_map(|uid| Event::ReleaseUid { uid }),
        2 => (0..20 * S).prop_map(|ns| Event::Wait { ns }),
        1 => (0..60 * S).prop_map(|age| Event::Expire { age }),
    ]
}

fn slot(id: u128, uid: u64, caller: u128, server: u64, opened_ns: u64) -> Reservation {
    Reservation {
        id,
        uid: ProxyUid::new(uid),
        scopes: Scopes::one(Scope(caller)),
        caller: CallerName::new("ann"),
        user: None,
        team: None,
        model: None,
        endpoint: Endpoint::Chat,
        stream: true,
        server: ServerKey::new(server),
        pool: PoolKey::new(server),
        opened_ns,
        opened_unix_ms: 0,
        tokens: Tokens::NONE,
        cost: Cost::default(),
        written: Default::default(),
    }
}

fn at(mono_ns: u64) -> Moment {
    Moment { mono_ns, unix_ms: 0 }
}
