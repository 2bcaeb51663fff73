//! Slots: requests in flight, counted by server, and by server and model. Each is opened with its grant and ends once:
//! released by its usage line, or expired. Pure; time is handed in.

use super::reservation::{ProxyUid, Reservation};
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use foldhash::fast::RandomState;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// Most slots open. Past it the oldest is expired for each new one: what a fleet can have in flight is far less, so the
/// oldest are those whose lines were lost.
pub const SLOTS_MAX: usize = 200_000;

/// Most requests remembered that ended before their slot was opened. Lines of refused requests pass through here too,
/// so this is some seconds of a busy proxy.
const ENDED_EARLY_MAX: usize = 65_536;

/// The slots of all requests in flight.
#[derive(Debug, Default)]
pub struct Slots {
    open: HashMap<u128, Reservation>,
    by_uid: HashMap<ProxyUid, u128>,
    by_server: HashMap<ServerKey, u32, RandomState>,
    by_pair: HashMap<(ServerKey, Option<PoolKey>), u32, RandomState>,
    /// The requests that wait for a server, by model.
    waiting: HashMap<Option<PoolKey>, u32, RandomState>,
    /// Requests that ended before their slot was opened, and their order; the oldest are forgotten.
    ended_early: HashSet<ProxyUid>,
    ended_early_order: VecDeque<ProxyUid>,
    /// The ids in order of opening; those that have ended are passed over. Requests that wait for a server are not
    /// among them: whoever keeps them waiting ends them.
    order: VecDeque<u128>,
    /// Thousandths of a token reserved for all of them.
    reserved: u64,
}

impl Slots {
    /// Returns whether the request that the proxy knows by this identifier has ended before its slot was opened.
    pub fn has_ended(&mut self, uid: ProxyUid) -> bool {
        self.ended_early.remove(&uid)
    }

    /// Opens a slot. Returns the one that was expired to make room, if any.
    pub fn open(&mut self, slot: Reservation) -> Option<Reservation> {
        let (id, uid) = (slot.id, slot.uid);
        let expired = if self.open.len() >= SLOTS_MAX { self.expire_oldest() } else { None };
        self.compact();
        match slot.server {
            Some(server) => {
                one_more(&mut self.by_server, server);
                one_more(&mut self.by_pair, (server, slot.pool));
                self.order.push_back(id);
            }
            None => one_more(&mut self.waiting, slot.pool),
        }
        self.reserved = self.reserved.saturating_add(slot.reserved());
        // Ids are random and come once.
        self.open.insert(id, slot);
        if let Some(uid) = uid {
            self.by_uid.insert(uid, id);
        }
        expired
    }

    /// Ends a slot by its id. Returns `None` where it has ended already, or never was.
    pub fn release(&mut self, id: u128) -> Option<Reservation> {
        let slot = self.open.remove(&id)?;
        self.reserved = self.reserved.saturating_sub(slot.reserved());
        self.uncount(&slot);
        Some(slot)
    }

    /// Ends the slot of the request that the proxy knows by this identifier: its verdict never arrived there. Where
    /// none is open, the identifier is kept for a while: the proxy may have given up on a question that is still
    /// waiting to be read here.
    pub fn release_uid(&mut self, uid: ProxyUid) -> Option<Reservation> {
        match self.by_uid.get(&uid) {
            Some(&id) => self.release(id),
            None => {
                self.note_early(uid);
                None
            }
        }
    }

    /// Ends the oldest slot, if it was opened before `before_ns` (monotonic).
    pub fn expire_one(&mut self, before_ns: u64) -> Option<Reservation> {
        while let Some(id) = self.order.front() {
            match self.open.get(id) {
                Some(slot) if slot.opened_ns >= before_ns => return None,
                Some(_) => return self.expire_oldest(),
                None => {
                    self.order.pop_front();
                }
            }
        }
        None
    }

    /// Returns an open slot.
    pub fn get(&self, id: u128) -> Option<&Reservation> {
        self.open.get(&id)
    }

    /// Returns the thousandths of a token reserved for all open slots.
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Returns the open slots by server and model, without those that wait for a server.
    pub fn pairs(&self) -> impl Iterator<Item = ((ServerKey, Option<PoolKey>), u32)> {
        self.by_pair.iter().map(|(pair, count)| (*pair, *count))
    }

    /// Returns the slots on a server for one model.
    pub fn of_pair(&self, server: ServerKey, pool: Option<PoolKey>) -> u32 {
        self.by_pair.get(&(server, pool)).copied().unwrap_or(0)
    }

    /// Returns the slots on a server, whatever their model.
    pub fn of_server(&self, server: ServerKey) -> u32 {
        self.by_server.get(&server).copied().unwrap_or(0)
    }

    /// Returns how many wait for a server that has this model.
    pub fn waiting_for(&self, pool: PoolKey) -> u32 {
        self.waiting.get(&Some(pool)).copied().unwrap_or(0)
    }

    /// Returns whether any request waits for a server.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the number of slots.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Returns whether no request is in flight.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn note_early(&mut self, uid: ProxyUid) {
        if self.ended_early.insert(uid) {
            self.ended_early_order.push_back(uid);
        }
        while self.ended_early_order.len() > ENDED_EARLY_MAX {
            if let Some(oldest) = self.ended_early_order.pop_front() {
                self.ended_early.remove(&oldest);
            }
        }
    }

    fn expire_oldest(&mut self) -> Option<Reservation> {
        loop {
            let id = self.order.pop_front()?;
            if let Some(slot) = self.release(id) {
                return Some(slot);
            }
        }
    }

    fn uncount(&mut self, slot: &Reservation) {
        if let Some(uid) = slot.uid
            && self.by_uid.get(&uid) == Some(&slot.id)
        {
            self.by_uid.remove(&uid);
        }
        match slot.server {
            Some(server) => {
                one_less(&mut self.by_server, server);
                one_less(&mut self.by_pair, (server, slot.pool));
            }
            None => one_less(&mut self.waiting, slot.pool),
        }
    }

    /// Drops ended ids from the order when they make up most of it.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.open.len() + 1024 {
            let open = &self.open;
            self.order.retain(|id| open.contains_key(id));
        }
    }
}

fn one_more<K: Hash + Eq>(counts: &mut HashMap<K, u32, RandomState>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// Counts one down and forgets it at zero, so that the maps hold live entries only.
fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, u32, RandomState>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() = entry.get().saturating_sub(1);
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}
