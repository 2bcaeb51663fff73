//! Ends of requests that the store is to be told of: delivered in the background, kept while it is away, bounded.

use super::terms::{StoreTerms, StoreToday};
use crate::ledger::reservation::Evidence;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most ends kept: some minutes of a busy proxy. Past it the oldest is given up, and its request stays charged as reserved.
const ENDS_MAX: usize = 50_000;

/// How often an end is tried that the store cannot make sense of.
const TRIES: u8 = 3;

/// What a request used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The decision's id.
    pub id: u128,
    /// The holders it is counted for, with their terms; empty where only the store knows them.
    pub terms: StoreTerms,
    /// What it is charged, in thousandths of a token.
    pub used: u64,
    /// How well that is known.
    pub evidence: Evidence,
    /// The herdgate that granted the request, where that was another one: the store tells it.
    pub granted_by: Option<u64>,
    /// The calendar as this herdgate has it.
    pub today: StoreToday,
}

/// A claim to give back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The decision's id.
    pub id: u128,
    /// The holders; empty where only the store knows them.
    pub terms: StoreTerms,
}

/// How a request ended, as the store is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreEnd {
    Settle(Settlement),
    Release(Release),
}

/// An end, and how often it was tried in vain.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub end: StoreEnd,
    pub tries: u8,
}

impl Waiting {
    /// Counts a try that the store could make no sense of. Returns `None` where it was the last.
    pub fn again(self) -> Option<Waiting> {
        (self.tries + 1 < TRIES).then(|| Waiting { tries: self.tries + 1, ..self })
    }
}

/// The ends that wait to be delivered.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    ends: Mutex<VecDeque<Waiting>>,
}

impl Backlog {
    /// Adds an end. Returns false where the oldest was given up to make room.
    pub fn push(&self, end: StoreEnd) -> bool {
        let mut ends = self.lock();
        ends.push_back(Waiting { end, tries: 0 });
        let has_room = ends.len() <= ENDS_MAX;
        if !has_room {
            ends.pop_front();
        }
        has_room
    }

    /// Puts an end that was not delivered back in front of all others. Returns false where there is no room.
    pub fn put_back(&self, waiting: Waiting) -> bool {
        let mut ends = self.lock();
        let has_room = ends.len() < ENDS_MAX;
        if has_room {
            ends.push_front(waiting);
        }
        has_room
    }

    /// Takes up to `count` of the oldest ends.
    pub fn take(&self, count: usize) -> Vec<Waiting> {
        let mut ends = self.lock();
        let count = count.min(ends.len());
        ends.drain(..count).collect()
    }

    /// Returns how many ends wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(id: u128) -> StoreEnd {
        StoreEnd::Release(Release { id, terms: StoreTerms::default() })
    }

    #[test]
    fn the_oldest_make_room_and_what_is_put_back_comes_first() {
        let backlog = Backlog::default();
        for id in 0..ENDS_MAX as u128 {
            assert!(backlog.push(release(id)));
        }
        assert!(!backlog.push(release(7)), "the oldest was given up");
        let first = backlog.take(2);
        assert_eq!(first.iter().map(|waiting| waiting.end.clone()).collect::<Vec<_>>(), [release(1), release(2)]);
        assert_eq!(backlog.len(), ENDS_MAX - 2);
        for waiting in first.into_iter().rev() {
            assert!(backlog.put_back(waiting));
        }
        assert!(!backlog.put_back(Waiting { end: release(9), tries: 0 }));
        assert_eq!(backlog.take(1)[0].end, release(1));
    }

    #[test]
    fn an_end_that_makes_no_sense_is_tried_three_times() {
        let waiting = Waiting { end: release(1), tries: 0 };
        let third = waiting.again().and_then(Waiting::again);
        assert_eq!(third.as_ref().map(|waiting| waiting.tries), Some(2));
        assert!(third.and_then(Waiting::again).is_none());
    }
}
