//! The current View, which is the only shared state that decisions read. One writer at a time replaces it whole.

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
    /// Locked while a new View is composed, so that of two changes at once none is lost.
    writer: Mutex<()>,
}

impl State {
    /// Returns a state with an empty view, which refuses everything.
    pub fn new() -> State {
        State::default()
    }

    /// Returns the current view. Cheap; to be held for one decision.
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Returns the current view in a form that may be held across an await.
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

    /// Replaces the blocks by those that `change` returns. Returns false where it returns none.
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
