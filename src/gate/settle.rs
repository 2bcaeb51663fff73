//! Settles requests by their usage lines. Only a receipt that this process or another replica wrote settles anything.

use super::Gate;
use super::case::uid_key;
use super::receipt::{GrantClaims, RedeemedReceipt};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scopes;
use crate::decision::request::endpoint::Endpoint;
use crate::ledger::books::SettleOutcome;
use crate::ledger::memory::LedgerStanding;
use crate::ledger::reservation::{CallerName, Record, RequestShape, Reservation};
use crate::ledger::tokens::observed::ObservedUsage;
use crate::metrics::SettleLabel;
use std::sync::atomic::Ordering;

impl Gate {
    /// Settles a request that has ended, by its usage line: the receipt and the proxy's identifier (either may be empty) and the
    /// usage that it reports. Only a receipt settles. A line without one says that the verdict never reached the proxy, so that
    /// whatever the inquiry took is released.
    pub fn settle(&self, receipt: &str, uid: &[u8], seen: &ObservedUsage) -> SettleLabel {
        self.settle_at(receipt, uid, seen, self.clock.now())
    }

    /// Settles as [`Gate::settle`] does, as if it were `now`.
    pub fn settle_at(&self, receipt: &str, uid: &[u8], seen: &ObservedUsage, now: Moment) -> SettleLabel {
        let settled = match self.receipts.redeem_grant(receipt) {
            RedeemedReceipt::Ours(claimed) => match self.ledger.settle(claimed.id, seen, now) {
                SettleOutcome::Settled(record) => {
                    self.write_down(*record);
                    SettleLabel::Released
                }
                SettleOutcome::Corrected(record) => {
                    self.write_down(*record);
                    SettleLabel::Corrected
                }
                SettleOutcome::Unknown if self.may_be_left_behind(&claimed, now) => {
                    let held = self.left_behind(&claimed);
                    self.write_down(self.ledger.charge_orphan(held, seen, now));
                    SettleLabel::Released
                }
                SettleOutcome::Released(..) | SettleOutcome::Again | SettleOutcome::Unknown => SettleLabel::Nothing,
            },
            RedeemedReceipt::Foreign { replica, claimed } => {
                self.settle_elsewhere(replica, claimed.id, seen);
                SettleLabel::Foreign
            }
            RedeemedReceipt::Forged => SettleLabel::Forged,
            RedeemedReceipt::None => match uid_key(uid).map(|uid| self.ledger.ended_unheard(uid, now)) {
                Some(SettleOutcome::Released(id, scopes)) => {
                    if let Some(journal) = &self.journal {
                        journal.released(id);
                    }
                    self.tell_unheard(id, scopes, now);
                    SettleLabel::Unheard
                }
                _ => SettleLabel::Nothing,
            },
        };
        self.metrics.usage_line(settled);
        if matches!(settled, SettleLabel::Released | SettleLabel::Unheard) {
            self.free_waiters();
        }
        settled
    }

    /// Returns whether an earlier run may have granted a request and died before the journal had it: nothing has charged such a
    /// request yet. A grant that is older than the longest stream has ended, and its line is an old one that somebody repeats.
    fn may_be_left_behind(&self, claimed: &GrantClaims, now: Moment) -> bool {
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

    /// Returns the reservation of a request that an earlier run granted and did not write down, as far as its receipt says.
    fn left_behind(&self, claimed: &GrantClaims) -> Reservation {
        let view = self.state.view();
        let key = view.keys.iter().find(|key| key.scope == claimed.caller);
        let team = key.and_then(|key| view.team_of(key));
        let pool = view.roster.pools.iter().find(|pool| Some(pool.key) == claimed.model);
        let held = pool.and_then(|pool| view.policy.models.get(&pool.name));
        let mut scopes = Scopes::one(claimed.caller);
        let gate = view.policy.gate.as_ref().map(|(scope, _)| *scope);
        for scope in [team.map(|team| team.scope), held.map(|held| held.scope), gate].into_iter().flatten() {
            // Four at most, and there is room for six.
            let _ = scopes.push(scope);
        }
        Reservation {
            id: claimed.id,
            uid: None,
            scopes,
            caller: CallerName::new(key.map_or("", |key| &key.name)),
            user: None,
            team: team.map(|team| team.name.clone()),
            model: pool.map(|pool| pool.name.clone()),
            endpoint: Endpoint::V1ChatCompletions,
            stream: true,
            server: None,
            pool: claimed.model,
            opened_ns: 0,
            opened_unix_ms: claimed.unix_s.saturating_mul(1000),
            tokens: claimed.tokens,
            cost: held.map(|held| held.cost).unwrap_or_default(),
            written: RequestShape::default(),
        }
    }

    /// Ends slots that are too old, and publishes the state of the ledger. Called every second.
    pub fn expire(&self) -> LedgerStanding {
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
