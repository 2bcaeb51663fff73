//! The books: they take all limits of a claim or none, keep its reservation until the request ends, and charge what it
//! used. Pure: integers and the moment handed in.

use super::account::{AccountBooks, ExhaustedLimit, LimitExcess, Rates, Standings};
use super::calendar::{Calendar, Day, Today};
use super::done::Done;
use super::durations::Durations;
use super::reservation::{Evidence, ProxyUid, Record, Reservation, Tokens};
use super::silence::Silence;
use super::slots::Slots;
use super::users::Users;
use super::waits::Waits;
use crate::decision::fleet::choose::Load;
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Accounts, SCOPES_MAX, Scope, Scopes, UserScopes, Window};
use crate::ledger::fair_queue::FairQueue;
use crate::ledger::tokens::charge::figures;
use crate::ledger::tokens::estimate::Estimates;
use crate::ledger::tokens::observed::{Figures, ObservedUsage};
use foldhash::fast::RandomState;
use jiff::tz::TimeZone;
use std::collections::HashMap;
use std::sync::Arc;

/// What a claim that was admitted is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The tightest limits after this request.
    pub standings: Standings,
    /// The limit that would have refused the claim, were it not a shadow.
    pub shadowed: Option<LimitExcess>,
    /// The claim's turn in the rotation of its pool.
    pub turn: u64,
}

/// The duration assumed of a request before any has ended, in nanoseconds: a long answer of a slow model.
const UNLEARNED_NS: u64 = 60_000_000_000;

/// Entries past which stale ones are looked for; the number doubles while they are all live.
const SWEEP_FROM: usize = 4096;

/// Most slots that one decision ends because their time is over.
pub const EXPIRED_AT_ONCE: usize = 64;

/// Most records that wait to be fetched. They are fetched every second.
const EXPIRED_MAX: usize = 65_536;

/// All counters in memory.
#[derive(Debug)]
pub struct Books {
    /// Hashed with a seed, as is all that is keyed by names: clients can choose the names of users and networks, and
    /// could choose many that meet in one bucket. SipHash would be a third of the time that `admit` takes.
    accounts: HashMap<Scope, AccountBooks, RandomState>,
    /// The turns that each pool has taken. Bounded by the models that the fleet ever listed, see
    /// [`Books::retain_pools`].
    turns: HashMap<Option<PoolKey>, u64, RandomState>,
    sweep_at: usize,
    pub(super) slots: Slots,
    users: Users,
    done: Done,
    durations: Durations,
    learned: Estimates,
    silence: Silence,
    calendar: Calendar,
    /// Records of requests that ended without a usage line, until they are fetched.
    expired: Vec<Record>,
    /// The number of requests that ended so.
    expired_count: usize,
    /// Nanoseconds after which a slot ends though no usage line came (`[ledger] max_stream`).
    max_stream_ns: u64,
    /// How much of each server each caller has had.
    pub(super) shares: FairQueue,
    /// How long servers take.
    pub(super) waits: Waits,
    /// When usage lines came again after they had stopped: some lines of requests granted before that are lost for
    /// ever.
    heard_again: Moment,
}

impl Default for Books {
    fn default() -> Books {
        Books::new(3_600_000_000_000)
    }
}

/// The effect of a usage line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// The request was in flight, and is charged.
    Settled(Box<Record>),
    /// The request had ended without a line, and its charge is corrected now.
    Corrected(Box<Record>),
    /// The request was in flight, and its verdict never arrived: it is not charged. Its id, and the scopes it was
    /// counted in.
    Released(u128, Scopes),
    /// The request has ended already: the line came again.
    Again,
    /// Nothing is known of the request.
    Unknown,
}

impl Books {
    /// Returns empty books, whose slots end after `max_stream_ns` at the latest.
    pub fn new(max_stream_ns: u64) -> Books {
        Books {
            accounts: HashMap::default(),
            turns: HashMap::default(),
            sweep_at: SWEEP_FROM,
            slots: Slots::default(),
            users: Users::default(),
            done: Done::default(),
            durations: Durations::default(),
            learned: Estimates::default(),
            silence: Silence::default(),
            shares: FairQueue::default(),
            waits: Waits::default(),
            calendar: Calendar::default(),
            expired: Vec::new(),
            expired_count: 0,
            max_stream_ns,
            heard_again: Moment::default(),
        }
    }

    /// Takes every limit of a claim, or none. The claim `reserves` so many thousandths of a token: the token limits are
    /// asked whether there is room for them, and [`Books::open`] reserves them.
    ///
    /// # Errors
    /// [`LimitExcess`] where a limit is used up; the books are then unchanged.
    pub fn admit(
        &mut self,
        claim: &Accounts<'_>,
        reserves: u64,
        pool: Option<PoolKey>,
        now: Moment,
    ) -> Result<Admission, LimitExcess> {
        // A few, because this is under the lock and before a verdict; the rest end by the clock's tick.
        self.expire_some(EXPIRED_AT_ONCE, now);
        let today = self.calendar.today(now);
        let mut standings = Standings::default();
        let (mut excess, mut shadowed): (Option<LimitExcess>, Option<LimitExcess>) = (None, None);
        let blank = AccountBooks::default();
        let mut rates = [Rates::default(); SCOPES_MAX];
        for (account, after) in claim.iter().zip(&mut rates) {
            let books = self.accounts.get(&account.scope).unwrap_or(&blank);
            match books.check(account, reserves, today, now.mono_ns, after) {
                Ok(found) => standings.tighten(found.requests, found.tokens),
                Err(found) => {
                    let worst = if account.terms.shadow { &mut shadowed } else { &mut excess };
                    if worst.is_none_or(|other| found.outlasts(&other)) {
                        *worst = Some(found);
                    }
                }
            }
        }
        if let Some(excess) = excess {
            return Err(self.with_guess(excess));
        }
        for (account, after) in claim.iter().zip(rates) {
            self.accounts.entry(account.scope).or_default().take(account, after, now.mono_ns);
        }
        self.sweep(today, now);
        let turn = self.turns.entry(pool).or_default();
        *turn = turn.wrapping_add(1);
        Ok(Admission { standings, shadowed, turn: turn.wrapping_sub(1) })
    }

    /// Takes the next turn of a pool, for a claim that a shared store admits.
    pub fn turn(&mut self, pool: Option<PoolKey>) -> u64 {
        let turn = self.turns.entry(pool).or_default();
        *turn = turn.wrapping_add(1);
        turn.wrapping_sub(1)
    }

    /// Returns the calendar's day and month.
    pub fn today(&mut self, now: Moment) -> Today {
        self.calendar.today(now)
    }

    /// Ends a request that is charged elsewhere: its reservation is dropped. Returns whether it was in flight.
    pub fn ended_elsewhere(&mut self, id: u128, now: Moment) -> bool {
        let Some(taken) = self.slots.release(id) else { return false };
        self.shares.left(id);
        // Somebody got its line.
        self.hear(now);
        let today = self.calendar.today(now);
        let nothing = Figures { evidence: Evidence::Exact, tokens: Tokens::NONE };
        self.close(&record(taken, None, nothing, today, now), None, today, now);
        self.done.note(id, Evidence::Exact);
        true
    }

    /// Returns the record of a request that another herdgate granted. Charges nothing here.
    pub fn foreign(&mut self, taken: Reservation, seen: Option<&ObservedUsage>, now: Moment) -> Record {
        let today = self.calendar.today(now);
        let found = match seen {
            Some(seen) => figures(&taken, seen, &self.learned),
            None => Figures { evidence: Evidence::Reserved, tokens: taken.tokens },
        };
        record(taken, seen, found, today, now)
    }

    /// Adds a guess of the wait where requests in flight must end first: about as long as half of them take.
    pub fn with_guess(&self, excess: LimitExcess) -> LimitExcess {
        match excess.limit {
            ExhaustedLimit::NeverFits { .. } => excess,
            _ => LimitExcess { retry_ns: Some(excess.retry_ns.unwrap_or_else(|| self.usual_ns(500))), ..excess },
        }
    }

    /// Returns the scope that a user is counted in now: the user's own, or the one that users share where the key has
    /// too many. Changes nothing.
    pub fn scope_of(&self, user: &UserScopes) -> Scope {
        self.users.scope_of(user)
    }

    /// Returns the name of a user, as it would be kept with a request. Changes nothing.
    pub fn user_name(&self, user: &UserScopes, name: &[u8]) -> Option<Arc<str>> {
        self.users.name_of(user, name)
    }

    /// Remembers the user of a request that was granted. Returns the user's name.
    pub fn note_user(&mut self, user: &UserScopes, name: &[u8], now: Moment) -> Option<Arc<str>> {
        self.users.note(user, name, now)
    }

    /// Returns what was learned of the tokens that requests use.
    pub fn learned(&self) -> &Estimates {
        &self.learned
    }

    /// Returns the same, to learn more.
    pub fn learned_mut(&mut self) -> &mut Estimates {
        &mut self.learned
    }

    /// Returns to the rates what an admitted claim took: no server could take it, so it is not charged (LiteLLM
    /// #39309).
    pub fn release(&mut self, claim: &Accounts<'_>) {
        for account in claim.iter() {
            if let Some(books) = self.accounts.get_mut(&account.scope) {
                books.give_back(account.terms);
            }
        }
    }

    /// Forgets the turns of pools that no longer exist, and what was learned of them.
    pub fn retain_pools(&mut self, exists: impl Fn(PoolKey) -> bool) {
        self.turns.retain(|pool, _| pool.is_none_or(&exists));
        self.learned.retain_pools(exists);
    }

    /// Forgets the users of keys that no longer exist.
    pub fn retain_keys(&mut self, exists: impl Fn(Scope) -> bool) {
        self.users.retain_keys(exists);
    }

    /// Opens the slot of a granted request and reserves its tokens, unless the request has ended already. Returns
    /// whether it did.
    pub fn open(&mut self, taken: Reservation) -> bool {
        self.silence.granted(Moment { mono_ns: taken.opened_ns, unix_ms: taken.opened_unix_ms });
        self.begin(taken)
    }

    /// Does the same for a request that waits, for which no usage line is due yet.
    pub(super) fn begin(&mut self, taken: Reservation) -> bool {
        // Ids are random: one that is open already is the same request.
        if taken.uid.is_some_and(|uid| self.slots.has_ended(uid)) || self.slots.get(taken.id).is_some() {
            self.shares.left(taken.id);
            return false;
        }
        let reserved = taken.reserved();
        for scope in taken.scopes.iter() {
            self.accounts.entry(scope).or_default().open(reserved);
        }
        let now = Moment { mono_ns: taken.opened_ns, unix_ms: taken.opened_unix_ms };
        if let Some(oldest) = self.slots.open(taken) {
            self.charge_unheard(oldest, now);
        }
        true
    }

    /// Settles a request by a usage line with a receipt of this herdgate. Settling twice changes nothing more.
    pub fn settle(&mut self, id: u128, seen: &ObservedUsage, now: Moment) -> SettleOutcome {
        self.hear(now);
        if let Some(taken) = self.slots.release(id) {
            self.durations.note(now.mono_ns.saturating_sub(taken.opened_ns) / 1_000_000);
            match taken.server.filter(|_| seen.reached) {
                Some(server) => {
                    self.shares.served(server, id);
                    self.waits.note(seen.ms_served.unwrap_or(0));
                }
                // It left the proxy's queue, and moved nobody.
                None => {
                    self.shares.left(id);
                }
            }
            let found = figures(&taken, seen, &self.learned);
            self.learn(&taken, seen, found);
            let today = self.calendar.today(now);
            let record = record(taken, Some(seen), found, today, now);
            self.close(&record, Some(record.charge()), today, now);
            self.done.note(id, record.evidence);
            return SettleOutcome::Settled(Box::new(record));
        }
        match self.done.take_expired(id) {
            Some(before) => self.correct(before, seen, now),
            None if self.done.evidence(id).is_some() => SettleOutcome::Again,
            None => SettleOutcome::Unknown,
        }
    }

    /// Corrects the charge of a request that was charged its reservation because no line had come.
    fn correct(&mut self, before: Record, seen: &ObservedUsage, now: Moment) -> SettleOutcome {
        let found = figures(&before.reservation, seen, &self.learned);
        let today = self.calendar.today(now);
        let month = self.calendar.month_of(before.day);
        let charged = before.charge();
        let (day, settled_unix_ms) = (before.day, before.settled_unix_ms);
        let record = Record { day, settled_unix_ms, ..record(before.reservation, Some(seen), found, today, now) };
        let owed = record.charge();
        for scope in record.reservation.scopes.iter() {
            let Some(books) = self.accounts.get_mut(&scope) else { continue };
            match owed.checked_sub(charged) {
                Some(more) => books.charge(more, today, now.mono_ns),
                None => books.refund(charged.saturating_sub(owed), day, month),
            }
        }
        self.done.note(record.reservation.id, record.evidence);
        SettleOutcome::Corrected(Box::new(record))
    }

    /// Ends a request by a usage line without a receipt: if it has a slot, its verdict never arrived at the proxy.
    pub fn ended_unheard(&mut self, uid: ProxyUid, now: Moment) -> SettleOutcome {
        let Some(taken) = self.slots.release_uid(uid) else { return SettleOutcome::Unknown };
        self.shares.left(taken.id);
        self.hear(now);
        let today = self.calendar.today(now);
        let (id, scopes) = (taken.id, taken.scopes);
        // How long it took says nothing of requests that were served.
        let nothing = Figures { evidence: Evidence::Exact, tokens: Tokens::NONE };
        self.close(&record(taken, None, nothing, today, now), None, today, now);
        self.done.note(id, Evidence::Exact);
        SettleOutcome::Released(id, scopes)
    }

    /// Ends requests older than a stream may be; and, of those granted before or while usage lines had stopped coming,
    /// the ones older than almost every request lives, because their lines may be lost. Each is charged its
    /// reservation. Returns how many.
    pub fn expire(&mut self, now: Moment) -> usize {
        let before = self.expired_count;
        while self.expire_some(EXPIRED_AT_ONCE, now) {}
        self.expired_count.saturating_sub(before)
    }

    /// Returns how many slots time has ended since the last call.
    pub fn take_expired_count(&mut self) -> usize {
        std::mem::take(&mut self.expired_count)
    }

    /// Does the same for at most `most` requests. Returns whether there may be more.
    pub fn expire_some(&mut self, most: usize, now: Moment) -> bool {
        let doubtful_ns = if self.is_silent(now) { now.mono_ns } else { self.heard_again.mono_ns };
        let usual_ago_ns = now.mono_ns.saturating_sub(self.usual_ns(990).min(self.max_stream_ns));
        let too_long_ago_ns = now.mono_ns.saturating_sub(self.max_stream_ns);
        let before_ns = doubtful_ns.min(usual_ago_ns).max(too_long_ago_ns);
        for _ in 0..most {
            let Some(taken) = self.slots.expire_one(before_ns) else { return false };
            self.charge_unheard(taken, now);
        }
        true
    }

    /// Drops the reservation of a request that waits, or whose grant was never told. Returns false where it has none.
    pub(super) fn drop_open(&mut self, id: u128) -> bool {
        let Some(taken) = self.slots.release(id) else { return false };
        self.shares.left(id);
        let reserved = taken.reserved();
        for scope in taken.scopes.iter() {
            self.accounts.entry(scope).or_default().close(reserved);
        }
        true
    }

    /// Charges a request for which no line came its reservation.
    fn charge_unheard(&mut self, taken: Reservation, now: Moment) {
        self.shares.left(taken.id);
        if taken.server.is_none() {
            // It waited: no server was at it, and nothing is owed.
            let reserved = taken.reserved();
            taken.scopes.iter().for_each(|scope| self.accounts.entry(scope).or_default().close(reserved));
            return;
        }
        let today = self.calendar.today(now);
        let reserved = Figures { evidence: Evidence::Reserved, tokens: taken.tokens };
        let record = record(taken, None, reserved, today, now);
        self.close(&record, Some(record.charge()), today, now);
        self.expired_count = self.expired_count.saturating_add(1);
        self.done.note_expired(&record);
        if self.expired.len() < EXPIRED_MAX {
            self.expired.push(record);
        }
    }

    /// Returns the records of requests that ended without a line since the last call.
    pub fn take_expired(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.expired)
    }

    /// Drops a request's reservation, and charges what it used.
    fn close(&mut self, record: &Record, charge: Option<u64>, today: Today, now: Moment) {
        let reserved = record.reservation.reserved();
        for scope in record.reservation.scopes.iter() {
            let books = self.accounts.entry(scope).or_default();
            books.close(reserved);
            if let Some(amount) = charge {
                books.charge(amount, today, now.mono_ns);
            }
        }
    }

    /// Charges a request that an earlier process granted and of which only its receipt is known.
    pub fn charge_orphan(&mut self, taken: Reservation, seen: &ObservedUsage, now: Moment) -> Record {
        let found = figures(&taken, seen, &self.learned);
        let today = self.calendar.today(now);
        let record = record(taken, Some(seen), found, today, now);
        for scope in record.reservation.scopes.iter() {
            self.accounts.entry(scope).or_default().charge(record.charge(), today, now.mono_ns);
        }
        self.done.note(record.reservation.id, record.evidence);
        record
    }

    /// Restores the requests that an earlier process had in flight. Its clock was another, so their ages are taken from
    /// the wall clock.
    pub fn restore_open(&mut self, open: Vec<Reservation>, now: Moment) {
        // Lines that came while nobody listened are lost: none of these may hold a place for as long as a stream may last.
        self.heard_again = now;
        for taken in open {
            let age_ms = u64::try_from(now.unix_ms.saturating_sub(taken.opened_unix_ms)).unwrap_or(0);
            let opened_ns = now.mono_ns.saturating_sub(age_ms.saturating_mul(1_000_000));
            let reserved = taken.reserved();
            for scope in taken.scopes.iter() {
                self.accounts.entry(scope).or_default().open(reserved);
            }
            if let Some(oldest) = self.slots.open(Reservation { opened_ns, ..taken }) {
                self.charge_unheard(oldest, now);
            }
        }
    }

    /// Restores what an earlier process had charged on a day.
    pub fn restore_charge(&mut self, scope: Scope, day: Day, amount: u64, now: Moment) {
        let today = self.calendar.today(now);
        let books = self.accounts.entry(scope).or_default();
        books.keep();
        // The next day's too: the clock may have been a little ahead, and no further, or a wrong clock's days would count in
        // each run anew.
        if day == today.day || day == today.day.next() {
            books.spend(amount, today);
        } else if day < today.day && self.calendar.month_of(day) == today.month {
            books.spend_earlier_this_month(amount, today);
        }
    }

    /// Restores how a request ended for an earlier process.
    pub fn restore_done(&mut self, id: u128, evidence: Evidence) {
        self.done.note(id, evidence);
    }

    /// Takes note of a line that belonged to a grant.
    fn hear(&mut self, now: Moment) {
        if self.is_silent(now) {
            self.heard_again = now;
        }
        self.silence.line(now);
    }

    /// Returns whether usage lines have stopped coming while requests are granted: the alarm.
    pub fn is_silent(&self, now: Moment) -> bool {
        self.silence.is_silent(now, self.usual_ns(990))
    }

    /// Returns the slots of the requests in flight.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns the number of requests that one holder has in flight.
    pub fn in_flight_of(&self, scope: Scope) -> u32 {
        self.accounts.get(&scope).map_or(0, AccountBooks::in_flight)
    }

    /// Returns the thousandths of a token reserved for one holder's requests.
    pub fn reserved_of(&self, scope: Scope) -> u64 {
        self.accounts.get(&scope).map_or(0, AccountBooks::reserved)
    }

    /// Returns the thousandths of a token charged to one holder in the current window.
    pub fn charged_of(&mut self, scope: Scope, window: Window, now: Moment) -> u64 {
        let today = self.calendar.today(now);
        self.accounts.get(&scope).map_or(0, |books| books.charged(window, today))
    }

    /// Returns whether the wall clock has jumped forward and is not believed yet.
    pub fn is_clock_in_doubt(&self) -> bool {
        self.calendar.is_in_doubt()
    }

    /// Changes how long a slot may stay open (configuration reloaded).
    pub fn set_max_stream_ns(&mut self, max_stream_ns: u64) {
        self.max_stream_ns = max_stream_ns;
    }

    /// Changes the time zone of days and months (configuration reloaded).
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.calendar.set_zone(zone);
    }

    /// Returns how long `permille`/1000 of the requests take, at least a second; a guess before any ended.
    fn usual_ns(&self, permille: u32) -> u64 {
        self.durations.quantile_ms(permille).map_or(UNLEARNED_NS, |ms| ms.saturating_mul(1_000_000)).max(1_000_000_000)
    }

    fn learn(&mut self, taken: &Reservation, seen: &ObservedUsage, found: Figures) {
        if seen.reached && seen.answered {
            self.learned.settled(taken, seen, found);
        }
    }

    /// Returns the number of holders with counters, for metrics and tests.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    fn sweep(&mut self, today: Today, now: Moment) {
        if self.accounts.len() >= self.sweep_at {
            self.accounts.retain(|_, books| !books.is_blank(today, now.mono_ns));
            self.sweep_at = (self.accounts.len() * 2).max(SWEEP_FROM);
        }
    }
}

fn record(taken: Reservation, seen: Option<&ObservedUsage>, found: Figures, today: Today, now: Moment) -> Record {
    Record {
        reservation: taken,
        settled_unix_ms: now.unix_ms,
        day: today.day,
        server: seen.map(|seen| seen.server.clone()).unwrap_or_default(),
        status: seen.and_then(|seen| seen.status),
        ms: seen.and_then(|seen| seen.ms),
        evidence: found.evidence,
        tokens: found.tokens,
    }
}

impl Load for Books {
    fn in_flight(&self, server: ServerKey, pool: Option<PoolKey>) -> u32 {
        self.slots.of_pair(server, pool)
    }

    fn in_flight_in_all(&self, server: ServerKey) -> u32 {
        self.slots.of_server(server)
    }
}
