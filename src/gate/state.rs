//! The only shared state that decisions read: the current View, swapped whole by one writer at a time.

use crate::decision::caller::blocks::Blocks;
use crate::decision::caller::keyset::KeySet;
use crate::decision::caller::token::Rings;
use crate::decision::fleet::FleetView;
use crate::decision::plan::policy::Policy;
use crate::decision::view::View;
use arc_swap::{ArcSwap, Guard};
use std::sync::{Arc, Mutex, PoisonError};

/// Holds the current [`View`].
#[derive(Default)]
pub struct State {
    view: ArcSwap<View>,
    /// Held while a new View is composed, so that two changes at once cannot lose one another.
    writer: Mutex<()>,
}

impl State {
    /// A state with an empty view, which refuses everything.
    pub fn new() -> State {
        State::default()
    }

    /// The current view. Cheap; hold it for one decision.
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The current view, to be held while something is waited for.
    pub fn view_owned(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Publishes a new policy (configuration reloaded).
    pub fn publish_policy(&self, policy: Arc<Policy>) {
        self.publish(|view| View::compose(policy, view.keys.clone(), view.fleet.clone()));
    }

    /// Publishes new keys (`keys.toml` changed).
    pub fn publish_keys(&self, keys: Arc<KeySet>) {
        self.publish(|view| View::compose(view.policy.clone(), keys, view.fleet.clone()));
    }

    /// Publishes what the probes found.
    pub fn publish_fleet(&self, fleet: Arc<FleetView>) {
        self.publish(|view| View::compose(view.policy.clone(), view.keys.clone(), fleet));
    }

    /// Changes who is shut out for a time, where `change` answers something.
    pub fn change_blocks(&self, change: impl FnOnce(&View) -> Option<Blocks>) -> bool {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view.load();
        let Some(blocks) = change(&view) else { return false };
        let same = View::compose(view.policy.clone(), view.keys.clone(), view.fleet.clone());
        self.view.store(Arc::new(same.with_blocks(Arc::new(blocks)).after(&view, view.rings.clone())));
        true
    }

    /// Publishes new keys of issuers.
    pub fn publish_rings(&self, change: impl FnOnce(&Rings) -> Rings) {
        self.publish_with(
            |view| View::compose(view.policy.clone(), view.keys.clone(), view.fleet.clone()),
            |view| Arc::new(change(&view.rings)),
        );
    }

    fn publish(&self, compose: impl FnOnce(&View) -> View) {
        self.publish_with(compose, |view| view.rings.clone());
    }

    fn publish_with(&self, compose: impl FnOnce(&View) -> View, rings: impl FnOnce(&View) -> Arc<Rings>) {
        // Poisoned only if composing panicked, in which case the old view still stands and is sound.
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view.load();
        let next = compose(&view).with_blocks(view.blocks.clone()).after(&view, rings(&view));
        self.view.store(Arc::new(next));
    }
}
