//! What this process's books still do where the limits are in a shared store: they know what is on its way from here, choose
//! its server, and hold it until its end.

use super::account::{Excess, Standings};
use super::books::Admission;
use super::calendar::Today;
use super::hold::NOWHERE;
use super::memory::{Asked, Denied, MemoryLedger, Taken, Turn};
use super::reservation::{Name, Record, Reservation, Written};
use crate::decision::fleet::choose::{Choice, Load, choose};
use crate::decision::judge::Claim;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Accounts, Scope};
use crate::decision::plan::server::ServerKind;
use crate::decision::view::View;
use crate::ledger::tokens::charge::Observed;
use std::sync::Arc;

/// What a claim would take, before anybody was asked whether it may.
#[derive(Debug, Clone)]
pub struct Planned<'v> {
    /// The books it is counted in.
    pub accounts: Accounts<'v>,
    /// What it would hold.
    pub reservation: Reservation,
    /// The calendar.
    pub today: Today,
    /// Its server; absent where it would wait.
    choice: Option<Choice<'v>>,
    turn: u64,
}

/// What a planned claim is held by.
pub struct Planning<'a, 'v, L> {
    /// What it was judged on.
    pub view: &'v View,
    /// The claim.
    pub claim: &'a Claim<'v>,
    /// The user a key asks for, by name.
    pub user: &'a [u8],
    /// Whether it may wait for a server.
    pub may_wait: bool,
    /// What other herdgates have on their way.
    pub elsewhere: &'a L,
}

impl MemoryLedger {
    /// Chooses a claim's server by what is on its way here and `elsewhere`, or finds that it must wait, and writes down what
    /// it would hold. Takes nothing but its turn.
    ///
    /// # Errors
    /// Where no server can take it, or it is shed.
    pub fn plan<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        asked: &Asked<'_>,
        may_wait: bool,
        elsewhere: &impl Load,
        now: Moment,
    ) -> Result<Planned<'v>, Denied> {
        let mut books = self.lock();
        if let Some(retry_ns) = books.sheds(view, claim) {
            return Err(Denied::Shed { retry_ns });
        }
        let pool_key = claim.pool.map_or(0, |pool| pool.key);
        let mut accounts = claim.accounts;
        if let Some(user) = &claim.user {
            accounts.move_scope(user.scope, books.scope_of(user));
        }
        let (tokens_in, tokens_out) = books.learned().expected(pool_key, &claim.demand, claim.room());
        let turn = books.turn(pool_key);
        let choice = match may_wait && books.must_wait(view, claim) {
            true => None,
            false => {
                let load = Sum { here: &*books, elsewhere };
                Some(choose(view, claim, turn, &load, None, None).map_err(Denied::NoServer)?)
            }
        };
        let user = match &claim.user {
            Some(user) if user.scope != user.shared => Some(Arc::from(String::from_utf8_lossy(asked.user))),
            Some(_) => None,
            None => asked.token_user.clone(),
        };
        let reservation = Reservation {
            id: asked.id,
            uid: asked.uid,
            scopes: accounts.scopes(),
            caller: Name::new(asked.caller),
            user,
            team: asked.team.clone(),
            model: claim.pool.map(|pool| pool.name.clone()),
            endpoint: claim.endpoint,
            stream: claim.demand.stream,
            server: choice.as_ref().map_or(NOWHERE, |choice| choice.server_key),
            pool: pool_key,
            opened_ns: now.mono_ns,
            opened_unix_ms: now.unix_ms,
            tokens_in,
            tokens_out,
            cost: claim.demand.cost,
            written: Written {
                openai: choice.as_ref().is_some_and(|choice| choice.grant.server.kind == ServerKind::OpenAi),
                ..claim.demand.written
            },
        };
        let today = books.today(now);
        Ok(Planned { accounts, reservation, today, choice, turn })
    }

    /// Holds what was granted; without a reservation where it has ended already, because its verdict never arrived.
    ///
    /// While the store was asked, others were granted: the server is chosen again, and where none has room any more, it waits.
    pub fn hold_planned<'v, L: Load>(
        &self,
        planned: Planned<'v>,
        asked: Planning<'_, 'v, L>,
        standings: Standings,
        shadowed: Option<Excess>,
        now: Moment,
    ) -> Turn<'v> {
        let Planned { mut reservation, choice, turn, .. } = planned;
        let Planning { view, claim, user, may_wait, elsewhere } = asked;
        let mut books = self.lock();
        let choice = match may_wait && books.must_wait(view, claim) {
            true => None,
            false => choice.map(|planned| {
                let load = Sum { here: &*books, elsewhere };
                choose(view, claim, turn, &load, None, None).unwrap_or(planned)
            }),
        };
        reservation.server = choice.as_ref().map_or(NOWHERE, |choice| choice.server_key);
        reservation.written.openai =
            choice.as_ref().is_some_and(|choice| choice.grant.server.kind == ServerKind::OpenAi);
        if let Some(of_claim) = &claim.user {
            books.note_user(of_claim, user, now);
        }
        let Some(mut choice) = choice else {
            // The rates are the store's: here is nothing of them to give back.
            let admission = Admission { standings, shadowed, turn };
            return Turn::Later(Box::new(books.hold(
                reservation,
                &Accounts::default(),
                &admission,
                claim.priority,
                now,
            )));
        };
        let caller = reservation.scopes.iter().next().unwrap_or(Scope(0));
        books.join(&mut choice, caller, reservation.id, claim.priority, now);
        (choice.grant.requests, choice.grant.tokens) = (standings.requests, standings.tokens);
        let is_held = books.open(reservation.clone());
        Turn::Now(Taken { choice, reservation: is_held.then_some(reservation), shadowed })
    }

    /// Lets go what a request held whose end is charged elsewhere. Answers whether it was on its way.
    pub fn ended_elsewhere(&self, id: u128, now: Moment) -> bool {
        self.lock().ended_elsewhere(id, now)
    }

    /// What a request that another herdgate granted came to, by its line or by none. Charges nothing here.
    pub fn foreign(&self, taken: Reservation, seen: Option<&Observed>, now: Moment) -> Record {
        self.lock().foreign(taken, seen, now)
    }

    /// The calendar's day and month.
    pub fn today(&self, now: Moment) -> Today {
        self.lock().today(now)
    }

    /// An excess with a guess of when to come back, where nothing better is known.
    pub fn with_guess(&self, excess: Excess) -> Excess {
        self.lock().with_guess(excess)
    }

    /// What is on its way from here, by server and pool.
    pub fn lanes(&self) -> Vec<((u64, u64), u32)> {
        self.lock().slots().pairs().collect()
    }
}

/// What is on its way here and elsewhere.
struct Sum<'l, H, E> {
    here: &'l H,
    elsewhere: &'l E,
}

impl<H: Load, E: Load> Load for Sum<'_, H, E> {
    fn on_their_way(&self, server_key: u64, pool_key: u64) -> u32 {
        let here = self.here.on_their_way(server_key, pool_key);
        here.saturating_add(self.elsewhere.on_their_way(server_key, pool_key))
    }

    fn on_their_way_in_all(&self, server_key: u64) -> u32 {
        self.here.on_their_way_in_all(server_key).saturating_add(self.elsewhere.on_their_way_in_all(server_key))
    }
}
