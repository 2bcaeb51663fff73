//! The waiting room: requests that nginx has no queue for are held here until a server has room.
//!
//! Scheme. Who may wait gets a ticket: 128 random bits that nginx alone sees, and redeems once, on a second hop without a
//! body. It carries nothing, so there is nothing to forge; who guesses one of a thousand among 2^128 gets the grant of
//! another's request, on a port that only the proxies reach. A ticket that is not redeemed within seconds, or whose time is
//! over, is worth nothing. The room is bounded, and where it is full the caller with the most requests in it makes room.

mod order;
mod queue;

pub use order::{Entry, Order, QueueEntry};
pub use queue::{WAITERS_MAX, WaitGrant, WaitOutcome, WaitQueue, Waiter};

use super::case::{Case, outcome_of};
use super::id::{DecisionId, Ticket};
use super::{Gate, whole_s};
use crate::decision::moment::Moment;
use crate::decision::reason::Reason;
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use crate::gate::receipt::{GrantClaims, GrantReceipt};
use crate::ledger::hold::{WaitEnd, WaitingClaim};
use crate::ledger::reservation::Reservation;
use crate::metrics::{DecisionLabel as Counted, Port, WaitLabel};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// What became of a request that waited, and what an adapter needs to put it on the wire.
#[derive(Debug)]
pub struct WaitReply {
    /// The public id of its decision.
    pub id: DecisionId,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    /// A server, or none.
    pub outcome: WaitOutcome,
}

impl Gate {
    /// Takes a claim that is held into the room; answers its ticket. Where there is no room it is let go.
    pub(super) fn let_in(&self, case: &Case<'_, '_>, held: WaitingClaim) -> Result<Ticket, Refusal> {
        let Case { id, view, now, judged, .. } = case;
        let (view, now) = (*view, *now);
        let ticket = Ticket::random();
        let until_ns = now.mono_ns.saturating_add(view.policy.patience.timeout_ns);
        let mut queue = self.queue.lock();
        let entered = queue.enter(ticket.number(), Waiter::new(held, *id, judged.dialect), until_ns);
        self.metrics.waiting(queue.order.len());
        drop(queue);
        match entered {
            Ok(None) => Ok(ticket),
            Ok(Some(gone)) => {
                let refusal = self.in_vain(view, &gone.held, Reason::QueueFull);
                self.turn_away(gone, refusal, WaitLabel::TurnedAway, now);
                Ok(ticket)
            }
            Err(waiter) => {
                let refusal = self.in_vain(view, &waiter.held, Reason::QueueFull);
                self.let_go(&waiter.held);
                self.metrics.waited(WaitLabel::TurnedAway, 0);
                Err(refusal)
            }
        }
    }

    /// Waits with a ticket (32 hex digits) for what becomes of it; `None` where it is not good. Dropped before that, it
    /// gives back whatever the request has: its client has left.
    pub async fn wait(&self, ticket: &str) -> Option<WaitReply> {
        let ticket = Ticket::parse(ticket)?.number();
        let timeout_ns = self.state.view().policy.patience.timeout_ns;
        let mut leaving = {
            let mut queue = self.queue.lock();
            let told = queue.redeem(ticket, timeout_ns)?;
            let Waiter { held, id, dialect, .. } = queue.waiter(ticket)?;
            let (held, id, dialect) = (held.clone(), *id, *dialect);
            Leaving { gate: self, ticket, held, id, dialect, told, done: false }
        };
        // A server may have become free between the two hops.
        self.free_waiters();
        let outcome = (&mut leaving.told).await.ok()?;
        leaving.done = true;
        Some(WaitReply { id: leaving.id, dialect: leaving.dialect, outcome })
    }

    /// Gives servers with room to whoever is next, until there is nobody or no room. Called whenever a slot ends.
    pub fn free_waiters(&self) {
        let mut queue = self.queue.lock();
        if queue.order.is_empty() {
            self.metrics.waiting(0);
            return;
        }
        let (view, now) = (self.state.view(), self.clock.now());
        loop {
            let mut books = self.ledger.lock();
            let mut free: HashMap<_, Option<Vec<_>>> = HashMap::new();
            let next = queue.order.next(now.mono_ns, |pool, caller| {
                books.ahead_ms(caller, free.entry(pool).or_insert_with(|| books.free_for(&view, pool)).as_deref())
            });
            let Some(ticket) = next else { break };
            let Some(waiter) = queue.remove(ticket) else { break };
            let freed = books.free(&view, &waiter.held, now);
            drop(books);
            match freed {
                WaitEnd::Granted(choice, reservation) => {
                    let waited_ms = now.since(waiter.held.since) / 1_000_000;
                    let left = WaitGrant {
                        server: choice.grant.server.name.clone(),
                        server2: choice.grant.server2.map(|server| server.name.clone()),
                        standings: waiter.held.standings,
                        receipt: self.receipt_of(&waiter.held, &reservation, now),
                        waited_ms,
                    };
                    if let Some(journal) = &self.journal {
                        journal.opened(reservation);
                    }
                    self.recent.amend(waiter.id.number(), |past| past.served_by(&left.server, left.server2.as_deref()));
                    tracing::debug!(id = waiter.id.as_str(), server = %left.server, waited_ms, "allowed after waiting");
                    let held = waiter.held.clone();
                    if waiter.tell(WaitOutcome::Server(left)).is_ok() {
                        self.metrics.outcome(Port::Http, Counted::Allow);
                        self.metrics.waited(WaitLabel::Served, waited_ms);
                    } else {
                        self.take_back(&held);
                        self.metrics.waited(WaitLabel::Left, 0);
                    }
                }
                WaitEnd::Gone => {
                    self.tell_let_go(&waiter.held.reservation);
                    let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::QueueTimeout) };
                    let _ = waiter.tell(WaitOutcome::Refused(refusal));
                    self.metrics.waited(WaitLabel::Left, 0);
                }
                WaitEnd::NoServer(refusal) => {
                    self.tell_let_go(&waiter.held.reservation);
                    self.refuse_waiter(waiter, refusal, WaitLabel::NoServer, now);
                }
            }
        }
        self.metrics.waiting(queue.order.len());
    }

    /// Sends those away whose time is over, and looks whether servers came back. Called a few times a second.
    pub fn tend_waiters(&self) {
        let (view, now) = (self.state.view(), self.clock.now());
        let late: Vec<Waiter> = {
            let mut queue = self.queue.lock();
            queue.order.late(now.mono_ns).into_iter().filter_map(|ticket| queue.remove(ticket)).collect()
        };
        for waiter in late {
            let refusal = self.in_vain(&view, &waiter.held, Reason::QueueTimeout);
            self.turn_away(waiter, refusal, WaitLabel::TimedOut, now);
        }
        self.free_waiters();
    }

    /// Lets nobody in any more, and sends everybody away: the process ends.
    pub fn close_waiters(&self) {
        let now = self.clock.now();
        let everybody: Vec<Waiter> = {
            let mut queue = self.queue.lock();
            queue.close();
            queue.order.tickets().into_iter().filter_map(|ticket| queue.remove(ticket)).collect()
        };
        for waiter in everybody {
            let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::QueueFull) };
            self.turn_away(waiter, refusal, WaitLabel::TurnedAway, now);
        }
        self.metrics.waiting(0);
    }

    fn receipt_of(&self, held: &WaitingClaim, reservation: &Reservation, now: Moment) -> GrantReceipt {
        let Reservation { id, pool: model, tokens, .. } = *reservation;
        let (caller, unix_s) = (held.caller(), now.unix_ms / 1000);
        self.receipts.grant(&GrantClaims { id, caller, model, tokens, unix_s })
    }

    /// Gives back what a claim holds that waits no longer, or whose grant was never told.
    fn let_go(&self, held: &WaitingClaim) {
        self.ledger.lock().let_go(held);
        self.tell_let_go(&held.reservation);
    }

    /// Ends a grant that nobody was told of.
    fn take_back(&self, held: &WaitingClaim) {
        self.let_go(held);
        if let Some(journal) = &self.journal {
            journal.released(held.reservation.id);
        }
    }

    /// A refusal that says when it may be better: after what waits now is served.
    fn in_vain(&self, view: &View, held: &WaitingClaim, reason: Reason) -> Refusal {
        let pool = view.roster.pools.iter().find(|pool| Some(pool.key) == held.reservation.pool);
        let expected_ns = pool.and_then(|pool| self.ledger.lock().expected_wait_ns(view, pool));
        let retry_after_s = whole_s(expected_ns.unwrap_or(view.policy.patience.timeout_ns));
        Refusal { retry_after_s, ..Refusal::new(reason) }
    }

    fn turn_away(&self, waiter: Waiter, refusal: Refusal, waited: WaitLabel, now: Moment) {
        self.let_go(&waiter.held);
        self.refuse_waiter(waiter, refusal, waited, now);
    }

    fn refuse_waiter(&self, waiter: Waiter, refusal: Refusal, waited: WaitLabel, now: Moment) {
        let waited_ms = now.since(waiter.held.since) / 1_000_000;
        self.metrics.outcome(Port::Http, outcome_of(&refusal));
        self.metrics.waited(waited, 0);
        self.audit.waited_in_vain(waiter.id.as_str(), waiter.held.caller(), &refusal, waited_ms, now);
        self.recent.amend(waiter.id.number(), |past| past.refuse(&refusal));
        // Nobody listens where the second hop never came, or has ended.
        let _ = waiter.tell(WaitOutcome::Refused(refusal));
    }
}

/// Somebody who waits, and may leave.
struct Leaving<'g> {
    gate: &'g Gate,
    ticket: u128,
    held: WaitingClaim,
    id: DecisionId,
    dialect: Dialect,
    told: oneshot::Receiver<WaitOutcome>,
    done: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut queue = self.gate.queue.lock();
        let stood = queue.remove(self.ticket).is_some();
        self.gate.metrics.waiting(queue.order.len());
        drop(queue);
        self.told.close();
        if stood {
            self.gate.metrics.waited(WaitLabel::Left, 0);
            self.gate.let_go(&self.held);
        } else if let Ok(WaitOutcome::Server(_)) = self.told.try_recv() {
            // It was given a server that nobody will use.
            self.gate.take_back(&self.held);
            self.gate.free_waiters();
        }
    }
}
