//! The books kept in this process's memory, shared by all connections.

use super::account::{Excess, Standings};
use super::books::{Books, EXPIRED_AT_ONCE, Ended};
use super::hold::{Held, NOWHERE};
use super::reservation::{Evidence, Name, Record, Reservation, Written};
use crate::decision::fleet::choose::{Choice, choose};
use crate::decision::judge::Claim;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Accounts, Scope};
use crate::decision::plan::server::ServerKind;
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use crate::ledger::tokens::charge::Observed;
use crate::ledger::tokens::estimate::{Calibration, Compared, Witness};
use jiff::tz::TimeZone;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One lock around all books. Taking all limits or none over several shards would need them locked in order; a claim holds
/// this lock for some hundred nanoseconds and never across an await, which one lock serves at any rate HAProxy can ask.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    books: Mutex<Books>,
}

/// Why a claim got no server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It was over a limit.
    Excess(Excess),
    /// Of low priority, while the expected wait is long; nothing was charged.
    Shed {
        /// Nanoseconds until it will probably be short enough.
        retry_ns: u64,
    },
    /// No server can take it; nothing was charged.
    NoServer(Refusal),
}

/// What identifies a request to the ledger, and whom it is written down for.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The decision's id.
    pub id: u128,
    /// The proxy's identifier, hashed; 0 where there is none.
    pub uid: u64,
    /// The key's name, the issuer, or `anonymous`.
    pub caller: &'a str,
    /// The user a key asks for, by name.
    pub user: &'a [u8],
    /// The user a token names.
    pub token_user: Option<Arc<str>>,
    /// The team.
    pub team: Option<Arc<str>>,
}

/// A claim that was taken.
#[derive(Debug, Clone)]
pub struct Taken<'v> {
    /// Its server.
    pub choice: Choice<'v>,
    /// What it holds, where it is metered, to be written down.
    pub reservation: Option<Reservation>,
    /// What would have refused it, were it not a shadow.
    pub shadowed: Option<Excess>,
}

/// What a claim got.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "one a request, and the large one is the common one")]
pub enum Turn<'v> {
    /// A server.
    Now(Taken<'v>),
    /// A place among those that wait, see [`super::hold`].
    Later(Box<Held>),
}

/// How the books stand, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests on their way.
    pub open: usize,
    /// Whether usage lines have stopped coming while requests are granted.
    pub silent: bool,
    /// Whether the wall clock has jumped forward and is not believed yet.
    pub clock_in_doubt: bool,
    /// Thousandths of a token held for requests on their way.
    pub reserved: u64,
}

impl MemoryLedger {
    /// Takes every limit of a claim or none, chooses its server by what is on its way, and opens its slot: one step under
    /// the lock, so that requests decided at once see each other.
    ///
    /// Where all servers are full and the claim `may_wait`, it is held.
    ///
    /// # Errors
    /// [`Denied`]; the books are then as before.
    pub fn take<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        asked: Asked<'_>,
        may_wait: bool,
        now: Moment,
    ) -> Result<Turn<'v>, Denied> {
        self.take_by(view, claim, &claim.accounts, asked, may_wait, now)
    }

    /// The same by other terms than the claim's own.
    ///
    /// # Errors
    /// As [`MemoryLedger::take`].
    pub fn take_by<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        accounts: &Accounts<'_>,
        asked: Asked<'_>,
        may_wait: bool,
        now: Moment,
    ) -> Result<Turn<'v>, Denied> {
        let mut books = self.lock();
        if let Some(retry_ns) = books.sheds(view, claim) {
            return Err(Denied::Shed { retry_ns });
        }
        let pool_key = claim.pool.map_or(0, |pool| pool.key);
        let mut accounts = accounts;
        let mut moved;
        if let Some(user) = &claim.user {
            let scope = books.scope_of(user);
            if scope != user.scope {
                moved = *accounts;
                moved.move_scope(user.scope, scope);
                accounts = &moved;
            }
        }
        let (tokens_in, tokens_out) = books.learned().expected(pool_key, &claim.demand, claim.room());
        let held = claim.demand.cost.of(tokens_in, tokens_out);
        let admission = books.admit(accounts, held, pool_key, now).map_err(Denied::Excess)?;
        let Standings { requests, tokens } = admission.standings;
        let mut choice = match choose(view, claim, admission.turn, &*books, requests, tokens) {
            _ if may_wait && books.must_wait(view, claim) => None,
            Ok(choice) => Some(choice),
            Err(refusal) => {
                books.release(accounts);
                return Err(Denied::NoServer(refusal));
            }
        };
        let Some(caller) = accounts.iter().next().map(|account| account.scope) else {
            let free = |choice| Turn::Now(Taken { choice, reservation: None, shadowed: None });
            return choice.map(free).ok_or(Denied::NoServer(Refusal::new(Reason::NoServer)));
        };
        if let Some(choice) = &mut choice {
            books.join(choice, caller, asked.id, claim.priority, now);
        }
        let user = match &claim.user {
            Some(user) => books.note_user(user, asked.user, now),
            None => asked.token_user,
        };
        let reservation = Reservation {
            id: asked.id,
            uid: asked.uid,
            scopes: accounts.scopes(),
            caller: Name::new(asked.caller),
            user,
            team: asked.team,
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
        let Some(choice) = choice else {
            return Ok(Turn::Later(Box::new(books.hold(reservation, accounts, &admission, claim.priority, now))));
        };
        let is_held = books.open(reservation.clone());
        let reservation = is_held.then_some(reservation);
        Ok(Turn::Now(Taken { choice, reservation, shadowed: admission.shadowed }))
    }

    /// Learns what deep checks measured of answers; answers how estimates and exact figures compare, by witness, then of
    /// whole answers and of streams.
    pub fn calibrate(&self, measured: &[Calibration]) -> [[Compared; 2]; Witness::ALL.len()] {
        let mut books = self.lock();
        measured.iter().for_each(|found| books.learned_mut().calibrate(found));
        Witness::ALL.map(|witness| [false, true].map(|stream| books.learned().compared(witness, stream)))
    }

    /// See [`Estimates::ratios`](crate::ledger::tokens::estimate::Estimates::ratios).
    pub fn bytes_per_token(&self, pool_key: u64) -> Option<(f64, f64)> {
        self.lock().learned().ratios(pool_key)
    }

    /// A request has ended, by its receipt. See [`Books::settle`].
    pub fn settle(&self, id: u128, seen: &Observed, now: Moment) -> Ended {
        self.lock().settle(id, seen, now)
    }

    /// A request of which nothing is known but its receipt has ended. See [`Books::charge_orphan`].
    pub fn charge_orphan(&self, taken: Reservation, seen: &Observed, now: Moment) -> Record {
        self.lock().charge_orphan(taken, seen, now)
    }

    /// A request has ended whose verdict never arrived. See [`Books::ended_unheard`].
    pub fn ended_unheard(&self, uid: u64, now: Moment) -> Ended {
        self.lock().ended_unheard(uid, now)
    }

    /// Ends what is too old; answers how many, what is to be written down of all that ended so since the last call, and
    /// how the books stand then.
    pub fn expire(&self, now: Moment) -> (usize, Vec<Record>, Standing) {
        // Little by little, so that no decision waits for all of it.
        while self.lock().expire_some(EXPIRED_AT_ONCE, now) {}
        let mut books = self.lock();
        let expired = books.take_expired_count();
        let standing = Standing {
            open: books.slots().len(),
            silent: books.is_silent(now),
            clock_in_doubt: books.is_clock_in_doubt(),
            reserved: books.slots().held(),
        };
        (expired, books.take_expired(), standing)
    }

    /// Takes over what an earlier process left behind: what was open, what was charged to whom on which day, and what had
    /// ended.
    pub fn restore(
        &self,
        open: Vec<Reservation>,
        charged: impl Iterator<Item = (Scope, i32, u64)>,
        done: impl Iterator<Item = (u128, Evidence)>,
        now: Moment,
    ) {
        let mut books = self.lock();
        charged.for_each(|(scope, day, amount)| books.restore_charge(scope, day, amount, now));
        done.for_each(|(id, evidence)| books.restore_done(id, evidence));
        books.restore_open(open, now);
    }

    /// Changes how long a slot may stay open.
    pub fn set_max_stream_ns(&self, max_stream_ns: u64) {
        self.lock().set_max_stream_ns(max_stream_ns);
    }

    /// Changes the time zone of days and months.
    pub fn set_zone(&self, zone: TimeZone) {
        self.lock().set_zone(zone);
    }

    /// Forgets the turns of pools that no longer exist.
    pub fn retain_pools(&self, exists: impl Fn(u64) -> bool) {
        self.lock().retain_pools(exists);
    }

    /// Forgets the users of keys that no longer exist.
    pub fn retain_keys(&self, exists: impl Fn(Scope) -> bool) {
        self.lock().retain_keys(exists);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        // Poisoned only by a panic inside the arithmetic, of which each step leaves the maps whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
