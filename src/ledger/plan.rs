//! The way from a claim to its reservation: the limits it would take, the server it would get, and how both become its
//! own.
//!
//! There is one way for limits kept here and for limits in a shared store. Here a claim is drafted, admitted, placed
//! and committed under one lock ([`MemoryLedger::take`](super::memory::MemoryLedger::take)). Where a store admits, the
//! claim is drafted and placed first (`MemoryLedger::plan`), because the store is told what would be reserved, and is placed
//! again when it commits: while the store was asked, others were granted.

use super::account::{LimitExcess, Standings};
use super::books::{Admission, Books};
use super::calendar::Today;
use super::hold::WaitingClaim;
use super::reservation::{CallerName, ProxyUid, Reservation, Tokens};
use crate::decision::fleet::choose::{Choice, Load, choose};
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use crate::decision::judge::Claim;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Accounts;
use crate::decision::plan::server::ServerKind;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use std::sync::Arc;

/// Why a claim got no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The claim was over a limit.
    Excess(LimitExcess),
    /// The claim has low priority and the expected wait is long; nothing was charged.
    Shed {
        /// Nanoseconds until the wait will probably be short enough.
        retry_ns: u64,
    },
    /// No server can take the claim; nothing was charged.
    NoServer(Refusal),
}

/// The request's identity in the ledger, and the names it is recorded for.
#[derive(Debug, Clone)]
pub struct Requester<'a> {
    /// The decision's id.
    pub id: u128,
    /// The proxy's identifier; absent where it sent none.
    pub uid: Option<ProxyUid>,
    /// The key's name, the issuer, or `anonymous`.
    pub caller: &'a str,
    /// The user a key asks for, by name.
    pub user: &'a [u8],
    /// The user a token names.
    pub token_user: Option<Arc<str>>,
    /// The team.
    pub team: Option<Arc<str>>,
}

/// A claim as it is put to the ledger.
pub struct Application<'a, 'v, 't, L> {
    /// The view it was judged on.
    pub view: &'v View,
    /// The claim.
    pub claim: &'a Claim<'v>,
    /// The accounts and terms that bind it: the claim's own, or this herdgate's fraction of them.
    pub accounts: &'a Accounts<'t>,
    /// The request's identity, and whom it is recorded for.
    pub requester: &'a Requester<'a>,
    /// Whether the claim may wait for a server.
    pub may_wait: bool,
    /// What other herdgates have in flight.
    pub elsewhere: &'a L,
}

/// No other herdgate has anything in flight.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Load for Nobody {
    fn in_flight(&self, _: ServerKey, _: Option<PoolKey>) -> u32 {
        0
    }

    fn in_flight_in_all(&self, _: ServerKey) -> u32 {
        0
    }
}

/// A claim that has its server.
#[derive(Debug, Clone)]
pub struct Placement<'v> {
    /// Its server.
    pub choice: Choice<'v>,
    /// Its reservation, to be recorded; absent where the claim is not metered.
    pub reservation: Option<Reservation>,
    /// The limit that would have refused it, were it not a shadow.
    pub shadowed: Option<LimitExcess>,
}

/// The outcome of a claim that no limit refused.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one a request, and the large one is the common one")]
pub enum Turn<'v> {
    /// A server.
    Now(Placement<'v>),
    /// A place among the claims that wait, see [`super::hold`].
    Later(Box<WaitingClaim>),
}

/// The limits and the server that a claim would take, before anybody was asked whether it may.
#[derive(Debug, Clone)]
pub struct Planned<'v> {
    /// The accounts it is counted in.
    pub accounts: Accounts<'v>,
    /// What it would reserve.
    pub reservation: Reservation,
    /// The calendar.
    pub today: Today,
    /// Its server; absent where it would wait.
    choice: Option<Choice<'v>>,
    turn: u64,
}

/// A claim whose accounts are found and whose tokens are estimated.
pub(super) struct Draft<'a> {
    pub accounts: Accounts<'a>,
    pub pool: Option<PoolKey>,
    pub tokens: Tokens,
}

impl Books {
    /// Finds a claim's accounts and estimates its tokens. Changes nothing.
    ///
    /// # Errors
    /// [`Denial::Shed`].
    pub(super) fn draft<'t>(&self, asks: &Application<'_, '_, 't, impl Load>) -> Result<Draft<'t>, Denial> {
        let claim = asks.claim;
        if let Some(retry_ns) = self.sheds(asks.view, claim) {
            return Err(Denial::Shed { retry_ns });
        }
        let mut accounts = *asks.accounts;
        if let Some(user) = &claim.user {
            accounts.move_scope(user.scope, self.scope_of(user));
        }
        let pool = claim.pool.map(|pool| pool.key);
        let tokens = self.learned().expected(pool, &claim.demand, claim.room());
        Ok(Draft { accounts, pool, tokens })
    }

    /// Chooses a claim's server by what is in flight here and elsewhere; `None` where it must wait.
    ///
    /// # Errors
    /// The refusal where no server can take it.
    pub(super) fn place<'v>(
        &self,
        asks: &Application<'_, 'v, '_, impl Load>,
        turn: u64,
    ) -> Result<Option<Choice<'v>>, Refusal> {
        if asks.may_wait && self.must_wait(asks.view, asks.claim) {
            return Ok(None);
        }
        choose(asks.view, asks.claim, turn, &Sum { here: self, elsewhere: asks.elsewhere }).map(Some)
    }

    /// Drafts and places a claim that a shared store admits. Takes nothing but its turn.
    ///
    /// # Errors
    /// [`Denial`], but no excess.
    pub(super) fn plan<'v>(
        &mut self,
        asks: &Application<'_, 'v, 'v, impl Load>,
        now: Moment,
    ) -> Result<Planned<'v>, Denial> {
        let draft = self.draft(asks)?;
        let turn = self.turn(draft.pool);
        let choice = self.place(asks, turn).map_err(Denial::NoServer)?;
        let mut reservation = draft.reservation(asks, now);
        reservation.go_to(choice.as_ref());
        if let Some(user) = &asks.claim.user {
            reservation.user = self.user_name(user, asks.requester.user);
        }
        Ok(Planned { accounts: draft.accounts, reservation, today: self.today(now), choice, turn })
    }

    /// Commits a claim that was admitted: opens its slot at its server, or gives it a place among those that wait,
    /// which remembers the `rates` it took from. The placement has no reservation where the request has ended already,
    /// because its verdict never arrived.
    pub(super) fn commit<'v>(
        &mut self,
        asks: &Application<'_, 'v, '_, impl Load>,
        mut reservation: Reservation,
        choice: Option<Choice<'v>>,
        admission: &Admission,
        rates: &Accounts<'_>,
        now: Moment,
    ) -> Turn<'v> {
        let claim = asks.claim;
        if let Some(user) = &claim.user {
            reservation.user = self.note_user(user, asks.requester.user, now);
        }
        reservation.go_to(choice.as_ref());
        let Some(mut choice) = choice else {
            return Turn::Later(Box::new(self.hold(reservation, rates, admission, claim.priority, now)));
        };
        self.join(&mut choice, reservation.holder(), reservation.id, claim.priority, now);
        let Standings { requests, tokens } = admission.standings;
        (choice.grant.requests, choice.grant.tokens) = (requests, tokens);
        let is_held = self.open(reservation.clone());
        Turn::Now(Placement { choice, reservation: is_held.then_some(reservation), shadowed: admission.shadowed })
    }
}

impl Planned<'_> {
    /// Returns the claim's turn in the rotation of its pool, for a second look.
    pub(super) fn turn(&self) -> u64 {
        self.turn
    }
}

impl<'v> Planned<'v> {
    /// Returns the parts that are committed.
    pub(super) fn into_parts(self) -> (Reservation, Option<Choice<'v>>) {
        (self.reservation, self.choice)
    }
}

impl Draft<'_> {
    /// Returns the reservation of a claim that has no server yet.
    pub(super) fn reservation(&self, asks: &Application<'_, '_, '_, impl Load>, now: Moment) -> Reservation {
        let (claim, requester) = (asks.claim, asks.requester);
        Reservation {
            id: requester.id,
            uid: requester.uid,
            scopes: self.accounts.scopes(),
            caller: CallerName::new(requester.caller),
            user: requester.token_user.clone().filter(|_| claim.user.is_none()),
            team: requester.team.clone(),
            model: claim.pool.map(|pool| pool.name.clone()),
            endpoint: claim.endpoint,
            stream: claim.demand.stream,
            server: None,
            pool: self.pool,
            opened_ns: now.mono_ns,
            opened_unix_ms: now.unix_ms,
            tokens: self.tokens,
            cost: claim.demand.cost,
            written: claim.demand.written,
        }
    }
}

impl Reservation {
    /// Names the server to which the request goes, if it has one.
    fn go_to(&mut self, choice: Option<&Choice<'_>>) {
        self.server = choice.map(|choice| choice.server_key);
        self.written.openai = choice.is_some_and(|choice| choice.grant.server.kind == ServerKind::OpenAi);
    }
}

/// The requests in flight here and elsewhere.
struct Sum<'l, H, E> {
    here: &'l H,
    elsewhere: &'l E,
}

impl<H: Load, E: Load> Load for Sum<'_, H, E> {
    fn in_flight(&self, server: ServerKey, pool: Option<PoolKey>) -> u32 {
        self.here.in_flight(server, pool).saturating_add(self.elsewhere.in_flight(server, pool))
    }

    fn in_flight_in_all(&self, server: ServerKey) -> u32 {
        self.here.in_flight_in_all(server).saturating_add(self.elsewhere.in_flight_in_all(server))
    }
}
