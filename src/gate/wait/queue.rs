//! The room and those who stand in it: each is told once what became of it.

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

/// A second hop comes within milliseconds; a ticket not redeemed after so many nanoseconds never will be.
const UNREDEEMED_NS: u64 = 5_000_000_000;

/// Everybody who waits.
#[derive(Debug)]
pub struct WaitQueue(Mutex<WaitRoom>);

/// What stands under the lock.
#[derive(Debug)]
pub struct WaitRoom {
    /// The order.
    pub order: Order,
    waiters: HashMap<u128, Waiter>,
    most: usize,
    closed: bool,
}

/// What one who waits holds, and how it is told.
#[derive(Debug)]
pub struct Waiter {
    /// What it holds.
    pub held: WaitingClaim,
    /// The public id of its decision.
    pub id: DecisionId,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    told: Option<oneshot::Sender<WaitOutcome>>,
}

/// What became of one who waited.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "sent once a request that waited")]
pub enum WaitOutcome {
    /// A server.
    Server(WaitGrant),
    /// None.
    Refused(Refusal),
}

/// The grant of a request that waited, by itself.
#[derive(Debug, Clone)]
pub struct WaitGrant {
    /// The chosen server.
    pub server: Arc<str>,
    /// The second choice.
    pub server2: Option<Arc<str>>,
    /// Where the caller stands with its tightest limits.
    pub standings: Standings,
    /// What settles it.
    pub receipt: GrantReceipt,
    /// Milliseconds it waited.
    pub waited_ms: u64,
}

impl WaitQueue {
    /// Returns an empty queue for so many waiters, [`WAITERS_MAX`] at most: fewer than the port has connections for, or those
    /// who wait would lock out those who ask.
    pub fn new(most: usize) -> WaitQueue {
        let most = most.min(WAITERS_MAX);
        WaitQueue(Mutex::new(WaitRoom { order: Order::default(), waiters: HashMap::new(), most, closed: false }))
    }

    /// Everything, under the lock. Taken before the ledger's, never while that is held.
    pub fn lock(&self) -> MutexGuard<'_, WaitRoom> {
        // Nothing below the lock calls out but to the arithmetic of the room.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitRoom {
    /// Takes in who holds a ticket. Answers who had to go for it; `Err` gives back who found no room.
    ///
    /// # Errors
    /// Where there is none.
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

    /// The second hop has come; it will be told. `None` where the ticket is not good, or no longer, or was redeemed.
    pub fn redeem(&mut self, ticket: u128, timeout_ns: u64) -> Option<oneshot::Receiver<WaitOutcome>> {
        let waiter = self.waiters.get_mut(&ticket).filter(|waiter| waiter.told.is_none())?;
        let (tell, told) = oneshot::channel();
        waiter.told = Some(tell);
        let until_ns = waiter.held.since.mono_ns.saturating_add(timeout_ns);
        self.order.redeem(ticket, until_ns).then_some(told)
    }

    /// Takes somebody out.
    pub fn remove(&mut self, ticket: u128) -> Option<Waiter> {
        self.order.leave(ticket);
        self.waiters.remove(&ticket)
    }

    /// What somebody holds.
    pub fn waiter(&self, ticket: u128) -> Option<&Waiter> {
        self.waiters.get(&ticket)
    }

    /// Lets nobody in from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

impl Waiter {
    /// Not told anything yet.
    pub fn new(held: WaitingClaim, id: DecisionId, dialect: Dialect) -> Waiter {
        Waiter { held, id, dialect, told: None }
    }

    /// Tells it what became of it.
    ///
    /// # Errors
    /// The outcome, where nobody listens any more.
    #[allow(clippy::result_large_err, reason = "handed back to whom it came from")]
    pub fn tell(self, outcome: WaitOutcome) -> Result<(), WaitOutcome> {
        match self.told {
            Some(told) => told.send(outcome),
            None => Err(outcome),
        }
    }
}
