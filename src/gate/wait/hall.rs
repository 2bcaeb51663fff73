//! The room and those who stand in it: each is told once what became of it.

use super::room::{Entered, Room, Waiter};
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::Refusal;
use crate::gate::Id;
use crate::gate::receipt::GrantReceipt;
use crate::ledger::account::Standings;
use crate::ledger::hold::Held;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Most requests that wait, unless [`Hall::set_most`] says otherwise.
const WAITERS_MAX: usize = 1024;

/// A second hop comes within milliseconds; a ticket not redeemed after so many nanoseconds never will be.
const UNREDEEMED_NS: u64 = 5_000_000_000;

/// Everybody who waits.
#[derive(Debug)]
pub struct Hall(Mutex<Inner>);

/// What stands under the lock.
#[derive(Debug)]
pub struct Inner {
    /// The order.
    pub room: Room,
    seats: HashMap<u128, Seat>,
    most: usize,
    closed: bool,
}

/// What one who waits holds, and how it is told.
#[derive(Debug)]
pub struct Seat {
    /// What it holds.
    pub held: Held,
    /// The public id of its decision.
    pub id: Id,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    told: Option<oneshot::Sender<Outcome>>,
}

/// What became of one who waited.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "sent once a request that waited")]
pub enum Outcome {
    /// A server.
    Server(Left),
    /// None.
    Refused(Refusal),
}

/// The grant of a request that waited, by itself.
#[derive(Debug, Clone)]
pub struct Left {
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

impl Default for Hall {
    fn default() -> Hall {
        Hall(Mutex::new(Inner { room: Room::default(), seats: HashMap::new(), most: WAITERS_MAX, closed: false }))
    }
}

impl Hall {
    /// How many may wait: fewer than the port has connections for, or who waits would lock out who asks.
    pub fn set_most(&self, most: usize) {
        self.lock().most = most.min(WAITERS_MAX);
    }

    /// Everything, under the lock. Taken before the ledger's, never while that is held.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below the lock calls out but to the arithmetic of the room.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes in who holds a ticket. Answers who had to go for it; `Err` gives back who found no room.
    ///
    /// # Errors
    /// Where there is none.
    #[allow(clippy::result_large_err, reason = "handed back to whom it came from")]
    pub fn enter(&mut self, ticket: u128, seat: Seat, until_ns: u64) -> Result<Option<Seat>, Seat> {
        let (caller, pool) = (seat.held.caller(), seat.held.reservation.pool);
        let Held { priority, since, .. } = seat.held;
        let soon_ns = since.mono_ns.saturating_add(UNREDEEMED_NS).min(until_ns);
        let waiter = Waiter { caller, pool, priority, since_ns: since.mono_ns, until_ns: soon_ns };
        let most = if self.closed { 0 } else { self.most };
        match self.room.enter(ticket, waiter, most) {
            Entered::Out => Err(seat),
            Entered::In => {
                self.seats.insert(ticket, seat);
                Ok(None)
            }
            Entered::Instead(gone) => {
                self.seats.insert(ticket, seat);
                Ok(self.seats.remove(&gone))
            }
        }
    }

    /// The second hop has come; it will be told. `None` where the ticket is not good, or no longer, or was redeemed.
    pub fn redeem(&mut self, ticket: u128, timeout_ns: u64) -> Option<oneshot::Receiver<Outcome>> {
        let seat = self.seats.get_mut(&ticket).filter(|seat| seat.told.is_none())?;
        let (tell, told) = oneshot::channel();
        seat.told = Some(tell);
        let until_ns = seat.held.since.mono_ns.saturating_add(timeout_ns);
        self.room.redeem(ticket, until_ns).then_some(told)
    }

    /// Takes somebody out.
    pub fn remove(&mut self, ticket: u128) -> Option<Seat> {
        self.room.leave(ticket);
        self.seats.remove(&ticket)
    }

    /// What somebody holds.
    pub fn seat(&self, ticket: u128) -> Option<&Seat> {
        self.seats.get(&ticket)
    }

    /// Lets nobody in from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

impl Seat {
    /// Not told anything yet.
    pub fn new(held: Held, id: Id, dialect: Dialect) -> Seat {
        Seat { held, id, dialect, told: None }
    }

    /// Tells it what became of it.
    ///
    /// # Errors
    /// The outcome, where nobody listens any more.
    #[allow(clippy::result_large_err, reason = "handed back to whom it came from")]
    pub fn tell(self, outcome: Outcome) -> Result<(), Outcome> {
        match self.told {
            Some(told) => told.send(outcome),
            None => Err(outcome),
        }
    }
}
