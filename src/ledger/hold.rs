//! Waiting for a server: which claims must wait, what is reserved for them meanwhile, and which server they get.
//!
//! A claim that waits has taken its limits; its tokens are reserved, and it counts as one of its caller's requests in
//! flight, so that nobody can have more requests waiting than its plan lets it have in flight. It has no server's slot:
//! its reservation names no server.

use super::account::{LimitExcess, Standings};
use super::books::{Admission, Books};
use super::reservation::{RequestShape, Reservation};
use super::slots::Slots;
use crate::decision::fleet::Preference;
use crate::decision::fleet::choose::{Choice, Load, choose};
use crate::decision::fleet::roster::{Pool, PoolKey, ServerKey};
use crate::decision::judge::Claim;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Account, Accounts, Demand, Holder, Scope, Terms};
use crate::decision::plan::priority::{Priority, QueuePlace};
use crate::decision::plan::server::{ServerIndex, ServerKind};
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::decision::view::View;

/// A claim that waits. It stands by itself, because the View it was judged on may be gone when it gets its server.
#[derive(Debug, Clone)]
pub struct WaitingClaim {
    /// Its reservation, which names no server yet.
    pub reservation: Reservation,
    /// Its urgency.
    pub priority: Priority,
    /// How the caller stands with its tightest limits.
    pub standings: Standings,
    /// When it began to wait.
    pub since: Moment,
    /// The limit that would have refused the claim, were it not a shadow.
    pub shadowed: Option<LimitExcess>,
    /// The request rates that it took from.
    rates: Vec<(Scope, Holder, Terms)>,
    turn: u64,
}

/// How the wait of a claim ended.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a request that waited, on the stack")]
pub enum WaitEnd<'v> {
    /// The claim has a server, and this reservation.
    Granted(Choice<'v>, Reservation),
    /// The request ended meanwhile: the client left.
    Gone,
    /// No server has its model any more.
    NoServer(Refusal),
}

impl WaitingClaim {
    /// Returns the scope whose turn it takes in queues: the caller's own.
    pub fn caller(&self) -> Scope {
        self.reservation.holder()
    }
}

impl Books {
    /// Returns the nanoseconds after which a claim of low priority should come again, if the expected wait is now too
    /// long for it.
    pub(super) fn sheds(&self, view: &View, claim: &Claim<'_>) -> Option<u64> {
        let pool = claim.pool.filter(|_| claim.priority == Priority::Low && !claim.accounts.is_empty())?;
        let expected_ns = self.expected_wait_ns(view, pool)?;
        let most_ns = view.policy.patience.shed_wait_ns;
        (expected_ns > most_ns).then(|| expected_ns.saturating_sub(most_ns))
    }

    /// Returns how long a request that comes now will probably wait, were it served after all others; `None` before
    /// anything was learned.
    pub fn expected_wait_ns(&self, view: &View, pool: &Pool) -> Option<u64> {
        // Fewer in all than the pool has room for: none waits, and no server need be looked at.
        if u64::try_from(self.slots.len()).unwrap_or(u64::MAX) < pool.capacity {
            return Some(0);
        }
        let in_flight: u64 = self.open_on(view, pool).map(|(open, _)| u64::from(open)).sum();
        let waiting = u64::from(self.slots.waiting_for(pool.key));
        let before = in_flight.saturating_add(waiting).saturating_add(1).saturating_sub(pool.capacity);
        self.waits.expected_ns(before, pool.capacity)
    }

    fn open_on<'b>(&'b self, view: &'b View, pool: &'b Pool) -> impl Iterator<Item = (u32, ServerIndex)> + 'b {
        pool.live.iter().filter_map(|index| {
            let key = view.roster.server_keys.get(usize::from(index.0))?;
            Some((self.slots.of_server(*key), *index))
        })
    }

    /// Returns whether a claim must wait: others of its pool do, or no server of the pool has room.
    pub(super) fn must_wait(&self, view: &View, claim: &Claim<'_>) -> bool {
        let Some(pool) = claim.pool.filter(|pool| !claim.accounts.is_empty() && !pool.live.is_empty()) else {
            return false;
        };
        self.slots.waiting_for(pool.key) > 0 || self.with_room(view, pool).next().is_none()
    }

    /// Returns the servers of a pool that have room. One on which requests failed counts as full where another has not
    /// failed.
    fn with_room<'b>(&'b self, view: &'b View, pool: &'b Pool) -> impl Iterator<Item = ServerKey> + 'b {
        let preference =
            |index: ServerIndex| view.roster.preferences.get(usize::from(index.0)).copied().unwrap_or_default();
        let only_last = pool.live.iter().all(|index| preference(*index) == Preference::Last);
        self.open_on(view, pool).filter_map(move |(open, index)| {
            let most = match preference(index) {
                Preference::OneAtATime => 1,
                Preference::Last if !only_last => 0,
                Preference::Sound | Preference::Last => *view.roster.capacities.get(usize::from(index.0))?,
            };
            (open < most).then(|| view.roster.server_keys.get(usize::from(index.0)).copied()).flatten()
        })
    }

    /// Returns the servers with room that the requests of a pool may wait for; `None` where it is no use to wait,
    /// because the pool has no live server.
    pub(crate) fn free_for(&self, view: &View, pool: Option<PoolKey>) -> Option<Vec<ServerKey>> {
        let pool = pool_of(view, pool).filter(|pool| !pool.live.is_empty())?;
        Some(self.with_room(view, pool).collect())
    }

    /// Returns how far a caller is ahead of its share of the one of these servers where it is least so, in virtual
    /// milliseconds; 0 where it is no use to wait, so that it is refused at once; `None` where no server has room.
    pub(crate) fn ahead_ms(&self, caller: Scope, free: Option<&[ServerKey]>) -> Option<u64> {
        let Some(servers) = free else { return Some(0) };
        servers.iter().map(|server| self.shares.ahead_ms(caller, *server)).min()
    }

    /// Has an admitted claim wait with this reservation.
    pub(super) fn hold(
        &mut self,
        reservation: Reservation,
        accounts: &Accounts<'_>,
        admission: &Admission,
        priority: Priority,
        now: Moment,
    ) -> WaitingClaim {
        let rates = accounts.iter().map(|account| (account.scope, account.holder, account.terms.clone())).collect();
        let Admission { standings, shadowed, turn } = *admission;
        // Where its line has come before it, this reserves nothing, and the claim is found gone when its turn comes.
        self.begin(reservation.clone());
        WaitingClaim { reservation, priority, standings, since: now, shadowed, rates, turn }
    }

    /// Chooses a server for a claim that has waited, and opens its slot there. Where there is none, the claim's limits
    /// are returned.
    pub(crate) fn free<'v>(&mut self, view: &'v View, held: &WaitingClaim, now: Moment) -> WaitEnd<'v> {
        let pool = pool_of(view, held.reservation.pool);
        let claim = Claim {
            pool,
            accounts: Accounts::default(),
            user: None,
            demand: Demand::default(),
            endpoint: held.reservation.endpoint,
            priority: held.priority,
        };
        let Standings { requests, tokens } = held.standings;
        let chosen = match pool {
            Some(_) => choose(view, &claim, held.turn, &RoomFirst { slots: &self.slots, view }),
            None => Err(Refusal { retry_after_s: Some(view.policy.recheck_s), ..Refusal::new(Reason::NoServer) }),
        };
        // Without its place its line has come. While lines are lost, time may have taken it.
        if !self.drop_open(held.reservation.id) && !self.is_silent(now) {
            self.give_back(held);
            return WaitEnd::Gone;
        }
        match chosen {
            Ok(mut choice) => {
                let id = held.reservation.id;
                self.join(&mut choice, held.caller(), id, held.priority, now);
                (choice.grant.requests, choice.grant.tokens) = (requests, tokens);
                // It goes there at once.
                self.shares.served(choice.server_key, id);
                let reservation = Reservation {
                    server: Some(choice.server_key),
                    opened_ns: now.mono_ns,
                    opened_unix_ms: now.unix_ms,
                    written: RequestShape {
                        openai: choice.grant.server.kind == ServerKind::OpenAi,
                        ..held.reservation.written
                    },
                    ..held.reservation.clone()
                };
                self.open(reservation.clone());
                WaitEnd::Granted(choice, reservation)
            }
            Err(refusal) => {
                self.give_back(held);
                WaitEnd::NoServer(refusal)
            }
        }
    }

    /// Ends a claim that waits no longer, or whose grant was never told: what it took is returned.
    pub(crate) fn let_go(&mut self, held: &WaitingClaim) {
        self.drop_open(held.reservation.id);
        self.give_back(held);
    }

    fn give_back(&mut self, held: &WaitingClaim) {
        let mut accounts = Accounts::default();
        for (scope, holder, terms) in &held.rates {
            // As many as the claim had.
            let _ = accounts.push(Account { scope: *scope, holder: *holder, terms });
        }
        self.release(&accounts);
    }

    /// Finds the place of a request in the queue of its server.
    pub(super) fn join(&mut self, choice: &mut Choice<'_>, caller: Scope, id: u128, priority: Priority, now: Moment) {
        let now_ms = now.mono_ns / 1_000_000;
        let (server, capacity) = (choice.server_key, choice.capacity);
        let open = self.slots.of_server(server);
        let start_ms = if open <= capacity / 2 && !self.slots.has_waiting() {
            self.shares.idle(server, now_ms)
        } else {
            self.shares.join(caller, server, id, self.waits.round_ms(capacity), now_ms)
        };
        if open < capacity {
            self.shares.served(server, id);
        }
        choice.grant.place = QueuePlace::new(priority, start_ms, now_ms);
    }
}

fn pool_of(view: &View, key: Option<PoolKey>) -> Option<&Pool> {
    let key = key?;
    view.roster.pools.iter().find(|pool| pool.key == key)
}

/// The load as [`choose`] must see it: servers that are full come after all that have room.
struct RoomFirst<'b> {
    slots: &'b Slots,
    view: &'b View,
}

impl Load for RoomFirst<'_> {
    fn in_flight(&self, server: ServerKey, pool: Option<PoolKey>) -> u32 {
        let roster = &self.view.roster;
        let position = roster.server_keys.iter().position(|key| *key == server);
        let most = position.and_then(|position| roster.capacities.get(position)).copied().unwrap_or(0);
        if self.slots.of_server(server) < most { self.slots.of_pair(server, pool) } else { u32::MAX }
    }

    fn in_flight_in_all(&self, server: ServerKey) -> u32 {
        self.slots.of_server(server)
    }
}
