//! Which servers an operator drains. Kept in memory: a restart forgets it, as HAProxy's own runtime states are forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Most servers drained at once: more than a configuration can have.
const DRAINED_MAX: usize = 1000;

/// The names of drained servers, which can be followed.
#[derive(Debug, Default)]
pub struct Drains(watch::Sender<BTreeSet<Arc<str>>>);

impl Drains {
    /// Drains a server, or ends its drain. Returns false where nothing changed.
    pub fn set(&self, name: &Arc<str>, drained: bool) -> bool {
        self.0.send_if_modified(|names| {
            if drained { names.len() < DRAINED_MAX && names.insert(name.clone()) } else { names.remove(name) }
        })
    }

    /// Returns a receiver of the names and of each change.
    pub fn follow(&self) -> watch::Receiver<BTreeSet<Arc<str>>> {
        self.0.subscribe()
    }
}
