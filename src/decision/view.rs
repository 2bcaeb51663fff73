//! The one immutable value a decision reads: policy, keys and fleet, and what follows from having them together.

use super::fleet::FleetView;
use super::keyset::{Key, KeySet};
use super::policy::{Plan, PlanIndex, Policy, Server, ServerIndex};
use super::roster::Roster;
use std::sync::Arc;

/// Composed by one writer and swapped whole, so that no decision sees a new plan with an old fleet.
#[derive(Debug, Default)]
pub struct View {
    /// Plans and servers, from the configuration.
    pub policy: Arc<Policy>,
    /// Keys, from `keys.toml`.
    pub keys: Arc<KeySet>,
    /// Servers as the probes found them.
    pub fleet: Arc<FleetView>,
    /// Which server can serve which model.
    pub roster: Roster,
    /// [`KeySet::plans`] → [`Policy::plans`]; `None` where the plan is not configured.
    key_plans: Vec<Option<PlanIndex>>,
}

impl View {
    /// Brings the three together.
    pub fn compose(policy: Arc<Policy>, keys: Arc<KeySet>, fleet: Arc<FleetView>) -> View {
        let roster = Roster::new(&policy, &fleet);
        let key_plans = keys
            .plans()
            .iter()
            .map(|name| policy.plans.iter().position(|plan| plan.name == *name))
            .map(|position| position.and_then(|position| u16::try_from(position).ok()).map(PlanIndex))
            .collect();
        View { policy, keys, fleet, roster, key_plans }
    }

    /// The plan of a key, where it is configured.
    pub fn plan_of(&self, key: &Key) -> Option<(PlanIndex, &Plan)> {
        let index = (*self.key_plans.get(usize::from(key.plan))?)?;
        Some((index, self.policy.plans.get(usize::from(index.0))?))
    }

    /// A server by its position.
    pub fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.policy.servers.get(usize::from(index.0))
    }
}
