//! What any store must hold, whichever it is: one suite of checks over a trait, put to each store.

use crate::store::{self, Folder, GATE, PATIENCE, key_scope, record, reservation, today};
use herdgate::decision::plan::limits::Scope;
use herdgate::ledger::journal::Journal;
use herdgate::ledger::reservation::{Evidence, Record, Reservation};
use herdgate::store::{Restored, Store, StoredLife};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A store that the suite can be put to.
trait Kept {
    fn opened(&mut self, reservation: Reservation);
    fn settled(&mut self, record: Record);
    fn released(&mut self, id: u128);
    /// Ends and begins anew, and tells what it remembers of these requests.
    fn restart(&mut self, ids: &[u128]) -> Memory;
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Memory {
    open: BTreeSet<u128>,
    /// Evidence, tokens in and out, charge, day.
    rows: BTreeMap<u128, (Evidence, u64, u64, u64, i32)>,
    spent: BTreeMap<(Scope, i32), u64>,
}

/// The rules, told as simply as they can be: sums are made anew from the rows.
#[derive(Default)]
struct Naive {
    open: BTreeSet<u128>,
    rows: BTreeMap<u128, (Record, Record)>,
}

impl Kept for Naive {
    fn opened(&mut self, reservation: Reservation) {
        if !self.rows.contains_key(&reservation.id) {
            self.open.insert(reservation.id);
        }
    }
    fn settled(&mut self, record: Record) {
        let id = record.reservation.id;
        self.open.remove(&id);
        let (_, best) = self.rows.entry(id).or_insert((record.clone(), record.clone()));
        if record.evidence > best.evidence {
            *best = record;
        }
    }
    fn released(&mut self, id: u128) {
        self.open.remove(&id);
    }
    fn restart(&mut self, _: &[u128]) -> Memory {
        let mut memory = Memory { open: self.open.clone(), ..Memory::default() };
        for (id, (first, best)) in &self.rows {
            let charge = best.charge();
            memory.rows.insert(*id, (best.evidence, best.tokens.prompt, best.tokens.output, charge, first.day.0));
            for scope in first.reservation.scopes.iter().filter(|_| charge > 0) {
                *memory.spent.entry((scope, first.day.0)).or_default() += charge;
            }
        }
        memory
    }
}

/// The embedded store.
struct Sqlite {
    path: PathBuf,
    store: Option<Store>,
    _folder: Folder,
}

impl Sqlite {
    fn new() -> Sqlite {
        let folder = Folder::new();
        let path = folder.file();
        let store = Some(store::open(&path).unwrap().0);
        Sqlite { path, store, _folder: folder }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }
}

impl Kept for Sqlite {
    fn opened(&mut self, reservation: Reservation) {
        self.store().opened(reservation);
    }
    fn settled(&mut self, record: Record) {
        self.store().settled(record);
    }
    fn released(&mut self, id: u128) {
        self.store().released(id);
    }
    fn restart(&mut self, ids: &[u128]) -> Memory {
        assert!(self.store().flush(PATIENCE));
        self.store = None;
        let (store, restored) = store::open(&self.path).unwrap();
        let mut memory = Memory {
            open: restored.open.iter().map(|reservation| reservation.id).collect(),
            spent: restored.spent.iter().map(|spent| ((spent.scope, spent.day.0), spent.charge)).collect(),
            ..Memory::default()
        };
        for id in ids {
            if let Some(StoredLife::Settled(row)) = store.find(*id).unwrap() {
                memory.rows.insert(*id, (row.evidence, row.tokens_in, row.tokens_out, row.charge, row.day.0));
            }
        }
        let lately: BTreeMap<u128, Evidence> = restored.settled_lately.iter().copied().collect();
        let evidences = memory.rows.iter().filter(|(_, row)| row.4 >= today() - 1).map(|(id, row)| (*id, row.0));
        assert_eq!(lately, evidences.collect(), "what was settled lately");
        self.store = Some(store);
        memory
    }
}

/// Every store that is put through the suite.
fn stores() -> Vec<(&'static str, Box<dyn Kept>)> {
    vec![("sqlite", Box::new(Sqlite::new()))]
}

#[derive(Debug, Clone)]
enum Event {
    Opened(u8),
    /// Evidence, how many days ago, tokens.
    Settled(u8, Evidence, i32, (u64, u64)),
    Released(u8),
    Restart,
}

/// A request of one of three keys, some with a user.
fn sample(id: u8) -> Reservation {
    let (key, user) = [("ann", ""), ("bob", "u1"), ("bob", "u2"), ("cy", "")][usize::from(id) % 4];
    reservation(u128::from(id) + (1 << 120), key, user)
}

fn say(store: &mut dyn Kept, event: &Event) {
    match *event {
        Event::Opened(id) => store.opened(sample(id)),
        Event::Settled(id, evidence, ago, tokens) => store.settled(record(sample(id), evidence, today() - ago, tokens)),
        Event::Released(id) => store.released(sample(id).id),
        Event::Restart => {}
    }
}

/// Each store ends up remembering what the rules say.
fn check(events: &[Event]) {
    let ids: Vec<u128> = (0..=u8::MAX).map(|id| sample(id).id).take(16).collect();
    for (name, mut store) in stores() {
        let mut naive = Naive::default();
        for (step, event) in events.iter().chain([&Event::Restart]).enumerate() {
            say(&mut *store, event);
            say(&mut naive, event);
            if matches!(event, Event::Restart) {
                assert_eq!(store.restart(&ids), naive.restart(&ids), "{name}, after step {step} of {events:?}");
            }
        }
    }
}

use Event::{Opened, Released, Restart};

fn ended(id: u8, evidence: Evidence, tokens: (u64, u64)) -> Event {
    Event::Settled(id, evidence, 0, tokens)
}

#[test]
fn a_request_on_its_way_is_remembered_until_it_ends() {
    check(&[Opened(1), Opened(2), Restart, Released(1), Restart, ended(2, Evidence::Exact, (1, 2))]);
}

#[test]
fn the_same_end_twice_equals_once_also_over_a_restart() {
    let end = ended(1, Evidence::Counted, (10, 20));
    check(&[Opened(1), end.clone(), end.clone(), Restart, end.clone(), end]);
}

#[test]
fn better_evidence_corrects_and_worse_changes_nothing() {
    check(&[
        ended(1, Evidence::Reserved, (100, 500)),
        ended(1, Evidence::Estimated, (90, 50)),
        Restart,
        ended(1, Evidence::Exact, (90, 40)),
        ended(1, Evidence::Counted, (90, 99)),
        ended(1, Evidence::Exact, (1, 1)),
    ]);
}

#[test]
fn a_correction_is_charged_to_the_first_day() {
    check(&[
        Event::Settled(1, Evidence::Reserved, 1, (100, 500)),
        Event::Settled(1, Evidence::Exact, 0, (100, 600)),
        Event::Settled(2, Evidence::Reserved, 1, (100, 500)),
        Restart,
        Event::Settled(2, Evidence::Exact, 0, (0, 0)),
    ]);
}

#[test]
fn a_grant_that_is_heard_after_its_end_opens_nothing() {
    check(&[ended(1, Evidence::Exact, (1, 2)), Opened(1), Restart, Opened(1)]);
}

#[test]
fn who_is_released_and_then_settled_has_used_something() {
    check(&[Opened(1), Released(1), ended(1, Evidence::Exact, (1, 2)), Released(1), Released(9)]);
}

#[test]
fn figures_beyond_reason_are_cut_and_sums_stay_whole() {
    let most = record(sample(1), Evidence::Exact, today(), (u64::MAX, u64::MAX));
    let mut store = Sqlite::new();
    for id in 0..8 {
        store.settled(Record { reservation: Reservation { id, ..most.reservation.clone() }, ..most.clone() });
    }
    let memory = store.restart(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let (_, tokens_in, tokens_out, charge, _) = memory.rows[&0];
    assert_eq!((tokens_in, tokens_out, charge), (1 << 40, 1 << 40, 1 << 43));
    assert_eq!(memory.spent[&(GATE, today())], 8 << 43);
    let lines = herdgate::store::report(&store.path, herdgate::store::By::Key, &Default::default()).unwrap();
    assert_eq!((lines[0].requests, lines[0].charge), (8, 8 << 43));
}

#[test]
fn an_identity_that_is_named_twice_is_charged_once() {
    let mut store = Sqlite::new();
    let mut twice = sample(0);
    assert!(twice.scopes.push(key_scope("ann")));
    store.settled(record(twice, Evidence::Exact, today(), (1, 1)));
    assert_eq!(store.restart(&[sample(0).id]).spent[&(key_scope("ann"), today())], 2_000);
}

#[test]
fn a_reservation_comes_back_as_it_was() {
    let folder = Folder::new();
    let mut hidden = reservation(u128::MAX, "", "zoë \"x\" \u{1f600}");
    (hidden.model, hidden.team, hidden.opened_ns) = (None, None, u64::MAX);
    let all = [sample(1), hidden, sample(2)].map(|reservation| Reservation { opened_unix_ms: 5, ..reservation });
    let (store, restored) = store::open(&folder.file()).unwrap();
    assert_eq!(restored, Restored::default(), "a new file is empty");
    all.iter().for_each(|reservation| store.opened(reservation.clone()));
    drop(store);
    let (store, mut restored) = store::open(&folder.file()).unwrap();
    restored.open.sort_by_key(|reservation| reservation.id);
    assert_eq!(restored.open, [all[0].clone(), all[2].clone(), all[1].clone()]);
    assert_eq!(store.find(u128::MAX).unwrap(), Some(StoredLife::Open(Box::new(all[1].clone()))));
    assert_eq!(store.find(4).unwrap(), None);
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop::sample::select(Evidence::ALL.to_vec())
}

fn event() -> impl Strategy<Value = Event> {
    let tokens = (0..1_000_u64, 0..1_000_u64);
    prop_oneof![
        3 => (0..12_u8).prop_map(Opened),
        8 => (0..12_u8, evidence(), 0..3_i32, tokens).prop_map(|(id, evidence, ago, tokens)| Event::Settled(id, evidence, ago, tokens)),
        1 => (0..12_u8).prop_map(Released),
        1 => Just(Restart),
    ]
}

/// Tokens that follow from who and how, so that it does not matter which of two messages came first.
fn fixed(id: u8, evidence: Evidence) -> Event {
    let id_tokens = u64::from(id);
    Event::Settled(id, evidence, i32::from(id) % 3, (id_tokens * 7 + 1, 100 * (evidence as u64 + 1)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_whatever_order_the_rules_hold(events in prop::collection::vec(event(), 0..60)) {
        check(&events);
    }

    /// Lines come late, twice and out of order; what is known in the end is the same.
    #[test]
    fn the_order_of_ends_does_not_matter(
        ends in prop::collection::vec((0..8_u8, evidence()), 1..20),
        repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        seed in any::<[u8; 32]>(),
    ) {
        let ids: Vec<u128> = (0..8).map(|id| sample(id).id).collect();
        let mut events: Vec<Event> = ends.iter().map(|(id, evidence)| fixed(*id, *evidence)).collect();
        events.extend(repeats.iter().map(|repeat| fixed(ends[repeat.index(ends.len())].0, ends[repeat.index(ends.len())].1)));
        let mut shuffled: Vec<(u8, Event)> = events.iter().cloned().enumerate().map(|(at, event)| (seed[at % 32] ^ (at as u8), event)).collect();
        shuffled.sort_by_key(|(place, _)| *place);
        for ((name, mut one), (_, mut other)) in stores().into_iter().zip(stores()) {
            events.iter().for_each(|event| say(&mut *one, event));
            shuffled.iter().for_each(|(_, event)| say(&mut *other, event));
            prop_assert_eq!(one.restart(&ids), other.restart(&ids), "{}", name);
        }
    }
}
