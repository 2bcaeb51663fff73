//! Slots against a naive list, and through the whole gate: opened once, ended once, whatever lines come in what order.

#![allow(clippy::unwrap_used)] // a test may fail

use herdgate::decision::choose::Load;
use herdgate::decision::limits::{Concurrency, Holder, Limits, Scope, Scopes, Seats};
use herdgate::decision::moment::Moment;
use herdgate::ledger::books::{Books, Ended, Excess};
use herdgate::ledger::slots::{SLOTS_MAX, Slot, Slots};
use proptest::prelude::*;
use std::collections::BTreeSet;

const S: u64 = 1_000_000_000;

proptest! {
    #[test]
    fn slots_agree_with_a_naive_list(events in prop::collection::vec(event(), 1..300)) {
        let mut slots = Slots::default();
        let mut list: Vec<Slot> = Vec::new();
        let (mut ever, mut early) = (BTreeSet::new(), BTreeSet::new());
        let mut now = S;
        for event in events {
            match event {
                Event::Open { id, uid, caller, server } => {
                    let slot = slot(id, uid, caller, server, now);
                    // Ids are random and never come twice.
                    if ever.insert(id) {
                        slots.open(slot);
                        if !early.remove(&uid) {
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
                    // Of several with one identifier, the newest is meant.
                    let expected = list.iter().rposition(|open| open.uid == uid).map(|at| list[at]);
                    let found = slots.release_uid(uid);
                    if found.is_none() {
                        early.insert(uid);
                    }
                    if let Some(found) = found {
                        prop_assert_eq!(Some(found), expected);
                        list.retain(|open| open.id != found.id);
                    }
                }
                Event::Wait { ns } => now += ns,
                Event::Expire { age } => {
                    let before = list.len();
                    list.retain(|open| open.opened.mono_ns >= now.saturating_sub(age));
                    prop_assert_eq!(slots.expire(now.saturating_sub(age)), before - list.len());
                }
            }
            prop_assert_eq!(slots.len(), list.len());
            for caller in 0..3 {
                let held = list.iter().filter(|open| open.scopes == Scopes::one(Scope(caller))).count();
                prop_assert_eq!(slots.of_caller(Scope(caller)) as usize, held);
            }
            for server in 0..3 {
                let there = list.iter().filter(|open| open.server == server).count();
                prop_assert_eq!(slots.of_server(server) as usize, there);
                prop_assert_eq!(slots.of_pair(server, server) as usize, there);
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
                Event::Open { id, uid, caller, server } => books.open(slot(id, uid, caller, server, now)),
                Event::Release { id } => drop(books.ended(id, at(now))),
                Event::ReleaseUid { uid } => drop(books.ended_unheard(uid, at(now))),
                Event::Wait { ns } | Event::Expire { age: ns } => now += ns,
            }
        }
        books.expire(at(now + 61 * S));
        prop_assert!(books.slots().is_empty());
        prop_assert_eq!((0..3).map(|server| books.on_their_way(server, server)).sum::<u32>(), 0);
    }
}

#[test]
fn a_caller_may_have_as_many_requests_on_their_way_as_its_plan_says() {
    let mut books = Books::new(3600 * S);
    let two = &seats(&[(0, Holder::Key, Some(2))]);
    for id in 0..2 {
        books.admit(&Limits::default(), two, 0, at(S)).unwrap();
        books.open(slot(id, 0, 0, 0, S));
    }
    let excess = books.admit(&Limits::default(), two, 0, at(S)).unwrap_err();
    assert!(matches!(excess, Excess::Concurrency { retry_ns, holder: Holder::Key } if retry_ns >= S), "{excess:?}");
    let other = &seats(&[(1, Holder::Key, Some(2))]);
    books.admit(&Limits::default(), other, 0, at(S)).unwrap();
    assert!(matches!(books.ended(0, at(2 * S)), Ended::Released(_)));
    assert_eq!(books.ended(0, at(2 * S)), Ended::Nothing, "a repeated line releases nothing");
    books.admit(&Limits::default(), two, 0, at(2 * S)).unwrap();
}

/// A request counts for its key, its user and its team at once; whoever is full refuses it, and nobody is then charged.
#[test]
fn slots_count_by_everyone_they_are_taken_for() {
    let mut books = Books::new(3600 * S);
    let ann = [(1, Holder::Key, Some(9)), (11, Holder::User, Some(2)), (21, Holder::Team, Some(3))];
    let bob = [(1, Holder::Key, Some(9)), (12, Holder::User, Some(2)), (21, Holder::Team, Some(3))];
    let other = [(2, Holder::Key, None), (21, Holder::Team, Some(3))];
    let steps: [(&[_], Option<Holder>); 6] = [
        (&ann, None),
        (&ann, None),
        (&ann, Some(Holder::User)),
        (&bob, None),
        (&bob, Some(Holder::Team)),
        (&other, Some(Holder::Team)),
    ];
    for (id, (who, refused)) in steps.into_iter().enumerate() {
        let seats = seats(who);
        match books.admit(&Limits::default(), &seats, 0, at(S)) {
            Ok(_) => books.open(Slot { id: id as u128, scopes: seats.scopes(), ..slot(0, 0, 0, 0, S) }),
            Err(excess) => assert!(
                matches!(excess, Excess::Concurrency { holder, .. } if Some(holder) == refused),
                "{id}: {excess:?}"
            ),
        }
        assert_eq!(books.slots().len(), [1, 2, 2, 3, 3, 3][id], "{id}");
    }
    let held = |books: &Books, scope| books.slots().of_caller(Scope(scope));
    assert_eq!([1, 11, 12, 21, 2].map(|scope| held(&books, scope)), [3, 2, 1, 3, 0]);
    books.ended(0, at(S));
    assert_eq!([1, 11, 12, 21].map(|scope| held(&books, scope)), [2, 1, 1, 2]);
    books.admit(&Limits::default(), &seats(&other), 0, at(S)).unwrap();
    books.ended(1, at(S));
    books.ended(3, at(S));
    assert_eq!([1, 11, 12, 21].map(|scope| held(&books, scope)), [0; 4]);
}

fn seats(who: &[(u128, Holder, Option<u32>)]) -> Seats {
    let mut seats = Seats::default();
    for &(scope, holder, most) in who {
        assert!(seats.push(Concurrency { scope: Scope(scope), holder, most }));
    }
    seats
}

#[test]
fn while_lines_are_silent_slots_end_by_the_time_requests_usually_take() {
    let mut books = Books::new(3600 * S);
    // A hundred requests of 2 s each teach how long they take.
    for id in 0..100 {
        books.open(slot(id, 0, 0, 0, S));
        books.ended(id, at(3 * S));
    }
    for second in 0..30_u64 {
        books.open(slot(1000 + u128::from(second), 0, 0, 0, (4 + second) * S));
        books.expire(at((4 + second) * S));
    }
    assert!(books.is_silent(at(34 * S)), "thirty grants and no line for half a minute");
    assert!(books.slots().len() <= 4, "{} still open", books.slots().len());
    // One line is enough to trust them again.
    let last = 1029;
    assert!(matches!(books.ended(last, at(34 * S)), Ended::Released(_)));
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
    assert_eq!(books.ended_unheard(7, at(S)), Ended::Nothing);
    books.open(slot(1, 7, 0, 0, 2 * S));
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

fn slot(id: u128, uid: u64, caller: u128, server: u64, opened_ns: u64) -> Slot {
    Slot { id, uid, scopes: Scopes::one(Scope(caller)), server, pool: server, opened: at(opened_ns), start_ms: 0 }
}

fn at(mono_ns: u64) -> Moment {
    Moment { mono_ns, unix_ms: 0 }
}
