//! The wait queue: waiters, their order, and the channel over which each gets its outcome, once.

use super::order::{Entry, Order, QueueEntry};
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::Refusal;
use crate::gate::DecisionId;
use crate::gate::receipt::GrantReceipt;
use crate::ledger::account::Standings;
use crate::ledger::hold::WaitingClaim;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Most requests that wait.
pub const WAITERS_MAX: usize = 1024;

/// Nanoseconds after which a ticket that was not redeemed is dropped: a second hop comes within milliseconds.
const UNREDEEMED_NS: u64 = 5_000_000_000;

/// The requests that wait, behind a lock.
#[derive(Debug)]
pub struct WaitQueue(Mutex<WaitRoom>);

/// Content of a [`WaitQueue`].
#[derive(Debug)]
pub struct WaitRoom {
    /// The order in which waiters are served.
    pub order: Order,
    waiters: HashMap<u128, Waiter>,
    most: usize,
    closed: bool,
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiter {
    /// Its claim, with the limits that it holds.
    pub held: WaitingClaim,
    /// The public id of its decision.
    pub id: DecisionId,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    told: Option<oneshot::Sender<WaitOutcome>>,
}

/// The end of a wait.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "sent once a request that waited")]
pub enum WaitOutcome {
    /// The request got a server.
    Server(WaitGrant),
    /// The request was refused.
    Refused(Refusal),
}

/// The grant of a request that waited, without borrows of the View.
#[derive(Debug, Clone)]
pub struct WaitGrant {
    /// The chosen server.
    pub server: Arc<str>,
    /// The second choice.
    pub server2: Option<Arc<str>>,
    /// Where the caller stands with its tightest limits.
    pub standings: Standings,
    /// Receipt that settles it.
    pub receipt: GrantReceipt,
    /// Milliseconds it waited.
    pub waited_ms: u64,
}

impl WaitQueue {
    /// Returns an empty queue for at most `most` waiters, and never more than [`WAITERS_MAX`]. `most` should be less than the
    /// port's connections, or those that wait would lock out those that ask.
    pub fn new(most: usize) -> WaitQueue {
        let most = most.min(WAITERS_MAX);
        WaitQueue(Mutex::new(WaitRoom { order: Order::default(), waiters: HashMap::new(), most, closed: false }))
    }

    /// Locks the queue. The ledger's lock comes after this one, never before.
    pub fn lock(&self) -> MutexGuard<'_, WaitRoom> {
        // Only arithmetic runs under this lock, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitRoom {
    /// Adds a waiter. Returns the waiter that had to leave for it, if any.
    ///
    /// # Errors
    /// Returns `waiter` where the queue is full or closed.
    #[allow(clippy::result_large_err, reason = "handed back to whom it came from")]
    pub fn enter(&mut self, ticket: u128, waiter: Waiter, until_ns: u64) -> Result<Option<Waiter>, Waiter> {
        let (caller, pool) = (waiter.held.caller(), waiter.held.reservation.pool);
        let WaitingClaim { priority, since, .. } = waiter.held;
        let soon_ns = since.mono_ns.saturating_add(UNREDEEMED_NS).min(until_ns);
        let entry = QueueEntry { caller, pool, priority, since_ns: since.mono_ns, until_ns: soon_ns };
        let most = if self.closed { 0 } else { self.most };
        match self.order.enter(ticket, entry, most) {
            Entry::Out => Err(waiter),
            Entry::In => {
                self.waiters.insert(ticket, waiter);
                Ok(None)
            }
            Entry::Instead(gone) => {
                self.waiters.insert(ticket, waiter);
                Ok(self.waiters.remove(&gone))
            }
        }
    }

    /// Redeems a ticket. Returns where the outcome will arrive; `None` where the ticket is not valid, or was redeemed.
    pub fn redeem(&mut self, ticket: u128, timeout_ns: u64) -> Option<oneshot::Receiver<WaitOutcome>> {
        let waiter = self.waiters.get_mut(&ticket).filter(|waiter| waiter.told.is_none())?;
        let (tell, told) = oneshot::channel();
        waiter.told = Some(tell);
        let until_ns = waiter.held.since.mono_ns.saturating_add(timeout_ns);
        self.order.redeem(ticket, until_ns).then_some(told)
    }

    /// Removes a waiter.
    pub fn remove(&mut self, ticket: u128) -> Option<Waiter> {
        self.order.leave(ticket);
        self.waiters.remove(&ticket)
    }

    /// Returns a waiter.
    pub fn waiter(&self, ticket: u128) -> Option<&Waiter> {
        self.waiters.get(&ticket)
    }

    /// Makes [`WaitRoom::enter`] fail from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

impl Waiter {
    /// Returns a waiter whose ticket is not redeemed yet.
    pub fn new(held: WaitingClaim, id: DecisionId, dialect: Dialect) -> Waiter {
        Waiter { held, id, dialect, told: None }
    }

    /// Sends the waiter its outcome.
    ///
    /// # Errors
    /// Returns the outcome where nobody receives it any more.
    #[allow(clippy::result_large_err, reason = "handed back to whom it came from")]
    pub fn tell(self, outcome: WaitOutcome) -> Result<(), WaitOutcome> {
        match self.told {
            Some(told) => told.send(outcome),
            None => Err(outcome),
        }
    }
}
