//! The shared books, as decisions and usage lines use them.

use super::backlog::{Backlog, Release, Settlement, StoreEnd, Waiting};
use super::elsewhere::{self, Elsewhere, Lane};
use super::keyspace;
use super::link::{Link, StorePace};
use super::reply::{self, Admitted};
use super::terms::{AMOUNT_MAX, StoreTerms, StoreToday, read_scopes};
use crate::ledger::reservation::{Evidence, ProxyUid, Reservation};
use crate::metrics::shared_store::{Counts, Operation, SharedStoreError};
use crate::shared_store::address::StoreAddress;
use crate::time::clock::Clock;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Seconds an end is remembered, so that a line that comes again charges nothing: where nothing better can come, and
/// where it can.
const REMEMBER_EXACT_S: u64 = 3_600;
const REMEMBER_S: u64 = 2 * 86_400;

/// Longest a reservation stays open: the longest stream, and who granted it comes first.
const LEASE_MAX: Duration = Duration::from_secs(25 * 3_600);

/// A claim, for the store.
#[derive(Debug, Clone, Copy)]
pub struct AdmitRequest<'a> {
    /// What is to be reserved. Another herdgate that gets the usage line reads it.
    pub reservation: &'a Reservation,
    /// The holders, with their terms. The caller has made sure that each could ever hold so much.
    pub terms: &'a StoreTerms,
    /// How long it may stay open: at most 25 h.
    pub lease: Duration,
    /// The calendar as this herdgate has it.
    pub today: StoreToday,
}

/// What the store made of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettle {
    /// It was charged: the caller has a row to write.
    Settled(Option<Box<Reservation>>),
    /// It had been charged by weaker evidence and is charged by better now: the caller has a row to replace.
    Corrected(Option<Box<Reservation>>),
    /// It had ended before, by evidence as good.
    Nothing,
    /// The store does not know it, and the call named nobody to charge.
    Unknown,
}

/// A reservation found in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReservation {
    /// Whether it is open still.
    pub open: bool,
    /// The holders it is counted for.
    pub terms: StoreTerms,
    /// The reservation; absent where it ended by exact figures.
    pub reservation: Option<Box<Reservation>>,
}

/// The books in the store.
pub struct SharedLedger {
    pub(super) link: Link,
    pub(super) backlog: Backlog,
    pub(super) wake: Notify,
    pub(super) elsewhere: ArcSwap<Elsewhere>,
    /// The number of this herdgate among the others.
    pub(super) replica: u64,
}

impl SharedLedger {
    /// Returns the books in this store; `replica` is a number that no other herdgate has. Nothing is connected before
    /// [`SharedLedger::tend`] runs, and the store counts as away until then. `None` where the address cannot be used.
    pub fn new(address: StoreAddress, pace: StorePace, clock: Clock, replica: u64) -> Option<SharedLedger> {
        Some(SharedLedger {
            link: Link::new(address, pace, clock)?,
            backlog: Backlog::default(),
            wake: Notify::new(),
            elsewhere: ArcSwap::default(),
            replica,
        })
    }

    /// Returns whether decisions ask the store. Where they do not, `[ledger] on_store_down` says what becomes of them.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }

    /// Returns the counters of the store.
    pub fn counts(&self) -> Arc<Counts> {
        self.link.counts.clone()
    }

    /// Returns what the other herdgates have in flight; nothing while the store is away.
    pub fn elsewhere(&self) -> Arc<Elsewhere> {
        self.elsewhere.load_full()
    }

    /// Takes all limits of a claim or none. Asking again with the same id, after a timeout, changes nothing.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer in time. Then the claim may be taken there: a caller that
    /// grants it all the same settles it as ever, and one that does not must [`SharedLedger::release`] it.
    pub async fn admit(&self, ask: AdmitRequest<'_>) -> Result<Admitted, SharedStoreError> {
        self.admit_at(ask).await.map(|(admitted, _)| admitted)
    }

    /// Does the same as [`SharedLedger::admit`], and returns the store's time in microseconds since 1970 with it.
    ///
    /// # Errors
    /// As [`SharedLedger::admit`].
    pub async fn admit_at(&self, ask: AdmitRequest<'_>) -> Result<(Admitted, u64), SharedStoreError> {
        let AdmitRequest { reservation, terms, lease, today } = ask;
        let Ok(body) = serde_json::to_string(reservation) else { return Err(SharedStoreError::Nonsense) };
        let own = keyspace::reservation(reservation.id);
        let mut invocation = self.link.scripts.admit.key(&own);
        invocation.key(keyspace::EXPIRY);
        match reservation.uid {
            None => invocation.key(&own),
            Some(uid) => invocation.key(keyspace::uid(uid)),
        };
        add_holders(&mut invocation, terms);
        let lease_us = lease.min(LEASE_MAX).as_micros() as u64;
        invocation.arg(keyspace::id(reservation.id)).arg(body).arg(terms.scopes_text()).arg(&terms.text);
        invocation.arg(reservation.reserved().min(AMOUNT_MAX)).arg(lease_us).arg(&today.arguments());
        let answer: String =
            self.link.call(Operation::Admit, async |connection| invocation.invoke_async(connection).await).await?;
        reply::read(&answer).ok_or(SharedStoreError::Nonsense)
    }

    /// Charges what a request used, in the background; once, whoever says so and however often. Kept while the store is
    /// away.
    pub fn settle(&self, settlement: Settlement) {
        self.queue(StoreEnd::Settle(settlement));
    }

    /// Gives a claim back, in the background: it reached nobody. Kept while the store is away.
    pub fn release(&self, release: Release) {
        self.queue(StoreEnd::Release(release));
    }

    fn queue(&self, end: StoreEnd) {
        if !self.backlog.push(end) {
            self.link.counts.lost();
        }
        self.link.counts.backlog(self.backlog.len());
        self.wake.notify_one();
    }

    /// Charges what a request used, now.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer; it may be asked again.
    pub async fn settle_now(&self, settlement: &Settlement) -> Result<StoreSettle, SharedStoreError> {
        let mut terms = settlement.terms.clone();
        // The store answers whom it counts for where that is not whom we named; once is enough.
        for _ in 0..2 {
            let (what, scopes, reservation) = self.settle_once(settlement, &terms).await?;
            match what.as_str() {
                "S" => return Ok(StoreSettle::Settled(reservation)),
                "C" => return Ok(StoreSettle::Corrected(reservation)),
                "N" => return Ok(StoreSettle::Nothing),
                "U" => return Ok(StoreSettle::Unknown),
                "A" => terms = StoreTerms::of_scopes(read_scopes(&scopes).ok_or(SharedStoreError::Nonsense)?),
                _ => return Err(SharedStoreError::Nonsense),
            }
        }
        Err(SharedStoreError::Nonsense)
    }

    async fn settle_once(
        &self,
        settlement: &Settlement,
        terms: &StoreTerms,
    ) -> Result<(String, String, Option<Box<Reservation>>), SharedStoreError> {
        let Settlement { id, terms: _, used, evidence, granted_by, today } = settlement;
        let mut invocation = self.link.scripts.settle.key(keyspace::reservation(*id));
        invocation.key(keyspace::EXPIRY).key(keyspace::notices(granted_by.unwrap_or(0)));
        add_holders(&mut invocation, terms);
        let remember_s = if *evidence == Evidence::Exact { REMEMBER_EXACT_S } else { REMEMBER_S };
        let tells = granted_by.is_some_and(|granted_by| granted_by != self.replica);
        invocation.arg(keyspace::id(*id)).arg(terms.scopes_text()).arg(&terms.text).arg(used.min(&AMOUNT_MAX));
        invocation.arg(*evidence as u8).arg(u8::from(tells)).arg(remember_s).arg(&today.arguments());
        let call = async |connection: &mut _| invocation.invoke_async(connection).await;
        let (what, _before, scopes, body): (String, u64, String, String) =
            self.link.call(Operation::Settle, call).await?;
        Ok((what, scopes, read_reservation(&body)))
    }

    /// Gives a claim back, now. A decision that the store does not know is remembered as ended.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer; it may be asked again.
    pub async fn release_now(&self, release: &Release) -> Result<(), SharedStoreError> {
        let mut terms = release.terms.clone();
        for _ in 0..2 {
            let mut invocation = self.link.scripts.release.key(keyspace::reservation(release.id));
            invocation.key(keyspace::EXPIRY).key(keyspace::notices(0));
            add_holders(&mut invocation, &terms);
            invocation.arg(keyspace::id(release.id)).arg(terms.scopes_text()).arg(REMEMBER_EXACT_S);
            let call = async |connection: &mut _| invocation.invoke_async(connection).await;
            let (what, _, scopes, _): (String, u64, String, String) = self.link.call(Operation::Release, call).await?;
            match what.as_str() {
                "S" | "N" => return Ok(()),
                "A" => terms = StoreTerms::of_scopes(read_scopes(&scopes).ok_or(SharedStoreError::Nonsense)?),
                _ => return Err(SharedStoreError::Nonsense),
            }
        }
        Err(SharedStoreError::Nonsense)
    }

    /// Returns the reservation of a decision, whoever granted it; `None` where the store has none.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer.
    pub async fn find(&self, id: u128) -> Result<Option<StoredReservation>, SharedStoreError> {
        let key = keyspace::reservation(id);
        let (state, scopes, body): (Option<String>, Option<String>, Option<String>) = self
            .link
            .call(Operation::Find, async |connection| {
                redis::cmd("HMGET").arg(key).arg(&["state", "scopes", "body"]).query_async(connection).await
            })
            .await?;
        let Some(state) = state else { return Ok(None) };
        let scopes = read_scopes(&scopes.unwrap_or_default()).ok_or(SharedStoreError::Nonsense)?;
        let reservation = body.as_deref().and_then(read_reservation);
        Ok(Some(StoredReservation { open: state == "open", terms: StoreTerms::of_scopes(scopes), reservation }))
    }

    /// Returns the decision that the proxy knows by this identifier, within ten minutes of it.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer.
    pub async fn find_uid(&self, uid: ProxyUid) -> Result<Option<u128>, SharedStoreError> {
        let key = keyspace::uid(uid);
        let call = async |connection: &mut _| redis::cmd("GET").arg(key).query_async(connection).await;
        let id: Option<String> = self.link.call(Operation::Find, call).await?;
        Ok(id.as_deref().and_then(keyspace::read_id))
    }

    /// Returns the decisions that have expired, at most `count`: nobody said how they ended.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer.
    pub async fn due(&self, count: usize) -> Result<Vec<u128>, SharedStoreError> {
        let mut invocation = self.link.scripts.due.key(keyspace::EXPIRY);
        invocation.arg(count);
        let call = async |connection: &mut _| invocation.invoke_async(connection).await;
        let ids: Vec<String> = self.link.call(Operation::Sweep, call).await?;
        Ok(ids.iter().filter_map(|id| keyspace::read_id(id)).collect())
    }

    /// Removes a decision from those that expire where its reservation is gone.
    pub(super) async fn forget(&self, id: u128) -> Result<(), SharedStoreError> {
        let call = async |connection: &mut _| {
            redis::cmd("ZREM").arg(keyspace::EXPIRY).arg(keyspace::id(id)).query_async(connection).await
        };
        self.link.call(Operation::Sweep, call).await
    }

    /// Returns the decisions of this herdgate that others have ended and that were not yet removed by
    /// [`SharedLedger::noted`], at most `count`.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer.
    pub async fn notices(&self, count: usize) -> Result<Vec<u128>, SharedStoreError> {
        let ids = self.left_here(keyspace::notices(self.replica), count).await?;
        Ok(ids.iter().filter_map(|id| keyspace::read_id(id)).collect())
    }

    /// Removes notices that were read.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer; they are then read again.
    pub async fn noted(&self, ids: &[u128]) -> Result<(), SharedStoreError> {
        let ids: Vec<String> = ids.iter().map(|id| keyspace::id(*id)).collect();
        self.taken_from_here(keyspace::notices(self.replica), &ids).await
    }

    /// Returns the first `count` entries of a list of this herdgate. They stay there until they are handled: an answer
    /// that comes too late would otherwise take it with it.
    async fn left_here(&self, key: String, count: usize) -> Result<Vec<String>, SharedStoreError> {
        let last = count.saturating_sub(1);
        let call = async |connection: &mut _| {
            redis::cmd("LRANGE").arg(&key).arg(0).arg(last).query_async::<Vec<String>>(connection).await
        };
        self.link.call(Operation::Sweep, call).await
    }

    /// Removes entries from a list of this herdgate: by value and not by number, because a call that is late may be
    /// carried out after the next one.
    async fn taken_from_here(&self, key: String, values: &[String]) -> Result<(), SharedStoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let mut removal = redis::pipe();
        for value in values {
            removal.cmd("LREM").arg(&key).arg(1).arg(value).ignore();
        }
        let call = async |connection: &mut _| removal.query_async::<()>(connection).await;
        self.link.call(Operation::Sweep, call).await
    }

    /// Leaves a usage line for the herdgate that granted its request, which alone knows it: it granted while the store was
    /// away.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer; it may be left twice.
    pub async fn forward(&self, replica: u64, line: &str) -> Result<(), SharedStoreError> {
        let mut invocation = self.link.scripts.forward.key(keyspace::lines(replica));
        invocation.arg(line);
        let call = async |connection: &mut _| invocation.invoke_async::<u8>(connection).await;
        self.link.call(Operation::Settle, call).await.map(drop)
    }

    /// Returns the usage lines left here for this herdgate, at most `count`.
    ///
    /// # Errors
    /// As [`SharedLedger::notices`].
    pub async fn forwarded(&self, count: usize) -> Result<Vec<String>, SharedStoreError> {
        self.left_here(keyspace::lines(self.replica), count).await
    }

    /// Removes lines that were read.
    ///
    /// # Errors
    /// As [`SharedLedger::noted`].
    pub async fn read(&self, lines: &[String]) -> Result<(), SharedStoreError> {
        self.taken_from_here(keyspace::lines(self.replica), lines).await
    }

    /// Tells the others what is in flight from here, and hears what is in flight from them.
    ///
    /// # Errors
    /// [`SharedStoreError`] where the store did not answer; what the others have is then taken for nothing.
    pub async fn exchange(&self, lanes: &[Lane]) -> Result<(), SharedStoreError> {
        let mut invocation = self.link.scripts.exchange.key(keyspace::IN_FLIGHT);
        invocation.arg(format!("{:016x}", self.replica)).arg(elsewhere::write(lanes));
        let call = async |connection: &mut _| invocation.invoke_async(connection).await;
        let told: Result<Vec<String>, SharedStoreError> = self.link.call(Operation::Exchange, call).await;
        let (heard, result) = match told {
            Ok(told) => (Elsewhere::read(&told), Ok(())),
            Err(trouble) => (Elsewhere::default(), Err(trouble)),
        };
        self.elsewhere.store(Arc::new(heard));
        result
    }

    /// Puts an end back that was not delivered, unless the store could make no sense of it too often.
    pub(super) fn put_back(&self, waiting: Waiting, trouble: SharedStoreError) {
        let again = match trouble {
            SharedStoreError::Error | SharedStoreError::Nonsense => waiting.again(),
            _ => Some(waiting),
        };
        if !again.is_some_and(|waiting| self.backlog.put_back(waiting)) {
            self.link.counts.lost();
        }
    }
}

fn add_holders(invocation: &mut redis::ScriptInvocation<'_>, terms: &StoreTerms) {
    for scope in &terms.scopes {
        invocation.key(keyspace::books(*scope)).key(keyspace::open(*scope));
    }
}

fn read_reservation(body: &str) -> Option<Box<Reservation>> {
    serde_json::from_str(body).ok()
}
