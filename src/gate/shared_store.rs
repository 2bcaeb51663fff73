//! The gate where several herdgates share their limits: decisions wait for the shared store under a deadline, and the ends of
//! requests are reported to it.
//!
//! While the store is away, and where it does not answer in time, `on_store_down` decides. A request that is granted then is
//! settled by its id like any other: the store counts it when its end is reported, whether or not the call that missed the
//! deadline was carried out. A request that is not granted is released in the store.

use super::case::Case;
use super::{Gate, refusal, refusal_of};
use crate::decision::judge::Claim;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Account, Accounts, Scopes};
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::ledger::books;
use crate::ledger::plan::{Application, Nobody, Placement, Turn};
use crate::ledger::reservation::{Evidence, Record, Reservation};
use crate::ledger::tokens::observed::ObservedUsage;
use crate::shared_store::address::OnStoreDown;
use crate::shared_store::{
    self, AdmitRequest, Admitted, Counts, Fraction, Lane, Release, Replica, Settlement, SharedLedger, SharedStoreError,
    StoreSettle, StoreTerms,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Usage lines of other herdgates' requests that may wait for the store.
const FOREIGN_MAX: usize = 8_192;

/// Most requests granted without the store whose terms are kept for its return. Of further ones the store gets the holders
/// alone.
const ALONE_MAX: usize = 100_000;

/// How much longer the store keeps a reservation open than this process, so that the herdgate that granted it ends it first
/// if it lives.
const GRACE: Duration = Duration::from_secs(10);

/// Pause before a usage line is tried again that the store could not take.
const RETRY: Duration = Duration::from_millis(200);

/// The shared store, and what is decided without it.
pub struct Sharing {
    ledger: Arc<SharedLedger>,
    down: OnStoreDown,
    share: Fraction,
    max_stream_ns: AtomicU64,
    /// Terms of the requests that were granted without the store.
    alone: Mutex<HashMap<u128, StoreTerms>>,
    foreign: mpsc::Sender<ForeignLine>,
}

/// The usage line of a request that another herdgate granted.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForeignLine {
    /// The herdgate that granted it.
    #[serde(skip)]
    replica: u64,
    id: u128,
    seen: ObservedUsage,
}

impl Sharing {
    /// Returns the sharing of limits in `ledger`, of which this herdgate may grant `share` where `down` says so, and the receiver
    /// of other herdgates' usage lines, for [`Gate::settle_foreign`].
    pub fn new(
        ledger: Arc<SharedLedger>,
        down: OnStoreDown,
        share: Fraction,
    ) -> (Sharing, mpsc::Receiver<ForeignLine>) {
        let (foreign, lines) = mpsc::channel(FOREIGN_MAX);
        let max_stream_ns = AtomicU64::new(3_600_000_000_000);
        (Sharing { ledger, down, share, max_stream_ns, alone: Mutex::default(), foreign }, lines)
    }

    /// Returns the counts of the store's calls, for metrics.
    pub(super) fn counts(&self) -> Arc<Counts> {
        self.ledger.counts()
    }

    pub(super) fn set_max_stream_ns(&self, max_stream_ns: u64) {
        self.max_stream_ns.store(max_stream_ns, Ordering::Relaxed);
    }

    /// Returns how long the store keeps a reservation open. A request that waits has its waiting time beside its stream's.
    fn lease(&self, waits_ns: u64) -> Duration {
        let stream_ns = self.max_stream_ns.load(Ordering::Relaxed);
        Duration::from_nanos(stream_ns.saturating_add(waits_ns)).saturating_add(GRACE)
    }

    /// Remembers the terms of a request that was granted without the store.
    fn note_alone(&self, id: u128, terms: StoreTerms) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.len() < ALONE_MAX {
            alone.insert(id, terms);
        }
    }

    fn terms_of_end(&self, reservation: &Reservation) -> StoreTerms {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        alone.remove(&reservation.id).unwrap_or_else(|| StoreTerms::of_scopes(reservation.scopes.iter().collect()))
    }
}

impl Gate {
    /// Returns whether decisions may have to wait for a shared store.
    pub fn waits(&self) -> bool {
        self.sharing.is_some()
    }

    /// Takes a claim's limits in the store, under its deadline, and its slot in this process.
    pub(super) async fn admit_shared<'v>(
        &self,
        sharing: &Sharing,
        case: &Case<'_, 'v>,
        claim: &Claim<'v>,
    ) -> Result<Turn<'v>, Refusal> {
        if !sharing.ledger.is_up() {
            return self.admit_alone(sharing, case, claim, case.now);
        }
        let (view, now, may_wait) = (case.view, case.now, case.question.may_wait);
        let requester = case.requester();
        let elsewhere = sharing.ledger.elsewhere();
        let accounts = &claim.accounts;
        let asks = Application { view, claim, accounts, requester: &requester, may_wait, elsewhere: &*elsewhere };
        let planned = self.ledger.plan(&asks, now).map_err(refusal_of)?;
        let (accounts, today) = (planned.accounts, planned.today);
        let need = planned.reservation.reserved();
        if let Some(excess) = shared_store::never_fits(&accounts, need, false) {
            return Err(refusal(excess));
        }
        let too_late = || Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::DeadlineMissed) };
        let Some(terms) = shared_store::terms_of(&accounts) else { return Err(too_late()) };
        let ask = AdmitRequest {
            reservation: &planned.reservation,
            terms: &terms,
            lease: sharing.lease(if may_wait { view.policy.patience.timeout_ns } else { 0 }),
            today: calendar(today, now),
        };
        // The client may leave while the store is asked, and this future is dropped with it.
        let mut unheld =
            Unheld { ledger: &sharing.ledger, release: Some(Release { id: requester.id, terms: terms.clone() }) };
        let admitted = sharing.ledger.admit(ask).await;
        match admitted {
            Ok(Admitted::Granted { .. }) if case.is_late(self.clock.now()) => Err(too_late()),
            Ok(Admitted::Granted { stands, over }) => {
                let standings = shared_store::standings_of(&accounts, &stands, today);
                let shadowed = shared_store::never_fits(&accounts, need, true)
                    .or_else(|| shared_store::excess_of(&accounts, &stands, &over, true, today));
                let elsewhere = sharing.ledger.elsewhere();
                let asks = Application { elsewhere: &*elsewhere, ..asks };
                let turn = self.ledger.commit(&asks, planned, standings, shadowed, now);
                // Without a reservation the proxy has given up on it already, and its line came before this.
                if is_held(&turn) {
                    unheld.keep();
                }
                Ok(turn)
            }
            Ok(Admitted::Refused { stands, over }) => {
                unheld.keep();
                let excess = shared_store::excess_of(&accounts, &stands, &over, false, today);
                Err(excess.map_or_else(too_late, |excess| refusal(self.ledger.with_guess(excess))))
            }
            Ok(Admitted::Ended) => {
                unheld.keep();
                Err(too_late())
            }
            Err(trouble) => {
                // A store that was asked may have taken it all the same.
                if matches!(trouble, SharedStoreError::Open | SharedStoreError::Busy) {
                    unheld.keep();
                }
                let now = self.clock.now();
                if case.is_late(now) {
                    return Err(too_late());
                }
                let alone = self.admit_alone(sharing, case, claim, now);
                if alone.as_ref().is_ok_and(is_held) {
                    unheld.keep();
                }
                alone
            }
        }
    }

    /// Decides on a claim while the store is away, as `on_store_down` says.
    fn admit_alone<'v>(
        &self,
        sharing: &Sharing,
        case: &Case<'_, 'v>,
        claim: &Claim<'v>,
        now: Moment,
    ) -> Result<Turn<'v>, Refusal> {
        let away = || Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::StoreAway) };
        let terms = match sharing.down {
            OnStoreDown::Deny => return Err(away()),
            OnStoreDown::Local => shared_store::shares_of(&claim.accounts, sharing.share),
            OnStoreDown::Allow => claim.accounts.iter().map(|_| Default::default()).collect(),
        };
        let mut accounts = Accounts::default();
        for (account, terms) in claim.accounts.iter().zip(&terms) {
            if !accounts.push(Account { terms, ..*account }) {
                return Err(away());
            }
        }
        let requester = case.requester();
        let (view, may_wait) = (case.view, case.question.may_wait);
        let asks =
            Application { view, claim, accounts: &accounts, requester: &requester, may_wait, elsewhere: &Nobody };
        let turn = self.ledger.take(&asks, now).map_err(refusal_of)?;
        if is_held(&turn)
            && let Some(terms) = shared_store::terms_of(&claim.accounts)
        {
            sharing.note_alone(requester.id, terms);
        }
        Ok(turn)
    }

    /// Releases a claim in the store that waits no longer, or whose grant reached nobody.
    pub(super) fn tell_let_go(&self, reservation: &Reservation) {
        if let Some(sharing) = &self.sharing {
            let terms = sharing.terms_of_end(reservation);
            sharing.ledger.release(Release { id: reservation.id, terms });
        }
    }

    /// Records a settlement, where there is one.
    fn charge(&self, ended: books::SettleOutcome) {
        if let books::SettleOutcome::Settled(record) | books::SettleOutcome::Corrected(record) = ended {
            self.write_down(*record);
        }
    }

    /// Reports to the store what a request was charged.
    pub(super) fn tell_store(&self, record: &Record) {
        let Some(sharing) = &self.sharing else { return };
        let now = self.clock.now();
        sharing.ledger.settle(Settlement {
            id: record.reservation.id,
            terms: sharing.terms_of_end(&record.reservation),
            used: record.charge(),
            evidence: record.evidence,
            granted_by: None,
            today: calendar(self.ledger.today(now), now),
        });
    }

    /// Reports to the store that a request's verdict never arrived, so that it is not charged.
    pub(super) fn tell_unheard(&self, id: u128, scopes: Scopes, now: Moment) {
        let Some(sharing) = &self.sharing else { return };
        sharing.alone.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // Also where the store does not know the request yet: a late call would otherwise open it for nobody.
        sharing.ledger.settle(Settlement {
            id,
            terms: StoreTerms::of_scopes(scopes.iter().collect()),
            used: 0,
            evidence: Evidence::Exact,
            granted_by: None,
            today: calendar(self.ledger.today(now), now),
        });
    }

    /// Queues the usage line of another herdgate's request, which is looked up in the store in the background.
    pub(super) fn settle_elsewhere(&self, replica: u64, id: u128, seen: &ObservedUsage) {
        if let Some(sharing) = &self.sharing {
            // Lines past the bound are dropped, and their requests end by time.
            let _ = sharing.foreign.try_send(ForeignLine { replica, id, seen: seen.clone() });
        }
    }

    /// Settles other herdgates' requests by their usage lines until the channel closes. Waits while the store is away.
    pub async fn settle_foreign(&self, mut lines: mpsc::Receiver<ForeignLine>) {
        let Some(sharing) = &self.sharing else { return };
        while let Some(line) = lines.recv().await {
            while self.settle_one(&sharing.ledger, &line).await.is_err() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn settle_one(&self, ledger: &SharedLedger, line: &ForeignLine) -> Result<(), SharedStoreError> {
        let ForeignLine { replica, id, seen } = line;
        let Some(found) = ledger.find(*id).await? else {
            // It was granted while the store was away, so the line goes to the herdgate that granted it.
            let Ok(text) = serde_json::to_string(line) else { return Ok(()) };
            return ledger.forward(*replica, &text).await;
        };
        // It was settled by exact figures already.
        let Some(reservation) = found.reservation else { return Ok(()) };
        let now = self.clock.now();
        let record = self.ledger.foreign(*reservation, Some(seen), now);
        let today = calendar(self.ledger.today(now), now);
        let (used, evidence) = (record.charge(), record.evidence);
        let settlement = Settlement { id: *id, terms: found.terms, used, evidence, granted_by: Some(*replica), today };
        match ledger.settle_now(&settlement).await {
            Ok(StoreSettle::Settled(_) | StoreSettle::Corrected(_)) => self.keep(record),
            Ok(StoreSettle::Nothing | StoreSettle::Unknown) => {}
            // A store that cannot make sense of it now will not later.
            Err(SharedStoreError::Error | SharedStoreError::Nonsense) => {}
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }
}

impl Replica for Gate {
    fn lanes(&self) -> Vec<Lane> {
        let lanes = self.ledger.lanes().into_iter();
        lanes.map(|((server, pool), count)| Lane { server, pool, count }).collect()
    }

    fn today(&self) -> shared_store::StoreToday {
        let now = self.clock.now();
        calendar(self.ledger.today(now), now)
    }

    fn ended(&self, id: u128) {
        if self.ledger.ended_elsewhere(id, self.clock.now())
            && let Some(journal) = &self.journal
        {
            journal.released(id);
        }
    }

    fn line(&self, line: &str) {
        if let Ok(ForeignLine { replica: _, id, seen }) = serde_json::from_str(line) {
            let now = self.clock.now();
            self.charge(self.ledger.settle(id, &seen, now));
        }
    }

    fn delivered(&self, settlement: &Settlement, ended: &StoreSettle) {
        tracing::trace!(id = settlement.id, ?ended, "told the shared store");
    }

    fn expired(&self, reservation: &Reservation) {
        self.keep(self.ledger.foreign(reservation.clone(), None, self.clock.now()));
    }
}

/// Returns the calendar with the ends of its windows on the wall clock.
fn calendar(today: crate::ledger::calendar::Today, now: Moment) -> shared_store::StoreToday {
    let ends = |left_ms: u64| now.unix_ms.saturating_add(i64::try_from(left_ms).unwrap_or(i64::MAX));
    shared_store::StoreToday {
        day: today.day,
        day_ends_ms: ends(today.day_left_ms),
        month: today.month,
        month_ends_ms: ends(today.month_left_ms),
    }
}

/// Returns whether this process holds a claim's slot, and so will report its end.
fn is_held(turn: &Turn<'_>) -> bool {
    !matches!(turn, Turn::Now(Placement { reservation: None, .. }))
}

/// A claim that the store may have taken and that this process does not hold. Dropping it releases the claim in the store.
struct Unheld<'s> {
    ledger: &'s SharedLedger,
    release: Option<Release>,
}

impl Unheld<'_> {
    fn keep(&mut self) {
        self.release = None;
    }
}

impl Drop for Unheld<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            self.ledger.release(release);
        }
    }
}
