//! Which server can serve which model right now: policy and fleet combined once per change, so that a decision is a
//! look-up.

use super::capacity;
use super::consistency::{self, Disagreement};
use crate::decision::fleet::{FleetView, Model, Preference, ServerState};
use crate::decision::plan::policy::{ModelPattern, PlanIndex, Policy};
use crate::decision::plan::server::{Server, ServerIndex};
use crate::decision::request::name::ModelName;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// The servers that have one model, and the order in which they take turns.
#[derive(Debug)]
pub struct Pool {
    /// The model.
    pub name: ModelName,
    /// The key under which the pool's turns, slots and estimates are kept.
    pub key: PoolKey,
    /// The servers that have the model, live or not.
    pub members: Vec<ServerIndex>,
    /// One round of smooth weighted rotation over the live members; empty if none is live.
    pub rotation: Vec<ServerIndex>,
    /// The live members, each once.
    pub live: Vec<ServerIndex>,
    /// Most requests in flight that its live members take at once, over all models.
    pub capacity: u64,
    /// The model as it is listed: by the first live member that has it, else by the first member.
    pub listed: Model,
    /// Whether each plan may use this model, by position of the plan.
    permitted: Vec<bool>,
}

impl Pool {
    /// Returns whether callers on this plan may use the model.
    pub fn permits(&self, plan: PlanIndex) -> bool {
        self.permitted.get(usize::from(plan.0)).copied().unwrap_or(false)
    }
}

/// All pools, and the facts about servers that a choice needs.
#[derive(Debug, Default)]
pub struct Roster {
    /// The pools, in order of their canonical names.
    pub pools: Vec<Pool>,
    /// One round over all live servers, for ingresses that show no body.
    pub everywhere: Vec<ServerIndex>,
    /// The keys of the servers, stable over reloads, in the order of the policy.
    pub server_keys: Vec<ServerKey>,
    /// Most requests in flight that each server takes at once, in the order of the policy.
    pub capacities: Vec<u32>,
    /// How readily each server is chosen, in the order of the policy.
    pub preferences: Vec<Preference>,
    /// Whether each plan may use every model there is, by position of the plan.
    permitted_all: Vec<bool>,
    /// Whether no probe of some server has finished yet, so that an unknown model may yet appear.
    pub incomplete: bool,
    /// The models that servers have with different content, and the servers quarantined for it.
    pub disagreements: Vec<Disagreement>,
}

impl Roster {
    /// Combines policy and fleet.
    pub fn new(policy: &Policy, fleet: &FleetView) -> Roster {
        let mut members: BTreeMap<ModelName, Vec<(ServerIndex, bool, Model)>> = BTreeMap::new();
        let mut everywhere = Vec::new();
        let mut incomplete = false;
        let disagreements = consistency::disagreements(policy, fleet);
        for (position, server) in policy.servers.iter().enumerate() {
            let Ok(index) = u16::try_from(position).map(ServerIndex) else { break };
            let Some(view) = fleet.servers.get(&server.name) else {
                incomplete = true;
                continue;
            };
            incomplete |= view.state == ServerState::Unknown;
            let live = view.state.is_live() && server.weight > 0;
            if live {
                everywhere.push((index, server.weight));
            }
            for model in &view.inventory.models {
                let servers = members.entry(model.name.clone()).or_default();
                // Two spellings of one model on one server are one member.
                if servers.last().is_none_or(|(last, _, _)| *last != index) {
                    let quarantined = disagreements.iter().any(|found| found.quarantines(&model.name, &server.name));
                    servers.push((index, live && !quarantined, model.clone()));
                }
            }
        }
        let server_keys = policy.servers.iter().map(|server| ServerKey::of(&server.name)).collect();
        let capacity = |server: &Server| match fleet.servers.get(&server.name) {
            Some(seen) => capacity::of(server, &seen.inventory),
            None => 1,
        };
        let capacities: Vec<u32> = policy.servers.iter().map(capacity).collect();
        let preference =
            |server: &Server| fleet.servers.get(&server.name).map_or(Preference::Sound, |seen| seen.preference);
        let preferences = policy.servers.iter().map(preference).collect();
        let mut roster = Roster {
            preferences,
            capacities,
            everywhere: smooth_rotation(&everywhere),
            server_keys,
            incomplete,
            disagreements,
            ..Roster::default()
        };
        for (name, servers) in members {
            let live: Vec<_> = servers
                .iter()
                .filter(|(_, live, _)| *live)
                .filter_map(|(index, _, _)| {
                    policy.servers.get(usize::from(index.0)).map(|server| (*index, server.weight))
                })
                .collect();
            let Some(listed) =
                servers.iter().find(|(_, live, _)| *live).or(servers.first()).map(|(_, _, model)| model.clone())
            else {
                continue;
            };
            let remote = servers.iter().any(|(_, _, model)| model.remote);
            let permits = |pattern: &ModelPattern| pattern.permits(&name) && !(remote && pattern.is_glob());
            let permitted = policy.plans.iter().map(|plan| plan.models.iter().any(permits)).collect();
            let takes = |(index, _): &(ServerIndex, u16)| roster.capacities.get(usize::from(index.0)).copied();
            let capacity = live.iter().filter_map(takes).map(u64::from).sum();
            roster.pools.push(Pool {
                live: live.iter().map(|(index, _)| *index).collect(),
                capacity,
                key: PoolKey::of(&name),
                members: servers.iter().map(|(index, _, _)| *index).collect(),
                rotation: smooth_rotation(&live),
                listed,
                permitted,
                name,
            });
        }
        roster.permitted_all = (0..policy.plans.len())
            .map(|plan| roster.pools.iter().all(|pool| pool.permitted.get(plan).copied().unwrap_or(false)))
            .collect();
        roster
    }

    /// Returns whether callers on this plan may use every model that some server has, including those that leave the
    /// fleet.
    pub fn permits_all(&self, plan: PlanIndex) -> bool {
        self.permitted_all.get(usize::from(plan.0)).copied().unwrap_or(false)
    }

    /// Returns the pool of a canonical name.
    pub fn get(&self, canonical: &str) -> Option<&Pool> {
        // A fleet has tens of models: a few comparisons are quicker than hashing the name.
        let position = self.pools.binary_search_by(|pool| pool.name.as_str().cmp(canonical)).ok()?;
        self.pools.get(position)
    }
}

/// Longest round of a rotation. Weights are 0 to 256; a longer round is shortened by halving them, which keeps the
/// proportions to within one part in the round.
const ROUND_MAX: usize = 1024;

/// Returns one round of smooth weighted round robin (nginx, `ngx_http_upstream_round_robin.c`): at each turn every
/// server gains its weight, and the richest is taken and pays the total. This spreads the turns of a heavy server
/// instead of bunching them.
fn smooth_rotation(servers: &[(ServerIndex, u16)]) -> Vec<ServerIndex> {
    let mut weights: Vec<i64> = servers.iter().map(|(_, weight)| i64::from(*weight)).collect();
    let divisor = weights.iter().copied().fold(0, gcd);
    if divisor == 0 {
        return Vec::new();
    }
    weights.iter_mut().for_each(|weight| *weight /= divisor);
    while weights.iter().sum::<i64>() > ROUND_MAX as i64 && weights.iter().any(|weight| *weight > 1) {
        weights.iter_mut().for_each(|weight| *weight = (*weight / 2).max(1));
    }
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    (0..total)
        .filter_map(|_| {
            credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            // The first of the richest, as nginx chooses it.
            let richest = (0..credit.len()).rev().max_by_key(|&position| credit[position])?;
            credit[richest] -= total;
            Some(servers[richest].0)
        })
        .collect()
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A server, by a hash of its name: stable over reloads and alike in every herdgate. Never `u64::MAX`, which stands for
/// no server where a reservation is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(u64);

impl ServerKey {
    /// Returns the key of the server with this name.
    pub fn of(name: &str) -> ServerKey {
        ServerKey(name_hash(name).min(u64::MAX - 1))
    }

    /// Returns the key that is this number; `None` for `u64::MAX`.
    pub fn new(number: u64) -> Option<ServerKey> {
        (number != u64::MAX).then_some(ServerKey(number))
    }

    /// Returns the key as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A pool, by a hash of its model's name: stable over reloads and alike in every herdgate. Never 0, which stands for no
/// pool where it is stored or sent; so an `Option` of it takes no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey(NonZeroU64);

impl PoolKey {
    /// Returns the key of the pool of this model.
    pub fn of(model: &ModelName) -> PoolKey {
        PoolKey(NonZeroU64::new(name_hash(model.as_str())).unwrap_or(NonZeroU64::MIN))
    }

    /// Returns the key that is this number; `None` for 0.
    pub fn new(number: u64) -> Option<PoolKey> {
        NonZeroU64::new(number).map(PoolKey)
    }

    /// Returns the key as a number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// Returns the FNV-1a hash of a name: stable, and good enough to tell the models and the servers of one fleet apart
/// (those that collide would share a turn counter, slots and estimates).
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(weights: &[u16]) -> String {
        let servers: Vec<_> = weights.iter().enumerate().map(|(i, w)| (ServerIndex(i as u16), *w)).collect();
        smooth_rotation(&servers).iter().map(|index| char::from(b'a' + index.0 as u8)).collect()
    }

    #[test]
    fn a_round_spreads_the_turns_of_a_heavy_server() {
        let cases: [(&[u16], &str); 7] = [
            (&[100], "a"),
            (&[100, 100], "ab"),
            (&[5, 1, 1], "aabacaa"),
            (&[200, 100], "aba"),
            (&[0, 100], "b"),
            (&[], ""),
            (&[0], ""),
        ];
        for (weights, expected) in cases {
            assert_eq!(round(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn a_round_is_bounded_and_leaves_no_live_server_out() {
        let weights: Vec<u16> = (0..50).map(|i| 199 + i).collect();
        let servers: Vec<_> = weights.iter().enumerate().map(|(i, w)| (ServerIndex(i as u16), *w)).collect();
        let round = smooth_rotation(&servers);
        assert!(round.len() <= ROUND_MAX, "{}", round.len());
        for (index, _) in servers {
            assert!(round.contains(&index), "{index:?}");
        }
    }
}
