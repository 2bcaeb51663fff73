//! What this process's books still do where the limits are in a shared store: they know what is on its way from here, choose
//! its server, and hold it until its end.

use super::account::Excess;
use super::calendar::Today;
use super::charge::Observed;
use super::memory::{Asked, MemoryLedger};
use super::reservation::{Name, Record, Reservation, Written};
use crate::decision::choose::{Choice, Load, choose};
use crate::decision::judge::Claim;
use crate::decision::limits::{Accounts, User};
use crate::decision::moment::Moment;
use crate::decision::policy::ServerKind;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use std::sync::Arc;

/// What a claim would take, before anybody was asked whether it may.
#[derive(Debug, Clone)]
pub struct Planned<'v> {
    /// The books it is counted in.
    pub accounts: Accounts<'v>,
    /// Its server.
    pub choice: Choice<'v>,
    /// What it would hold.
    pub reservation: Reservation,
    /// The calendar.
    pub today: Today,
}

impl MemoryLedger {
    /// Chooses a claim's server by what is on its way here and `elsewhere`, and writes down what it would hold. Takes
    /// nothing but its turn.
    ///
    /// # Errors
    /// Where no server can take it.
    pub fn plan<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        asked: &Asked<'_>,
        elsewhere: &impl Load,
        now: Moment,
    ) -> Result<Planned<'v>, Refusal> {
        let mut books = self.lock();
        let pool_key = claim.pool.map_or(0, |pool| pool.key);
        let mut accounts = claim.accounts;
        if let Some(user) = &claim.user {
            accounts.move_scope(user.scope, books.scope_of(user));
        }
        let (tokens_in, tokens_out) = books.learned().expected(pool_key, &claim.demand);
        let turn = books.turn(pool_key);
        let choice = choose(view, claim, turn, &Sum { here: &*books, elsewhere }, None, None)?;
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
            server: choice.server_key,
            pool: pool_key,
            opened_ns: now.mono_ns,
            opened_unix_ms: now.unix_ms,
            tokens_in,
            tokens_out,
            cost: claim.demand.cost,
            written: Written { openai: choice.grant.server.kind == ServerKind::OpenAi, ..claim.demand.written },
        };
        let today = books.today(now);
        Ok(Planned { accounts, choice, reservation, today })
    }

    /// Holds what was granted. False where it has ended already: its verdict never arrived.
    pub fn hold(&self, taken: Reservation, user: Option<&User>, name: &[u8], now: Moment) -> bool {
        let mut books = self.lock();
        if let Some(user) = user {
            books.note_user(user, name, now);
        }
        books.open(taken)
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
