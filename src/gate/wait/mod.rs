//! Requests that wait for a server, because nginx has no queue of its own.
//!
//! Scheme. A request that may wait gets a ticket: 128 random bits that nginx alone sees, and redeems once, on a second hop
//! without a body. The ticket carries nothing, so there is nothing to forge. Whoever guesses one of a thousand among 2^128 gets
//! the grant of another's request, on a port that only the proxies reach. A ticket that is not redeemed within seconds, or
//! whose time is over, is worth nothing. The queue is bounded; when it is full, the caller with the most requests in it loses
//! its last one.

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

/// The end of a request's wait, and what an adapter needs to put it on the wire.
#[derive(Debug)]
pub struct WaitReply {
    /// The public id of its decision.
    pub id: DecisionId,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    /// The server that it got, or the refusal.
    pub outcome: WaitOutcome,
}

impl Gate {
    /// Adds a claim to the wait queue and returns its ticket. Releases the claim where the queue has no place for it.
    pub(super) fn enqueue(&self, case: &Case<'_, '_>, held: WaitingClaim) -> Result<Ticket, Refusal> {
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
                let refusal = self.wait_refusal(view, &gone.held, Reason::QueueFull);
                self.turn_away(gone, refusal, WaitLabel::TurnedAway, now);
                Ok(ticket)
            }
            Err(waiter) => {
                let refusal = self.wait_refusal(view, &waiter.held, Reason::QueueFull);
                self.let_go(&waiter.held);
                self.metrics.waited(WaitLabel::TurnedAway, 0);
                Err(refusal)
            }
        }
    }

    /// Waits with a ticket (32 hex digits) for a server or a refusal; `None` where the ticket is not valid. Dropping the future
    /// earlier releases whatever the request has, because its client has left.
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

    /// Grants free slots to the next waiters, until no waiter or no free slot is left. Called whenever a slot ends.
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

    /// Refuses the waiters whose time is over, and grants slots of servers that came back. Called a few times a second.
    pub fn tend_waiters(&self) {
        let (view, now) = (self.state.view(), self.clock.now());
        let late: Vec<Waiter> = {
            let mut queue = self.queue.lock();
            queue.order.late(now.mono_ns).into_iter().filter_map(|ticket| queue.remove(ticket)).collect()
        };
        for waiter in late {
            let refusal = self.wait_refusal(&view, &waiter.held, Reason::QueueTimeout);
            self.turn_away(waiter, refusal, WaitLabel::TimedOut, now);
        }
        self.free_waiters();
    }

    /// Closes the queue and refuses every waiter, because the process ends.
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

    /// Releases a claim that waits no longer, or whose grant reached nobody.
    fn let_go(&self, held: &WaitingClaim) {
        self.ledger.lock().let_go(held);
        self.tell_let_go(&held.reservation);
    }

    /// Releases a grant that reached nobody, in the journal too.
    fn take_back(&self, held: &WaitingClaim) {
        self.let_go(held);
        if let Some(journal) = &self.journal {
            journal.released(held.reservation.id);
        }
    }

    /// Returns a refusal that may be retried once the requests that wait now are served.
    fn wait_refusal(&self, view: &View, held: &WaitingClaim, reason: Reason) -> Refusal {
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
        self.audit.refused_after_waiting(waiter.id.as_str(), waiter.held.caller(), &refusal, waited_ms, now);
        self.recent.amend(waiter.id.number(), |past| past.refuse(&refusal));
        // Fails where the second hop never came, or has ended.
        let _ = waiter.tell(WaitOutcome::Refused(refusal));
    }
}

/// A waiter whose client may leave. Dropped before it is done, it releases its claim.
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
