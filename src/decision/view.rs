//! The one immutable value a decision reads: policy, keys and fleet, and what follows from having them together.

use super::moment::Moment;
use crate::decision::caller::blocks::Blocks;
use crate::decision::caller::keyset::{Key, KeySet};
use crate::decision::caller::token::Rings;
use crate::decision::fleet::FleetView;
use crate::decision::fleet::roster::Roster;
use crate::decision::plan::policy::{Plan, PlanIndex, Policy, Team};
use crate::decision::plan::server::{Server, ServerIndex};
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
    /// Who is shut out for a time.
    pub blocks: Arc<Blocks>,
    /// [`KeySet::teams`] → [`Policy::teams`]; `None` where the team is not configured.
    key_teams: Vec<Option<usize>>,
    /// The issuers' keys, as they were last fetched.
    pub rings: Arc<Rings>,
    /// Another number whenever the policy or an issuer's keys are others: what was proven of a token then no longer holds.
    pub token_epoch: u64,
    /// [`KeySet::plans`] → [`Policy::plans`]; `None` where the plan is not configured.
    key_plans: Vec<Option<PlanIndex>>,
}

impl View {
    /// Brings the three together; nobody is blocked.
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

    /// The same with these blocks.
    pub fn with_blocks(self, blocks: Arc<Blocks>) -> View {
        View { blocks, ..self }
    }

    /// The same with these keys of issuers, as what follows `previous`.
    #[must_use]
    pub fn after(self, previous: &View, rings: Arc<Rings>) -> View {
        let same = Arc::ptr_eq(&self.policy, &previous.policy) && previous.rings.same_keys(&rings);
        let token_epoch = previous.token_epoch.wrapping_add(u64::from(!same));
        View { rings, token_epoch, ..self }
    }

    /// The team at a position of [`KeySet::teams`], where it is configured.
    pub fn team_at(&self, position: u16) -> Option<&Team> {
        self.policy.teams.get((*self.key_teams.get(usize::from(position))?)?)
    }

    /// The plan of a key, where it is configured.
    pub fn plan_of(&self, key: &Key) -> Option<(PlanIndex, &Plan)> {
        self.plan_at(key.plan)
    }

    /// The plan whose limits hold for a key in place of its own plan's now, where it is raised and that is configured.
    pub fn raised(&self, key: &Key, now: Moment) -> Option<&Plan> {
        Some(self.plan_at(self.keys.raised(key.scope, now.unix_ms)?.plan)?.1)
    }

    /// The team of a key, where it is configured.
    pub fn team_of(&self, key: &Key) -> Option<&Team> {
        let name = self.keys.teams().get(usize::from(key.team?))?;
        self.policy.teams.iter().find(|team| team.name == *name)
    }

    /// The plan at a position of [`KeySet::plans`], where it is configured.
    pub fn plan_at(&self, position: u16) -> Option<(PlanIndex, &Plan)> {
        let index = (*self.key_plans.get(usize::from(position))?)?;
        Some((index, self.plan(index)?))
    }

    /// A plan by its position in the policy.
    pub fn plan(&self, index: PlanIndex) -> Option<&Plan> {
        self.policy.plans.get(usize::from(index.0))
    }

    /// A server by its position.
    pub fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.policy.servers.get(usize::from(index.0))
    }
}
