//! Outcomes of real requests at each server: usage lines are noted here, and the probes read them.
//!
//! A success makes a deep check unnecessary. Failures, and successes while there is trouble, go on to the server's breaker.

use crate::decision::fleet::ServiceResult;
use crate::decision::moment::Moment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most outcomes that may wait for the probes; further ones are dropped, which delays a breaker and loses no request.
const PENDING_MAX: usize = 4096;

/// An outcome for the server's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedReport {
    /// The server.
    pub server: Arc<str>,
    /// How the request went.
    pub served: ServiceResult,
}

#[derive(Debug, Clone, Copy, Default)]
struct Noted {
    last_success: Option<Moment>,
    /// Whether successes matter to the breaker as well.
    troubled: bool,
}

#[derive(Debug, Default)]
struct Board {
    servers: BTreeMap<Arc<str>, Noted>,
    pending: Vec<ServedReport>,
}

/// The outcomes of real requests. Clones are cheap and share one store.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<(Mutex<Board>, Notify)>);

impl Traffic {
    /// Notes how a real request went at `server`. A server that is not probed is ignored, so that names on the wire cannot make
    /// this grow.
    pub fn note(&self, server: &str, served: ServiceResult, at: Moment) {
        let mut board = self.lock();
        let Board { servers, pending } = &mut *board;
        let Some((name, _)) = servers.get_key_value(server) else { return };
        let name = name.clone();
        let Some(noted) = servers.get_mut(server) else { return };
        if served == ServiceResult::Well {
            noted.last_success = noted.last_success.max(Some(at));
        }
        let matters = noted.troubled || served != ServiceResult::Well;
        // Set at once, so that the successes right after a failure count as well.
        noted.troubled = matters;
        if matters && pending.len() < PENDING_MAX {
            pending.push(ServedReport { server: name, served });
            self.0.1.notify_one();
        }
    }

    /// Returns when a real request last succeeded on `server`.
    pub fn last_success(&self, server: &str) -> Option<Moment> {
        self.lock().servers.get(server).and_then(|noted| noted.last_success)
    }

    /// Waits for outcomes that matter to a breaker, in order. Cancelling loses none.
    pub async fn outcomes(&self) -> Vec<ServedReport> {
        loop {
            let pending = std::mem::take(&mut self.lock().pending);
            if !pending.is_empty() {
                return pending;
            }
            self.0.1.notified().await;
        }
    }

    /// Sets whether successes on `server` matter to its breaker.
    pub fn set_troubled(&self, server: &str, troubled: bool) {
        if let Some(noted) = self.lock().servers.get_mut(server) {
            noted.troubled = troubled;
        }
    }

    /// Removes all servers but these.
    pub fn retain<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) {
        let mut board = self.lock();
        let mut before = std::mem::take(&mut board.servers);
        board.servers = names.map(|name| (name.clone(), before.remove(name).unwrap_or_default())).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // A panic elsewhere cannot leave half an entry behind.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::default().plus_ns(ms * 1_000_000)
    }

    #[test]
    fn the_latest_success_of_a_known_server_counts() {
        let traffic = Traffic::default();
        traffic.note("a", ServiceResult::Well, at(1));
        assert_eq!(traffic.last_success("a"), None, "not probed");
        let names: [Arc<str>; 2] = ["a".into(), "b".into()];
        traffic.retain(names.iter());
        for ms in [5, 9, 7] {
            traffic.note("a", ServiceResult::Well, at(ms));
        }
        traffic.note("b", ServiceResult::Badly("status"), at(8));
        assert_eq!((traffic.last_success("a"), traffic.last_success("b")), (Some(at(9)), None));
        traffic.retain(names[..1].iter());
        assert_eq!(traffic.last_success("a"), Some(at(9)), "a reload keeps what is known");
        traffic.note("b", ServiceResult::Well, at(9));
        assert_eq!(traffic.last_success("b"), None);
    }

    #[tokio::test]
    async fn failures_and_the_successes_around_them_go_on_to_the_breaker_and_others_do_not() {
        let traffic = Traffic::default();
        let names: [Arc<str>; 1] = ["a".into()];
        traffic.retain(names.iter());
        let bad = ServiceResult::Badly("status");
        for served in [ServiceResult::Well, bad, ServiceResult::Well, bad] {
            traffic.note("a", served, at(1));
        }
        traffic.note("b", bad, at(1));
        let told: Vec<_> = traffic.outcomes().await.into_iter().map(|outcome| outcome.served).collect();
        assert_eq!(told, [bad, ServiceResult::Well, bad]);
        traffic.set_troubled("a", false);
        traffic.note("a", ServiceResult::Well, at(2));
        (0..PENDING_MAX + 9).for_each(|_| traffic.note("a", bad, at(3)));
        assert_eq!(traffic.outcomes().await.len(), PENDING_MAX, "bounded");
    }
}
