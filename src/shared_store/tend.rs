//! The task that keeps the shared books: it connects, delivers ends, sweeps what has expired, and tells the others what
//! is in flight. No decision ever waits for it.

use super::backlog::{Settlement, StoreEnd};
use super::elsewhere::{Elsewhere, Lane};
use super::ledger::{SharedLedger, StoreSettle};
use super::terms::StoreToday;
use crate::ledger::reservation::{Evidence, Reservation};
use crate::metrics::shared_store::SharedStoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// How often the task looks whether the store is to be tried.
const MEND_EVERY: Duration = Duration::from_millis(20);

/// How often the others are told.
const EXCHANGE_EVERY: Duration = Duration::from_millis(200);

/// How often the task looks for what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Ends delivered at once.
const BATCH: usize = 64;

/// How long delivering may go on when the process stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the shared books need of the herdgate they serve.
pub trait Replica: Send + Sync + 'static {
    /// Returns what is in flight from here.
    fn lanes(&self) -> Vec<Lane>;

    /// Returns the calendar.
    fn today(&self) -> StoreToday;

    /// Takes note that another herdgate, or time, ended this decision: its slot is free.
    fn ended(&self, id: u128);

    /// Takes a usage line that another herdgate received and that only this one can settle.
    fn line(&self, line: &str);

    /// Takes note that a settlement was delivered.
    fn delivered(&self, settlement: &Settlement, ended: &StoreSettle);

    /// Writes the row of a reservation that expired without a line and was charged as it stood.
    fn expired(&self, reservation: &Reservation);
}

impl SharedLedger {
    /// Keeps the books until `stop`, then delivers what waits, for a moment.
    pub async fn tend(self: Arc<Self>, replica: Arc<dyn Replica>, stop: CancellationToken) {
        let keeping = async {
            let mending = every(MEND_EVERY, || self.link.mend());
            let telling = every(EXCHANGE_EVERY, || self.tell(&*replica));
            let sweeping = every(SWEEP_EVERY, || self.sweep(&*replica));
            tokio::select! {
                () = stop.cancelled() => {}
                _ = async { tokio::join!(mending, telling, sweeping) } => {}
            }
        };
        tokio::join!(keeping, self.deliver_until(&*replica, &stop));
        let last_words = async { while self.link.is_up() && self.deliver(&*replica).await {} };
        let in_time = timeout(LAST_WORDS, last_words).await;
        if in_time.is_err() || self.backlog.len() > 0 {
            tracing::warn!(ends = self.backlog.len(), "the shared store was not told of some ends");
        }
    }

    async fn tell(&self, replica: &dyn Replica) {
        if self.link.is_up() {
            // Trouble is counted, and what the others have is then nothing.
            let _ = self.exchange(&replica.lanes()).await;
        } else {
            self.elsewhere.store(Arc::new(Elsewhere::default()));
        }
    }

    /// Ends what has expired and frees what others have ended.
    async fn sweep(&self, replica: &dyn Replica) {
        if !self.link.is_up() {
            return;
        }
        // Trouble in any of it: the next sweep finds the same again.
        if let Ok(ids) = self.notices(1000).await {
            ids.iter().for_each(|id| replica.ended(*id));
            let _ = self.noted(&ids).await;
        }
        if let Ok(lines) = self.forwarded(1000).await {
            lines.iter().for_each(|line| replica.line(line));
            let _ = self.read(&lines).await;
        }
        let Ok(due) = self.due(BATCH).await else { return };
        for id in due {
            if self.expire(id, replica).await.is_err() {
                return;
            }
        }
    }

    async fn expire(&self, id: u128, replica: &dyn Replica) -> Result<(), SharedStoreError> {
        let found = self.find(id).await?;
        let Some((terms, reservation)) =
            found.filter(|found| found.open).and_then(|found| Some((found.terms, found.reservation?)))
        else {
            return self.forget(id).await;
        };
        let (evidence, today) = (Evidence::Reserved, replica.today());
        let settlement = Settlement { id, terms, used: reservation.reserved(), evidence, granted_by: None, today };
        if let StoreSettle::Settled(_) = self.settle_now(&settlement).await? {
            replica.expired(&reservation);
        }
        replica.ended(id);
        Ok(())
    }

    /// Delivers ends until `stop`. It is not cut off in the middle of a batch, which would be lost.
    async fn deliver_until(self: &Arc<Self>, replica: &dyn Replica, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            // Woken by an end; or by time, where the store was away.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timeout(EXCHANGE_EVERY, self.wake.notified()) => {}
            }
            while self.link.is_up() && self.deliver(replica).await {}
        }
    }

    /// Delivers some ends at once. Returns whether there may be more.
    async fn deliver(self: &Arc<Self>, replica: &dyn Replica) -> bool {
        let mut deliveries = JoinSet::new();
        for waiting in self.backlog.take(BATCH) {
            let shared = self.clone();
            deliveries.spawn(async move {
                let delivered = match &waiting.end {
                    StoreEnd::Settle(settlement) => shared.settle_now(settlement).await.map(Some),
                    StoreEnd::Release(release) => shared.release_now(release).await.map(|()| None),
                };
                // Within the task, so that an end cannot be lost with who waits for it.
                match delivered {
                    Ok(ended) => Some((waiting, ended)),
                    Err(trouble) => {
                        shared.put_back(waiting, trouble);
                        None
                    }
                }
            });
        }
        let mut any = false;
        while let Some(delivered) = deliveries.join_next().await {
            if let Ok(Some((waiting, ended))) = delivered {
                any = true;
                if let (StoreEnd::Settle(settlement), Some(ended)) = (&waiting.end, &ended) {
                    replica.delivered(settlement, ended);
                }
            }
        }
        self.link.counts.backlog(self.backlog.len());
        any && self.backlog.len() > 0
    }
}

async fn every<F: Future<Output = ()>>(period: Duration, mut task: impl FnMut() -> F) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        task().await;
    }
}
