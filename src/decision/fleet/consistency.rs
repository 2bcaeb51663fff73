//! Models that servers have under one name and with different content.
//!
//! A (server, model) pair whose digest differs from that of most servers is quarantined: the pair leaves the pool, and the
//! rest of the server stays. "Most" is more than half of at least three servers, or a digest pinned by the operator. With
//! two that differ nothing says which one is right: quarantining either would halve the pool on a guess, and during a
//! rolling update it would take out the server that was updated. So that is told, and both go on serving.
//!
//! Servers that are down vote with what they had last: otherwise one server's outage would turn a majority into a
//! disagreement, and put a model that was taken out for good reason back into its pool.

use crate::decision::fleet::FleetView;
use crate::decision::plan::policy::Policy;
use crate::decision::request::name::ModelName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fewest servers of which a majority is one.
const VOTERS_MIN: usize = 3;

/// Servers, and the digest each has.
pub type Votes = Vec<(Arc<str>, Box<str>)>;

/// A model of which servers have different content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The model.
    pub model: ModelName,
    /// What each server has: name and digest, in the order of the configuration.
    pub digests: Vec<(Arc<str>, Box<str>)>,
    /// The digest that holds, pinned or of the majority; `None` where there is none.
    pub expected: Option<Box<str>>,
    /// The servers quarantined for this model; empty where `expected` is `None`.
    pub odd: Vec<Arc<str>>,
}

impl Disagreement {
    /// Whether this takes `model` of `server` out of the pool.
    pub fn quarantines(&self, model: &ModelName, server: &Arc<str>) -> bool {
        self.model == *model && self.odd.contains(server)
    }

    /// What a server has.
    pub fn digest_of(&self, server: &str) -> Option<&str> {
        self.digests.iter().find(|(name, _)| **name == *server).map(|(_, digest)| &**digest)
    }
}

/// Every disagreement among the configured servers, in order of model.
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

/// What follows from the digests of one model; `None` where all agree. A pin holds whatever the servers have.
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

    /// One letter a server is its digest; the expectation is the digest that holds and the positions quarantined.
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
