//! The books kept in this process's memory, shared by all connections.

use super::account::{LimitExcess, Standings};
use super::books::{Admission, Books, EXPIRED_AT_ONCE, SettleOutcome};
use super::calendar::{Day, Today};
use super::plan::{Application, Denial, Placement, Planned, Turn};
use super::reservation::{Evidence, ProxyUid, Record, Reservation};
use crate::decision::fleet::choose::Load;
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Accounts, Scope};
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::ledger::tokens::estimate::{Calibration, Comparison, Witness};
use crate::ledger::tokens::observed::ObservedUsage;
use jiff::tz::TimeZone;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One lock around all books. Taking all limits or none over several shards would need them locked in order; a claim
/// holds this lock for some hundred nanoseconds and never across an await, which one lock serves at any rate HAProxy
/// can ask.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    books: Mutex<Books>,
}

/// The state of the books, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerStanding {
    /// Requests in flight.
    pub open: usize,
    /// Whether usage lines have stopped coming while requests are granted.
    pub silent: bool,
    /// Whether the wall clock has jumped forward and is not believed yet.
    pub clock_in_doubt: bool,
    /// Thousandths of a token reserved for requests in flight.
    pub reserved: u64,
}

impl MemoryLedger {
    /// Takes every limit of a claim or none, chooses its server by what is in flight, and opens its slot: one step
    /// under the lock, so that requests decided at once see each other. Where all servers are full and the claim may
    /// wait, it waits.
    ///
    /// # Errors
    /// [`Denial`]; the books are then as before.
    pub fn take<'v>(&self, asks: &Application<'_, 'v, '_, impl Load>, now: Moment) -> Result<Turn<'v>, Denial> {
        let mut books = self.lock();
        let draft = books.draft(asks)?;
        let reserves = asks.claim.demand.cost.of(draft.tokens);
        let admission = books.admit(&draft.accounts, reserves, draft.pool, now).map_err(Denial::Excess)?;
        let choice = match books.place(asks, admission.turn) {
            Ok(choice) => choice,
            Err(refusal) => {
                books.release(&draft.accounts);
                return Err(Denial::NoServer(refusal));
            }
        };
        if draft.accounts.is_empty() {
            let unmetered = |choice| Turn::Now(Placement { choice, reservation: None, shadowed: None });
            return choice.map(unmetered).ok_or(Denial::NoServer(Refusal::new(Reason::NoServer)));
        }
        let reservation = draft.reservation(asks, now);
        Ok(books.commit(asks, reservation, choice, &admission, &draft.accounts, now))
    }

    /// Chooses the server of a claim that a shared store admits, or finds that it must wait, and states what it would
    /// reserve. Takes nothing but its turn.
    ///
    /// # Errors
    /// [`Denial`] where no server can take it, or it is shed.
    pub fn plan<'v>(&self, asks: &Application<'_, 'v, 'v, impl Load>, now: Moment) -> Result<Planned<'v>, Denial> {
        self.lock().plan(asks, now)
    }

    /// Opens the slot of a claim that a shared store admitted.
    ///
    /// While the store was asked, others were granted: the server is chosen again, and where none has room any more, the
    /// claim waits.
    pub fn commit<'v>(
        &self,
        asks: &Application<'_, 'v, '_, impl Load>,
        planned: Planned<'v>,
        standings: Standings,
        shadowed: Option<LimitExcess>,
        now: Moment,
    ) -> Turn<'v> {
        let mut books = self.lock();
        let admission = Admission { standings, shadowed, turn: planned.turn() };
        let again = books.place(asks, admission.turn);
        let (reservation, choice) = planned.into_parts();
        // A claim that was to wait goes on to wait: those before it have not been served. A server that has gone is found
        // gone by the proxy.
        let choice = choice.and_then(|planned| again.unwrap_or(Some(planned)));
        // The rates are the store's: here is nothing of them to give back.
        books.commit(asks, reservation, choice, &admission, &Accounts::default(), now)
    }

    /// Learns what deep checks measured of answers. Returns how estimates and exact figures compare, by witness, then
    /// of whole answers and of streams.
    pub fn calibrate(&self, measured: &[Calibration]) -> [[Comparison; 2]; Witness::ALL.len()] {
        let mut books = self.lock();
        measured.iter().for_each(|found| books.learned_mut().calibrate(found));
        Witness::ALL.map(|witness| [false, true].map(|stream| books.learned().compared(witness, stream)))
    }

    /// Returns the bytes that a token has; see
    /// [`Estimates::ratios`](crate::ledger::tokens::estimate::Estimates::ratios).
    pub fn bytes_per_token(&self, pool: PoolKey) -> Option<(f64, f64)> {
        self.lock().learned().ratios(pool)
    }

    /// Settles a request by its receipt. See [`Books::settle`].
    pub fn settle(&self, id: u128, seen: &ObservedUsage, now: Moment) -> SettleOutcome {
        self.lock().settle(id, seen, now)
    }

    /// Charges a request of which only its receipt is known. See [`Books::charge_orphan`].
    pub fn charge_orphan(&self, taken: Reservation, seen: &ObservedUsage, now: Moment) -> Record {
        self.lock().charge_orphan(taken, seen, now)
    }

    /// Ends a request whose verdict never arrived. See [`Books::ended_unheard`].
    pub fn ended_unheard(&self, uid: ProxyUid, now: Moment) -> SettleOutcome {
        self.lock().ended_unheard(uid, now)
    }

    /// Ends requests that are too old. Returns how many, the records of all that ended so since the last call, and the
    /// state of the books after it.
    pub fn expire(&self, now: Moment) -> (usize, Vec<Record>, LedgerStanding) {
        // Little by little, so that no decision waits for all of it.
        while self.lock().expire_some(EXPIRED_AT_ONCE, now) {}
        let mut books = self.lock();
        let expired = books.take_expired_count();
        let standing = LedgerStanding {
            open: books.slots().len(),
            silent: books.is_silent(now),
            clock_in_doubt: books.is_clock_in_doubt(),
            reserved: books.slots().reserved(),
        };
        (expired, books.take_expired(), standing)
    }

    /// Restores what an earlier process left behind: the requests in flight, the charges of each scope by day, and how
    /// requests had ended.
    pub fn restore(
        &self,
        open: Vec<Reservation>,
        charged: impl Iterator<Item = (Scope, Day, u64)>,
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
    pub fn retain_pools(&self, exists: impl Fn(PoolKey) -> bool) {
        self.lock().retain_pools(exists);
    }

    /// Forgets the users of keys that no longer exist.
    pub fn retain_keys(&self, exists: impl Fn(Scope) -> bool) {
        self.lock().retain_keys(exists);
    }

    /// Ends a request that is charged elsewhere. See [`Books::ended_elsewhere`].
    pub fn ended_elsewhere(&self, id: u128, now: Moment) -> bool {
        self.lock().ended_elsewhere(id, now)
    }

    /// Returns the record of a request that another herdgate granted, by its line or without one. Charges nothing here.
    pub fn foreign(&self, taken: Reservation, seen: Option<&ObservedUsage>, now: Moment) -> Record {
        self.lock().foreign(taken, seen, now)
    }

    /// Returns the calendar's day and month.
    pub fn today(&self, now: Moment) -> Today {
        self.lock().today(now)
    }

    /// Adds a guess of when to come back, where nothing better is known.
    pub fn with_guess(&self, excess: LimitExcess) -> LimitExcess {
        self.lock().with_guess(excess)
    }

    /// Returns the requests in flight from here, by server and pool.
    pub fn lanes(&self) -> Vec<((ServerKey, Option<PoolKey>), u32)> {
        self.lock().slots().pairs().collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        // Poisoned only by a panic inside the arithmetic, of which each step leaves the maps whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
