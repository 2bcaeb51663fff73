//! Clients of one real Redis: shared books, each tended as in the daemon, and what they were told.

// Each test binary uses a part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used)] // a test may fail

use super::harness::redis;
use herdgate::decision::fleet::roster::PoolKey;
use herdgate::decision::plan::limits::{Cost, Quota, Scope, Scopes, Tokens};
use herdgate::decision::request::endpoint::Endpoint;
use herdgate::decision::request::name::ModelName;
use herdgate::ledger::calendar::Day;
use herdgate::ledger::reservation::{CallerName, Evidence, ProxyUid, RequestShape, Reservation};
use herdgate::shared_store::address::StoreAddress;
use herdgate::shared_store::{
    AdmitRequest, Admitted, HolderTerms, Lane, Release, Replica, Settlement, SharedLedger, SharedStoreError, StorePace,
    StoreSettle, StoreTerms, StoreToday,
};
use herdgate::time::clock::Clock;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a client was told.
#[derive(Debug, Default)]
pub struct Told {
    pub ended: Mutex<Vec<u128>>,
    pub expired: Mutex<Vec<Reservation>>,
    pub delivered: Mutex<Vec<(u128, StoreSettle)>>,
    pub lanes: Mutex<Vec<Lane>>,
    pub lines: Mutex<Vec<String>>,
}

impl Replica for Told {
    fn lanes(&self) -> Vec<Lane> {
        self.lanes.lock().unwrap().clone()
    }
    fn today(&self) -> StoreToday {
        today()
    }
    fn ended(&self, id: u128) {
        self.ended.lock().unwrap().push(id);
    }
    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
    fn delivered(&self, settlement: &Settlement, ended: &StoreSettle) {
        self.delivered.lock().unwrap().push((settlement.id, ended.clone()));
    }
    fn expired(&self, reservation: &Reservation) {
        self.expired.lock().unwrap().push(reservation.clone());
    }
}

/// One herdgate's share in the books.
pub struct Client {
    pub ledger: Arc<SharedLedger>,
    pub told: Arc<Told>,
    stop: CancellationToken,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Client {
    /// A client that is up. Its deadline is long: a loaded machine must not look like a dead store.
    pub async fn patient(address: SocketAddr, replica: u64) -> Client {
        let pace = StorePace { deadline: Duration::from_secs(5), connecting: Duration::from_secs(5) };
        let client = Client::new(address, replica, pace);
        client.wait_until_up(true).await;
        client
    }

    /// A client that tries to connect.
    pub fn new(address: SocketAddr, replica: u64, pace: StorePace) -> Client {
        let address = StoreAddress::parse(&redis::url(address)).unwrap();
        let ledger = Arc::new(SharedLedger::new(address, pace, Clock::new(), replica).unwrap());
        let (told, stop) = (Arc::new(Told::default()), CancellationToken::new());
        tokio::spawn(ledger.clone().tend(told.clone(), stop.clone()));
        Client { ledger, told, stop }
    }

    pub async fn wait_until_up(&self, up: bool) {
        wait_for(&format!("up: {up}"), || self.ledger.is_up() == up).await;
    }

    pub async fn admit(&self, id: u128, need: u64, entries: &[HolderTerms<'_>]) -> Result<Admitted, SharedStoreError> {
        self.admit_for(Duration::from_secs(60), id, need, entries).await
    }

    pub async fn admit_for(
        &self,
        lease: Duration,
        id: u128,
        need: u64,
        entries: &[HolderTerms<'_>],
    ) -> Result<Admitted, SharedStoreError> {
        let terms = StoreTerms::of(entries).unwrap();
        let reservation = reservation(id, need, entries);
        self.ledger.admit(AdmitRequest { reservation: &reservation, terms: &terms, lease, today: today() }).await
    }

    pub async fn settle(&self, id: u128, used: u64, evidence: Evidence, entries: &[HolderTerms<'_>]) -> StoreSettle {
        self.ledger.settle_now(&settlement(id, used, evidence, entries)).await.unwrap()
    }

    pub async fn release(&self, id: u128, entries: &[HolderTerms<'_>]) {
        self.ledger.release_now(&Release { id, terms: StoreTerms::of(entries).unwrap() }).await.unwrap();
    }
}

/// Waits for a condition, ten seconds at most.
pub async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::new();
    let begun = clock.mono_ns();
    while !condition() {
        assert!(clock.mono_ns() - begun < 10_000_000_000, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn settlement(id: u128, used: u64, evidence: Evidence, entries: &[HolderTerms<'_>]) -> Settlement {
    let terms = StoreTerms::of(entries).unwrap();
    Settlement { id, terms, used, evidence, granted_by: None, today: today() }
}

/// A day and a month that end in the far future, so that no test runs over midnight.
pub fn today() -> StoreToday {
    StoreToday { day: Day(20_000), day_ends_ms: 4_000_000_000_000, month: 600, month_ends_ms: 4_000_000_000_000 }
}

/// A reservation that holds `need` thousandths of a token.
pub fn reservation(id: u128, need: u64, entries: &[HolderTerms<'_>]) -> Reservation {
    let mut scopes = Scopes::default();
    for entry in entries {
        assert!(scopes.push(entry.scope));
    }
    Reservation {
        id,
        uid: ProxyUid::new((id as u64).wrapping_mul(31) | 1),
        scopes,
        caller: CallerName::new("ann"),
        user: Some("änne".into()),
        team: Some("research".into()),
        model: Some(ModelName::canonical("llama3.2:3b")),
        endpoint: Endpoint::V1ChatCompletions,
        stream: true,
        server: None,
        pool: PoolKey::new(7),
        opened_ns: 1,
        opened_unix_ms: 1_800_000_000_000,
        tokens: Tokens { prompt: need, output: 0 },
        cost: Cost { input_milli: 1, output_milli: 3000 },
        written: RequestShape::default(),
    }
}

/// A holder without terms.
pub fn holder(scope: u128) -> HolderTerms<'static> {
    HolderTerms {
        scope: Scope(scope),
        requests: &[],
        concurrency: None,
        tokens: None,
        day_most: None,
        month_most: None,
        shadow: false,
        keeps: true,
    }
}

pub fn quota(count: u64, period_ms: u64, burst: u64) -> Quota {
    let some = |value: u64| NonZeroU64::new(value).unwrap();
    Quota { count: some(count), period_ns: some(period_ms * 1_000_000), burst: some(burst) }
}

pub fn is_granted(admitted: &Result<Admitted, SharedStoreError>) -> bool {
    matches!(admitted, Ok(Admitted::Granted { .. }))
}
