//! The books kept in this process's memory, shared by all connections.

use super::books::{Books, Ended, Excess};
use super::hold::Held;
use super::slots::Slot;
use crate::decision::choose::{Choice, choose};
use crate::decision::judge::Claim;
use crate::decision::limits::Scope;
use crate::decision::moment::Moment;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// What identifies a request to the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The decision's id.
    pub id: u128,
    /// The proxy's identifier, hashed; 0 where there is none.
    pub uid: u64,
}

/// What a claim got.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant, reason = "one a request, and what waits is the rare one")]
pub enum Taken<'v> {
    /// A server.
    Granted(Choice<'v>),
    /// A place among those that wait: its limits and its seat are taken, and no server's slot.
    Held(Held),
}

/// How the books stand, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests on their way.
    pub open: usize,
    /// Whether usage lines have stopped coming while requests are granted.
    pub silent: bool,
}

impl MemoryLedger {
    /// Takes every limit of a claim or none, chooses its server by what is on its way, and opens its slot: one step under
    /// the lock, so that requests decided at once see each other.
    ///
    /// Where all servers are full and the claim `may_wait`, it is held instead, see [`super::hold`].
    ///
    /// # Errors
    /// [`Denied`]; the books are then as before.
    pub fn take<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        asked: Asked,
        may_wait: bool,
        now: Moment,
    ) -> Result<Taken<'v>, Denied> {
        let mut books = self.lock();
        if let Some(retry_ns) = books.sheds(view, claim) {
            return Err(Denied::Shed { retry_ns });
        }
        let pool_key = claim.pool.map_or(0, |pool| pool.key);
        let (mut limits, mut seats) = (&claim.limits, &claim.seats);
        let (mut moved_limits, mut moved_seats);
        if let Some(user) = &claim.user {
            let scope = books.scope_of(user);
            if scope != user.scope {
                (moved_limits, moved_seats) = (claim.limits, claim.seats);
                moved_limits.move_scope(user.scope, scope);
                moved_seats.move_scope(user.scope, scope);
                (limits, seats) = (&moved_limits, &moved_seats);
            }
        }
        let admission = books.admit(limits, seats, pool_key, now).map_err(Denied::Excess)?;
        if may_wait && books.must_wait(view, claim) {
            return Ok(Taken::Held(books.hold(claim, limits, seats, asked, admission, now)));
        }
        match choose(view, claim, admission.turn, &*books, admission.requests) {
            Ok(mut choice) => {
                let start_ms = books.join(&mut choice, seats, claim.priority, now);
                if let Some(user) = &claim.user {
                    books.note_user(user, now);
                }
                if !seats.is_empty() {
                    books.open(Slot {
                        id: asked.id,
                        uid: asked.uid,
                        scopes: seats.scopes(),
                        server: choice.server_key,
                        pool: pool_key,
                        opened: now,
                        start_ms,
                    });
                }
                Ok(Taken::Granted(choice))
            }
            Err(refusal) => {
                books.release(limits);
                Err(Denied::NoServer(refusal))
            }
        }
    }

    /// A request has ended, by its receipt. See [`Books::ended`].
    pub fn ended(&self, id: u128, now: Moment) -> Ended {
        self.lock().ended(id, now)
    }

    /// A request has ended whose verdict never arrived. See [`Books::ended_unheard`].
    pub fn ended_unheard(&self, uid: u64, now: Moment) -> Ended {
        self.lock().ended_unheard(uid, now)
    }

    /// Ends what is too old; answers how many, and how the books stand then.
    pub fn expire(&self, now: Moment) -> (usize, Standing) {
        let mut books = self.lock();
        let expired = books.expire(now);
        (expired, Standing { open: books.slots().len(), silent: books.is_silent(now) })
    }

    /// Requests on their way to a server, by its key.
    pub fn on_their_way_to(&self, server_key: u64) -> u32 {
        self.lock().slots().of_server(server_key)
    }

    /// Changes how long a slot may stay open.
    pub fn set_max_stream_ns(&self, max_stream_ns: u64) {
        self.lock().set_max_stream_ns(max_stream_ns);
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
