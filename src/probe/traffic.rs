//! What real traffic proved of each server: the proxies' usage lines are noted here, and deep checks are saved by them.

use crate::decision::moment::Moment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// When a real request last succeeded on each server. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<BTreeMap<Arc<str>, Option<Moment>>>>);

impl Traffic {
    /// Notes that `server` answered a real request with generated text at `at`. A server that is not probed is passed over,
    /// so that names on the wire cannot make this grow.
    pub fn note_success(&self, server: &str, at: Moment) {
        if let Some(last) = self.lock().get_mut(server) {
            *last = (*last).max(Some(at));
        }
    }

    /// When a real request last succeeded on `server`.
    pub fn last_success(&self, server: &str) -> Option<Moment> {
        self.lock().get(server).copied().flatten()
    }

    /// Keeps these servers, and forgets the others.
    pub(super) fn retain<'n>(&self, servers: impl Iterator<Item = &'n Arc<str>>) {
        let mut noted = self.lock();
        let mut before = std::mem::take(&mut *noted);
        *noted = servers.map(|name| (name.clone(), before.remove(name).flatten())).collect();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Option<Moment>>> {
        // A panic elsewhere cannot leave a half-written instant behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_success_of_a_known_server_counts() {
        let at = |ms: u64| Moment::default().plus_ns(ms * 1_000_000);
        let traffic = Traffic::default();
        traffic.note_success("a", at(1));
        assert_eq!(traffic.last_success("a"), None, "not probed");
        let names: [Arc<str>; 2] = ["a".into(), "b".into()];
        traffic.retain(names.iter());
        for ms in [5, 9, 7] {
            traffic.note_success("a", at(ms));
        }
        assert_eq!((traffic.last_success("a"), traffic.last_success("b")), (Some(at(9)), None));
        traffic.retain(names[..1].iter());
        assert_eq!(traffic.last_success("a"), Some(at(9)), "a reload keeps what is known");
        traffic.note_success("b", at(9));
        assert_eq!(traffic.last_success("b"), None);
    }
}
