//! The one immutable value that a decision reads: policy, keys and fleet, and what follows from their combination.

use super::moment::Moment;
use crate::decision::caller::blocks::Blocks;
use crate::decision::caller::keyset::{Key, KeySet};
use crate::decision::caller::token::Rings;
use crate::decision::fleet::FleetView;
use crate::decision::fleet::roster::Roster;
use crate::decision::plan::policy::{Plan, PlanIndex, Policy, Team};
use crate::decision::plan::server::{Server, ServerIndex};
use std::sync::Arc;

/// A snapshot composed by one writer and swapped whole, so that no decision sees a new plan with an old fleet.
#[derive(Debug, Default)]
pub struct View {
    /// Plans and servers, from the configuration.
    pub policy: Arc<Policy>,
    /// API keys, from `keys.toml`.
    pub keys: Arc<KeySet>,
    /// Servers as the probes found them.
    pub fleet: Arc<FleetView>,
    /// Which server can serve which model.
    pub roster: Roster,
    /// The keys and users that are blocked for a time.
    pub blocks: Arc<Blocks>,
    /// Position in [`Policy::teams`] of each of [`KeySet::teams`]; `None` if the team is not configured.
    key_teams: Vec<Option<usize>>,
    /// The issuers' keys, as they were last fetched.
    pub rings: Arc<Rings>,
    /// A number that changes whenever the policy or an issuer's keys change: earlier proofs of JWTs then no longer
    /// hold.
    pub token_epoch: u64,
    /// Position in [`Policy::plans`] of each of [`KeySet::plans`]; `None` if the plan is not configured.
    key_plans: Vec<Option<PlanIndex>>,
}

impl View {
    /// Combines policy, keys and fleet; nobody is blocked.
    pub fn compose(policy: Arc<Policy>, keys: Arc<KeySet>, fleet: Arc<FleetView>) -> View {
        let roster = Roster::new(&policy, &fleet);
        let key_plans = keys
            .plans()
            .iter()
            .map(|name| policy.plans.iter().position(|plan| plan.name == *name))
            .map(|position| position.and_then(|position| u16::try_from(position).ok()).map(PlanIndex))
            .collect();
        let team = |name: &Arc<str>| policy.teams.iter().position(|team| team.name == *name);
        let key_teams = keys.teams().iter().map(team).collect();
        View {
            policy,
            keys,
            fleet,
            roster,
            blocks: Arc::default(),
            rings: Arc::default(),
            token_epoch: 0,
            key_teams,
            key_plans,
        }
    }

    /// Returns the same view with these blocks.
    pub fn with_blocks(self, blocks: Arc<Blocks>) -> View {
        View { blocks, ..self }
    }

    /// Returns the same view with these issuers' keys, as the successor of `previous`.
    #[must_use]
    pub fn after(self, previous: &View, rings: Arc<Rings>) -> View {
        let same = Arc::ptr_eq(&self.policy, &previous.policy) && previous.rings.same_keys(&rings);
        let token_epoch = previous.token_epoch.wrapping_add(u64::from(!same));
        View { rings, token_epoch, ..self }
    }

    /// Returns the team at a position of [`KeySet::teams`], if it is configured.
    pub fn team_at(&self, position: u16) -> Option<&Team> {
        self.policy.teams.get((*self.key_teams.get(usize::from(position))?)?)
    }

    /// Returns the plan of a key, if it is configured.
    pub fn plan_of(&self, key: &Key) -> Option<(PlanIndex, &Plan)> {
        self.plan_at(key.plan)
    }

    /// Returns the temporary plan whose limits apply to a key now in place of its own plan's, if it has one and that is
    /// configured.
    pub fn raised(&self, key: &Key, now: Moment) -> Option<&Plan> {
        Some(self.plan_at(self.keys.raised(key.scope, now.unix_ms)?.plan)?.1)
    }

    /// Returns the team of a key, if it is configured.
    pub fn team_of(&self, key: &Key) -> Option<&Team> {
        let name = self.keys.teams().get(usize::from(key.team?))?;
        self.policy.teams.iter().find(|team| team.name == *name)
    }

    /// Returns the plan at a position of [`KeySet::plans`], if it is configured.
    pub fn plan_at(&self, position: u16) -> Option<(PlanIndex, &Plan)> {
        let index = (*self.key_plans.get(usize::from(position))?)?;
        Some((index, self.plan(index)?))
    }

    /// Returns a plan by its position in the policy.
    pub fn plan(&self, index: PlanIndex) -> Option<&Plan> {
        self.policy.plans.get(usize::from(index.0))
    }

    /// Returns a server by its position in the policy.
    pub fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.policy.servers.get(usize::from(index.0))
    }
}
