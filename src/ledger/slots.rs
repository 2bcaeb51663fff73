//! Slots: requests on their way, counted by caller (key, user, team), by server, and by server and model. Each is opened with its grant and
//! ends once: released by its usage line, or expired. Pure; time is handed in.

use crate::decision::limits::{Scope, Scopes};
use crate::decision::moment::Moment;
use std::collections::{HashMap, HashSet, VecDeque};

/// Most slots held. Past it the oldest is expired for each new one: what a fleet can have on its way is far less, so the
/// oldest are those whose lines were lost.
pub const SLOTS_MAX: usize = 200_000;

/// Requests kept that ended before their slot was opened. Lines of refused requests pass through here too, so this is some
/// seconds of a busy proxy.
const ENDED_EARLY_MAX: usize = 65_536;

/// One request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The decision's id.
    pub id: u128,
    /// The proxy's own identifier of the request, hashed; 0 where it sent none.
    pub uid: u64,
    /// Everyone it is counted for: the caller, its user, its team.
    pub scopes: Scopes,
    /// The server it was sent to: hash of its name.
    pub server: u64,
    /// Its pool: hash of the model; 0 where the body is hidden.
    pub pool: u64,
    /// When it was granted.
    pub opened: Moment,
    /// Where it stood among its server's requests, in virtual milliseconds (`shares`).
    pub start_ms: u64,
}

/// All requests on their way.
#[derive(Debug, Default)]
pub struct Slots {
    open: HashMap<u128, Slot>,
    by_uid: HashMap<u64, u128>,
    by_scope: HashMap<Scope, u32>,
    by_server: HashMap<u64, u32>,
    by_pair: HashMap<(u64, u64), u32>,
    /// Requests that ended before their slot was opened, and their order; the oldest are forgotten.
    ended_early: HashSet<u64>,
    ended_early_order: VecDeque<u64>,
    /// In order of opening; ids that have ended are passed over.
    order: VecDeque<u128>,
}

impl Slots {
    /// Opens a slot, unless its request has ended already. Answers one that had to be expired to make room.
    pub fn open(&mut self, slot: Slot) -> Option<Slot> {
        if self.ended_early.remove(&slot.uid) {
            return None;
        }
        let expired = if self.open.len() >= SLOTS_MAX { self.expire_oldest() } else { None };
        self.compact();
        if let Some(replaced) = self.open.insert(slot.id, slot) {
            // Ids are random; should one come twice, the counts stay right.
            self.uncount(&replaced);
        }
        if slot.uid != 0 {
            self.by_uid.insert(slot.uid, slot.id);
        }
        for scope in slot.scopes.iter() {
            let count = self.by_scope.entry(scope).or_default();
            *count = count.saturating_add(1);
        }
        for count in
            [self.by_server.entry(slot.server).or_default(), self.by_pair.entry((slot.server, slot.pool)).or_default()]
        {
            *count = count.saturating_add(1);
        }
        self.order.push_back(slot.id);
        expired
    }

    /// Ends a slot by its id; `None` where it has ended already, or never was.
    pub fn release(&mut self, id: u128) -> Option<Slot> {
        let slot = self.open.remove(&id)?;
        self.uncount(&slot);
        Some(slot)
    }

    /// Ends the slot of the request that the proxy knows by this identifier: its verdict never arrived there.
    /// Where none is open, the identifier is kept for a while: the proxy may have given up on a question that is still
    /// waiting to be read here.
    pub fn release_uid(&mut self, uid: u64) -> Option<Slot> {
        match self.by_uid.get(&uid) {
            Some(&id) => self.release(id),
            None => {
                self.note_early(uid);
                None
            }
        }
    }

    /// Ends every slot opened before `before_ns` (monotonic); answers how many.
    pub fn expire(&mut self, before_ns: u64) -> usize {
        let mut expired = 0;
        while let Some(id) = self.order.front() {
            match self.open.get(id) {
                Some(slot) if slot.opened.mono_ns >= before_ns => break,
                Some(_) => {
                    self.expire_oldest();
                    expired += 1;
                }
                None => {
                    self.order.pop_front();
                }
            }
        }
        expired
    }

    /// Slots a caller, a user or a team holds.
    pub fn of_caller(&self, scope: Scope) -> u32 {
        self.by_scope.get(&scope).copied().unwrap_or(0)
    }

    /// Slots on a server for one model.
    pub fn of_pair(&self, server: u64, pool: u64) -> u32 {
        self.by_pair.get(&(server, pool)).copied().unwrap_or(0)
    }

    /// Slots on a server, all models.
    pub fn of_server(&self, server: u64) -> u32 {
        self.by_server.get(&server).copied().unwrap_or(0)
    }

    /// Slots in all.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn note_early(&mut self, uid: u64) {
        if uid != 0 && self.ended_early.insert(uid) {
            self.ended_early_order.push_back(uid);
        }
        while self.ended_early_order.len() > ENDED_EARLY_MAX {
            if let Some(oldest) = self.ended_early_order.pop_front() {
                self.ended_early.remove(&oldest);
            }
        }
    }

    fn expire_oldest(&mut self) -> Option<Slot> {
        loop {
            let id = self.order.pop_front()?;
            if let Some(slot) = self.release(id) {
                return Some(slot);
            }
        }
    }

    fn uncount(&mut self, slot: &Slot) {
        if self.by_uid.get(&slot.uid) == Some(&slot.id) {
            self.by_uid.remove(&slot.uid);
        }
        for scope in slot.scopes.iter() {
            less_one(&mut self.by_scope, scope);
        }
        less_one(&mut self.by_server, slot.server);
        less_one(&mut self.by_pair, (slot.server, slot.pool));
    }

    /// Ended ids leave the order when they make up most of it.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.open.len() + 1024 {
            let open = &self.open;
            self.order.retain(|id| open.contains_key(id));
        }
    }
}

/// Counts one down and forgets it at zero, so that the maps hold live entries only.
fn less_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() = entry.get().saturating_sub(1);
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}
