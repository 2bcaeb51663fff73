//! What the tests of stores share: requests to keep, a folder of their own, options.

// Each test binary uses a part of this.
#![allow(dead_code)]

use herdgate::decision::fleet::roster::{PoolKey, ServerKey};
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::request::endpoint::Endpoint;
use herdgate::decision::request::name::ModelName;
use herdgate::ledger::calendar::Day;
use herdgate::ledger::reservation::{CallerName, Cost, Evidence, ProxyUid, Record, Reservation, Scopes, Tokens};
use herdgate::store::{OpenStoreError, Options, Restored, Store, StoredLife};
use herdgate::time::clock::Clock;
use herdgate::time::date;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Far longer than any of it takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every sample is counted in beside its caller.
pub const GATE: Scope = Scope(7);

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("herdgate-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("ledger.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn now_ms() -> i64 {
    Clock::new().now().unix_ms
}

pub fn today() -> i32 {
    date::day(now_ms(), &TimeZone::UTC)
}

pub fn options() -> Options {
    Options { keep_days: 400, fresh_on_damage: false, clock: Clock::new(), zone: TimeZone::UTC, vfs: None }
}

pub fn open(path: &Path) -> Result<(Store, Restored), OpenStoreError> {
    Store::open(path, options())
}

/// The caller's books of a key.
pub fn key_scope(key: &str) -> Scope {
    Scope::of("key", key.as_bytes())
}

/// A request of this key (and user), counted for both and for the gate.
pub fn reservation(id: u128, key: &str, user: &str) -> Reservation {
    let mut scopes = Scopes::one(key_scope(key));
    if !user.is_empty() {
        assert!(scopes.push(Scope::of_user(key_scope(key), user.as_bytes())));
    }
    assert!(scopes.push(GATE));
    Reservation {
        id,
        uid: ProxyUid::new(id as u64),
        scopes,
        caller: CallerName::new(key),
        user: Some(user.into()).filter(|user: &std::sync::Arc<str>| !user.is_empty()),
        team: Some("research".into()),
        model: Some(ModelName::canonical("llama3.1:8b")),
        endpoint: Endpoint::Chat,
        stream: true,
        server: ServerKey::new(1),
        pool: PoolKey::new(2),
        opened_ns: 5_000_000_000,
        opened_unix_ms: now_ms() - 1_000,
        tokens: Tokens { prompt: 100, output: 500 },
        cost: Cost::default(),
        written: Default::default(),
    }
}

/// What such a request came to.
pub fn record(reservation: Reservation, evidence: Evidence, day: i32, tokens: (u64, u64)) -> Record {
    Record {
        reservation,
        settled_unix_ms: now_ms(),
        day: Day(day),
        server: "gpu1".into(),
        status: Some(200),
        ms: Some(1_234),
        evidence,
        tokens: Tokens { prompt: tokens.0, output: tokens.1 },
    }
}

/// A settled request of key `key`, 10 + 20 tokens, today.
pub fn settled(id: u128, key: &str) -> Record {
    record(reservation(id, key, ""), Evidence::Exact, today(), (10, 20))
}

/// Waits for a condition, at most [`PATIENCE`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::new();
    let started = clock.mono_ns();
    while !condition() {
        assert!(clock.mono_ns() - started < PATIENCE.as_nanos() as u64, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What is on disk: rows, and what the gate has spent. Fails where the two do not agree, or the file is damaged.
pub fn consistent(path: &Path) -> (u64, u64) {
    let (store, restored) = open(path).unwrap();
    let by_day = herdgate::store::report(path, herdgate::store::By::Day, &Default::default()).unwrap();
    let rows: u64 = by_day.iter().map(|line| line.requests).sum();
    let charged: u64 = by_day.iter().map(|line| line.charge).sum();
    let spent: u64 = restored.spent.iter().filter(|spent| spent.scope == GATE).map(|spent| spent.charge).sum();
    assert_eq!(charged, spent, "rows and budgets disagree");
    drop(store);
    (rows, spent)
}

/// Whether a row of this id is on disk.
pub fn is_settled(store: &Store, id: u128) -> bool {
    matches!(store.find(id).unwrap(), Some(StoredLife::Settled(_)))
}
