//! From a usage line to what its request is charged: by its receipt, and only by that.

use super::Gate;
use super::case::uid_key;
use super::receipt::{Claimed, Redeemed};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scopes;
use crate::decision::request::endpoint::Endpoint;
use crate::ledger::books::Ended;
use crate::ledger::memory::Standing;
use crate::ledger::reservation::{Name, Record, Reservation, Written};
use crate::ledger::tokens::charge::Observed;
use std::sync::atomic::Ordering;

/// What a usage line came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It released its slot.
    Released,
    /// Its request was charged already, without a line, and is charged otherwise now.
    Corrected,
    /// It released the slot of a request whose verdict never arrived at the proxy.
    Unheard,
    /// Nothing was open: a refusal's line, one that came again, or one of before a restart.
    Nothing,
    /// It carries a receipt that we did not write.
    Forged,
    /// It carries a receipt of another herdgate.
    Foreign,
    /// It is no usage line.
    Malformed,
}

impl Settled {
    /// Every kind, for metrics.
    pub const ALL: [Settled; 7] = [
        Settled::Released,
        Settled::Corrected,
        Settled::Unheard,
        Settled::Nothing,
        Settled::Forged,
        Settled::Foreign,
        Settled::Malformed,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Settled::Released => "released",
            Settled::Corrected => "corrected",
            Settled::Unheard => "unheard",
            Settled::Nothing => "nothing",
            Settled::Forged => "forged",
            Settled::Foreign => "foreign",
            Settled::Malformed => "malformed",
        }
    }
}

impl Gate {
    /// A request has ended: its usage line carried this receipt and this identifier of the proxy's, either possibly empty,
    /// and told this of it. Only a receipt settles; without one, whatever the inquiry took is released, because its verdict
    /// never arrived.
    pub fn settle(&self, receipt: &str, uid: &[u8], seen: &Observed) -> Settled {
        self.settle_at(receipt, uid, seen, self.clock.now())
    }

    /// [`Gate::settle`] at a moment handed in.
    pub fn settle_at(&self, receipt: &str, uid: &[u8], seen: &Observed, now: Moment) -> Settled {
        let settled = match self.receipts.redeem_grant(receipt) {
            Redeemed::Ours(claimed) => match self.ledger.settle(claimed.id, seen, now) {
                Ended::Settled(record) => {
                    self.write_down(*record);
                    Settled::Released
                }
                Ended::Corrected(record) => {
                    self.write_down(*record);
                    Settled::Corrected
                }
                Ended::Unknown if self.may_be_left_behind(&claimed, now) => {
                    let held = self.left_behind(&claimed);
                    self.write_down(self.ledger.charge_orphan(held, seen, now));
                    Settled::Released
                }
                Ended::Released(..) | Ended::Again | Ended::Unknown => Settled::Nothing,
            },
            Redeemed::Foreign { replica, claimed } => {
                self.settle_elsewhere(replica, claimed.id, seen);
                Settled::Foreign
            }
            Redeemed::Forged => Settled::Forged,
            Redeemed::None => match self.ledger.ended_unheard(uid_key(uid), now) {
                Ended::Released(id, scopes) => {
                    if let Some(journal) = &self.journal {
                        journal.released(id);
                    }
                    self.tell_unheard(id, scopes, now);
                    Settled::Unheard
                }
                _ => Settled::Nothing,
            },
        };
        self.metrics.usage_line(settled);
        if matches!(settled, Settled::Released | Settled::Unheard) {
            self.free_waiters();
        }
        settled
    }

    /// Whether a run before this one may have granted it and died before it was written down: then nothing charged it yet.
    /// What is older than a stream may be has ended, and its line is an old one that somebody repeats.
    fn may_be_left_behind(&self, claimed: &Claimed, now: Moment) -> bool {
        let oldest_s = (now.unix_ms / 1000).saturating_sub(self.max_stream_s.load(Ordering::Relaxed));
        self.journal.is_some() && (oldest_s..self.began_unix_s).contains(&claimed.unix_s)
    }

    pub(super) fn write_down(&self, record: Record) {
        self.tell_store(&record);
        self.keep(record);
    }

    pub(super) fn keep(&self, record: Record) {
        self.metrics.settled(&record);
        if let Some(journal) = &self.journal {
            journal.settled(record);
        }
    }

    /// What a run before this one granted and died before it had written it down: as much of it as its receipt says.
    fn left_behind(&self, claimed: &Claimed) -> Reservation {
        let view = self.state.view();
        let key = view.keys.iter().find(|key| key.scope == claimed.caller);
        let team = key.and_then(|key| view.team_of(key));
        let pool = view.roster.pools.iter().find(|pool| pool.key == claimed.model);
        let held = pool.and_then(|pool| view.policy.models.get(&pool.name));
        let mut scopes = Scopes::one(claimed.caller);
        let gate = view.policy.gate.as_ref().map(|(scope, _)| *scope);
        for scope in [team.map(|team| team.scope), held.map(|held| held.scope), gate].into_iter().flatten() {
            // Four at most, and there is room for six.
            let _ = scopes.push(scope);
        }
        Reservation {
            id: claimed.id,
            uid: 0,
            scopes,
            caller: Name::new(key.map_or("", |key| &key.name)),
            user: None,
            team: team.map(|team| team.name.clone()),
            model: pool.map(|pool| pool.name.clone()),
            endpoint: Endpoint::V1ChatCompletions,
            stream: true,
            server: 0,
            pool: claimed.model,
            opened_ns: 0,
            opened_unix_ms: claimed.unix_s.saturating_mul(1000),
            tokens_in: claimed.tokens_in,
            tokens_out: claimed.tokens_out,
            cost: held.map(|held| held.cost).unwrap_or_default(),
            written: Written::default(),
        }
    }

    /// Ends slots that are too old, and publishes how the books stand. Called every second.
    pub fn expire(&self) -> Standing {
        let now = self.clock.now();
        self.audit.tick(now);
        let (expired, records, standing) = self.ledger.expire(now);
        records.into_iter().for_each(|record| self.write_down(record));
        self.metrics.slots(standing.open, expired, standing.silent);
        let measured = self.calibrations.take();
        self.metrics.estimates(self.ledger.calibrate(&measured));
        self.metrics.reserved(standing.reserved, standing.clock_in_doubt);
        standing
    }
}
