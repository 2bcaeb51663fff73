//! The order of those that wait: weighted fair over callers. Pure; time and shares are parameters.

use crate::decision::fleet::roster::PoolKey;
use crate::decision::plan::limits::Scope;
use crate::decision::plan::priority::{LOW_WAITS_MS, Priority};
use std::collections::{BTreeMap, HashMap};

/// One request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEntry {
    /// The caller's scope.
    pub caller: Scope,
    /// The pool it waits for.
    pub pool: Option<PoolKey>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it began to wait, in nanoseconds (monotonic).
    pub since_ns: u64,
    /// When its time is over, in nanoseconds (monotonic).
    pub until_ns: u64,
}

/// Result of [`Order::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The request entered.
    In,
    /// The request entered, and the one with this ticket had to leave: nobody has more requests here than its caller.
    Instead(u128),
    /// The order is full, and the caller has as many requests in it as anybody.
    Out,
}

/// The requests that wait, by ticket. A caller's requests for one pool are served in the order in which they came; between
/// callers, the one that is least ahead of its share is next.
#[derive(Debug, Default)]
pub struct Order {
    waiting: HashMap<u128, (u64, QueueEntry)>,
    /// Tickets that were redeemed, by pool and caller, in the order in which they came.
    lines: BTreeMap<(Option<PoolKey>, Scope), BTreeMap<u64, u128>>,
    by_caller: HashMap<Scope, usize>,
    entered: u64,
}

impl Order {
    /// Adds a request, where at most `most` wait at once. It cannot be next before [`Order::redeem`].
    pub fn enter(&mut self, ticket: u128, waiter: QueueEntry, most: usize) -> Entry {
        let mut entered = Entry::In;
        if self.waiting.len() >= most {
            let fewer = self.by_caller.get(&waiter.caller).copied().unwrap_or(0).saturating_add(1);
            let Some((fattest, _)) =
                self.by_caller.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > fewer)
            else {
                return Entry::Out;
            };
            let theirs = self.waiting.iter().filter(|(_, (_, waiter))| waiter.caller == *fattest);
            let Some(last) = theirs.max_by_key(|(_, (order, _))| *order).map(|(ticket, _)| *ticket) else {
                return Entry::Out;
            };
            self.leave(last);
            entered = Entry::Instead(last);
        }
        self.entered = self.entered.wrapping_add(1);
        if self.waiting.insert(ticket, (self.entered, waiter)).is_none() {
            *self.by_caller.entry(waiter.caller).or_default() += 1;
        }
        entered
    }

    /// Makes a request one that may be next, until `until_ns`, because its second hop has come. Returns false where no request
    /// has this ticket.
    pub fn redeem(&mut self, ticket: u128, until_ns: u64) -> bool {
        let Some((order, waiter)) = self.waiting.get_mut(&ticket) else { return false };
        waiter.until_ns = until_ns;
        self.lines.entry((waiter.pool, waiter.caller)).or_default().insert(*order, ticket);
        true
    }

    /// Removes a request, for whatever reason.
    pub fn leave(&mut self, ticket: u128) -> Option<QueueEntry> {
        let (order, waiter) = self.waiting.remove(&ticket)?;
        let key = (waiter.pool, waiter.caller);
        if let Some(line) = self.lines.get_mut(&key) {
            line.remove(&order);
            if line.is_empty() {
                self.lines.remove(&key);
            }
        }
        if let Some(count) = self.by_caller.get_mut(&waiter.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_caller.remove(&waiter.caller);
            }
        }
        Some(waiter)
    }

    /// Returns the ticket that is next. High priority comes first; then the caller that is least ahead of its share, where low
    /// priority adds the time for which it still lets others pass; then the request that came first. `ahead_ms` returns how far a
    /// caller is ahead of its share of a pool's servers with a free slot, or `None` where there is none.
    pub fn next(&self, now_ns: u64, mut ahead_ms: impl FnMut(Option<PoolKey>, Scope) -> Option<u64>) -> Option<u128> {
        let heads = self.lines.iter().filter_map(|((pool, caller), line)| {
            let (order, ticket) = line.first_key_value()?;
            let (_, waiter) = self.waiting.get(ticket)?;
            let ahead_ms = ahead_ms(*pool, *caller)?;
            let waited_ms = now_ns.saturating_sub(waiter.since_ns) / 1_000_000;
            let lets_by = if waiter.priority == Priority::Low { LOW_WAITS_MS.saturating_sub(waited_ms) } else { 0 };
            let place = (waiter.priority != Priority::High, ahead_ms.saturating_add(lets_by), *order);
            Some((place, *ticket))
        });
        heads.min().map(|(_, ticket)| ticket)
    }

    /// Returns the tickets whose time is over.
    pub fn late(&self, now_ns: u64) -> Vec<u128> {
        self.waiting.iter().filter(|(_, (_, waiter))| now_ns >= waiter.until_ns).map(|(ticket, _)| *ticket).collect()
    }

    /// Returns every ticket.
    pub fn tickets(&self) -> Vec<u128> {
        self.waiting.keys().copied().collect()
    }

    /// Returns how many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn waiter(caller: u128, pool: u64, priority: Priority, since_s: u64) -> QueueEntry {
        let pool = PoolKey::new(pool);
        QueueEntry { caller: Scope(caller), pool, priority, since_ns: since_s * S, until_ns: (since_s + 60) * S }
    }

    fn order(waiters: &[(u128, QueueEntry)]) -> Order {
        let mut order = Order::default();
        for (ticket, waiter) in waiters {
            assert_eq!(order.enter(*ticket, *waiter, 1_000), Entry::In);
            assert!(order.redeem(*ticket, waiter.until_ns));
        }
        order
    }

    #[test]
    fn urgent_first_then_whoever_has_had_least_then_whoever_came_first() {
        use Priority::{High, Low, Normal};
        type Case = (&'static str, &'static [(u128, u128, Priority, u64)], u64, u128);
        // Ticket, caller, priority, since; a caller is ahead by a hundred times its number. At which second, who is next.
        let cases: [Case; 7] = [
            ("in the order of coming", &[(1, 1, Normal, 1), (2, 1, Normal, 0)], 5, 1),
            ("less ahead", &[(1, 5, Normal, 0), (2, 4, Normal, 3)], 5, 2),
            ("urgent", &[(1, 0, Normal, 0), (2, 9, High, 3)], 5, 2),
            ("low lets others by", &[(1, 0, Low, 0), (2, 9, Normal, 3)], 5, 2),
            ("but not for ever", &[(1, 0, Low, 0), (2, 9, Normal, 3)], 30, 1),
            ("low alone", &[(1, 0, Low, 0)], 1, 1),
            ("low among itself", &[(1, 2, Low, 0), (2, 1, Low, 0)], 5, 2),
        ];
        for (why, waiting, at_s, expected) in cases {
            let waiters: Vec<_> = waiting.iter().map(|(t, c, p, s)| (*t, waiter(*c, 1, *p, *s))).collect();
            let ahead = |_, caller: Scope| u64::try_from(caller.0 * 100).ok();
            assert_eq!(order(&waiters).next(at_s * S, ahead), Some(expected), "{why}");
        }
    }

    #[test]
    fn who_has_not_redeemed_its_ticket_and_whose_pool_is_full_is_passed_over() {
        let mut order = order(&[(1, waiter(1, 1, Priority::Normal, 0)), (2, waiter(2, 2, Priority::Normal, 0))]);
        order.enter(3, waiter(3, 3, Priority::High, 0), 9);
        let only = |free: u64| move |pool: Option<PoolKey>, _: Scope| (pool == PoolKey::new(free)).then_some(0);
        assert_eq!([1, 2, 3].map(|pool| order.next(S, only(pool))), [Some(1), Some(2), None]);
        assert!(order.redeem(3, 60 * S) && !order.redeem(4, 60 * S));
        assert_eq!(order.next(S, |_, _| Some(0)), Some(3));
        assert_eq!(order.leave(3).map(|waiter| waiter.pool), Some(PoolKey::new(3)));
        assert_eq!((order.leave(3), order.next(S, only(3)), order.len()), (None, None, 2));
        assert_eq!((order.late(59 * S).len(), order.late(60 * S).len()), (0, 2));
    }

    #[test]
    fn a_full_room_turns_away_whoever_has_the_most_in_it() {
        let normal = |caller| waiter(caller, 1, Priority::Normal, 0);
        let mut order = order(&[(1, normal(1)), (2, normal(1)), (3, normal(1)), (4, normal(2))]);
        let steps = [
            (5, 1, Entry::Out),
            (6, 2, Entry::Instead(3)),
            (7, 2, Entry::Out),
            (8, 3, Entry::Instead(2)), // of two callers with two, whichever
        ];
        for (ticket, caller, expected) in steps {
            let entered = order.enter(ticket, normal(caller), 4);
            match (entered, expected) {
                (Entry::Instead(gone), Entry::Instead(3)) => assert_eq!(gone, 3),
                (Entry::Instead(gone), Entry::Instead(_)) => assert!([2, 6].contains(&gone)),
                _ => assert_eq!(entered, expected, "{ticket}"),
            }
            assert_eq!(order.len(), 4);
        }
        assert_eq!(Order::default().enter(1, normal(1), 0), Entry::Out);
    }
}
