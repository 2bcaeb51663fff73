//! Models that servers have under one name but with different content.
//!
//! A (server, model) pair whose digest differs from that of most servers is quarantined: the pair leaves the pool, and
//! the rest of the server stays. "Most" is more than half of at least three servers, or a digest pinned by the
//! operator. With two servers that differ nothing says which one is right: quarantining either would halve the pool on
//! a guess, and during a rolling update it would take out the server that was updated. So herdgate reports such a
//! difference, and both go on serving.
//!
//! Servers that are down vote with the content that they had last: otherwise one server's outage would turn a majority
//! into a disagreement, and put a model that was taken out for good reason back into its pool.

use crate::decision::fleet::FleetView;
use crate::decision::plan::policy::Policy;
use crate::decision::request::name::ModelName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fewest servers that can have a majority.
const VOTERS_MIN: usize = 3;

/// Names of servers, and the digest that each has.
pub type Votes = Vec<(Arc<str>, Box<str>)>;

/// A model of which servers have different content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The model.
    pub model: ModelName,
    /// The name and the digest of each server, in the order of the configuration.
    pub digests: Vec<(Arc<str>, Box<str>)>,
    /// The right digest, pinned or of the majority; `None` if there is none.
    pub expected: Option<Box<str>>,
    /// The servers that are quarantined for this model; empty if `expected` is `None`.
    pub odd: Vec<Arc<str>>,
}

impl Disagreement {
    /// Returns whether this takes `model` of `server` out of the pool.
    pub fn quarantines(&self, model: &ModelName, server: &Arc<str>) -> bool {
        self.model == *model && self.odd.contains(server)
    }

    /// Returns the digest that a server has.
    pub fn digest_of(&self, server: &str) -> Option<&str> {
        self.digests.iter().find(|(name, _)| **name == *server).map(|(_, digest)| &**digest)
    }
}

/// Returns every disagreement among the configured servers, in order of model.
pub fn disagreements(policy: &Policy, fleet: &FleetView) -> Vec<Disagreement> {
    let mut digests: BTreeMap<&ModelName, Votes> = BTreeMap::new();
    for server in &policy.servers {
        let Some(seen) = fleet.servers.get(&server.name) else { continue };
        for model in seen.inventory.models.iter().filter(|model| !model.digest.is_empty()) {
            let votes = digests.entry(&model.name).or_default();
            // Two spellings of one model on one server are one vote.
            if votes.last().is_none_or(|(name, _)| *name != server.name) {
                votes.push((server.name.clone(), model.digest.clone()));
            }
        }
    }
    digests.into_iter().filter_map(|(model, digests)| judge(model, digests, None)).collect()
}

/// Judges the digests of one model. Returns `None` if all agree. A pin applies whatever the servers have.
pub fn judge(model: &ModelName, digests: Votes, pin: Option<&str>) -> Option<Disagreement> {
    let expected: Option<Box<str>> = match pin {
        Some(pin) => Some(pin.into()),
        None => {
            let (_, first) = digests.first()?;
            if digests.iter().all(|(_, digest)| digest == first) {
                return None;
            }
            majority(&digests).map(Into::into)
        }
    };
    let odd: Vec<Arc<str>> = match &expected {
        Some(expected) => {
            digests.iter().filter(|(_, digest)| digest != expected).map(|(name, _)| name.clone()).collect()
        }
        None => Vec::new(),
    };
    let disagree = expected.is_none() || !odd.is_empty();
    disagree.then(|| Disagreement { model: model.clone(), digests, expected, odd })
}

fn majority(digests: &[(Arc<str>, Box<str>)]) -> Option<&str> {
    if digests.len() < VOTERS_MIN {
        return None;
    }
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, digest) in digests {
        let count = votes.entry(digest).or_default();
        *count = count.saturating_add(1);
    }
    votes.into_iter().find(|(_, count)| count.saturating_mul(2) > digests.len()).map(|(digest, _)| digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the digest that is right and the positions quarantined. In `digests` one letter a server is its digest.
    fn check(digests: &str, pin: Option<&str>, expected: Option<(Option<&str>, &[usize])>) {
        let name = |position: usize| -> Arc<str> { format!("s{position}").into() };
        let votes = digests.chars().enumerate().map(|(at, digest)| (name(at), digest.to_string().into())).collect();
        let found = judge(&ModelName::canonical("m"), votes, pin);
        let seen = found.as_ref().map(|found| (found.expected.as_deref(), found.odd.clone()));
        let expected = expected.map(|(digest, odd)| (digest, odd.iter().map(|at| name(*at)).collect::<Vec<_>>()));
        assert_eq!(seen, expected, "{digests}, pin {pin:?}");
    }

    #[test]
    fn the_majority_of_three_or_a_pin_decides_and_two_alone_do_not() {
        check("", None, None);
        check("a", None, None);
        check("aa", None, None);
        check("aaaa", None, None);
        check("ab", None, Some((None, &[]))); // nobody knows who is right
        check("aab", None, Some((Some("a"), &[2])));
        check("abb", None, Some((Some("b"), &[0]))); // the rest of a rolling update
        check("abc", None, Some((None, &[])));
        check("aabb", None, Some((None, &[]))); // half is not most
        check("aabba", None, Some((Some("a"), &[2, 3])));
        check("aabbc", None, Some((None, &[])));
        check("ab", Some("b"), Some((Some("b"), &[0])));
        check("aab", Some("b"), Some((Some("b"), &[0, 1])));
        check("bbb", Some("b"), None);
        check("a", Some("b"), Some((Some("b"), &[0])));
    }
}
