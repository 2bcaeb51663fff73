//! The key sets of all issuers, as they were last fetched.

use super::ring::Ring;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of each issuer's key set. An issuer from which no fetch has finished yet is absent.
#[derive(Debug, Clone, Default)]
pub struct Rings(BTreeMap<Arc<str>, FetchStatus>);

/// The state of fetching one issuer's key set.
#[derive(Debug, Clone, Default)]
pub struct FetchStatus {
    /// The issuer's keys; `None` until it has served a good set.
    pub loaded: Option<LoadedRing>,
    /// The failure of the last attempt; `None` if it succeeded.
    pub failure: Option<&'static str>,
    /// Number of attempts that have failed since the last success.
    pub failures: u32,
}

/// The key set of one issuer.
#[derive(Debug, Clone)]
pub struct LoadedRing {
    /// Its keys; the same value for as long as the issuer serves the same set.
    pub ring: Arc<Ring>,
    /// Monotonic nanoseconds at which the issuer last served it.
    pub confirmed_ns: u64,
}

impl Rings {
    /// Returns the key set of an issuer, if it has ever served one.
    pub fn get(&self, issuer: &str) -> Option<&LoadedRing> {
        self.0.get(issuer)?.loaded.as_ref()
    }

    /// Returns the state of an issuer's key set.
    pub fn fetched(&self, issuer: &str) -> Option<&FetchStatus> {
        self.0.get(issuer)
    }

    /// Returns the same sets with one issuer's replaced or added.
    #[must_use]
    pub fn with(&self, issuer: &Arc<str>, fetched: FetchStatus) -> Rings {
        let mut rings = self.clone();
        rings.0.insert(issuer.clone(), fetched);
        rings
    }

    /// Returns the same sets without one issuer's.
    #[must_use]
    pub fn without(&self, issuer: &str) -> Rings {
        let mut rings = self.clone();
        rings.0.remove(issuer);
        rings
    }

    /// Returns whether both have the same keys, whenever they were fetched. Proofs by one then hold by the other.
    pub fn same_keys(&self, other: &Rings) -> bool {
        let keys = |rings: &Rings| -> Vec<_> {
            let loaded = rings.0.iter().filter_map(|(issuer, fetched)| Some((issuer.clone(), fetched.loaded.clone()?)));
            loaded.map(|(issuer, loaded)| (issuer, Arc::as_ptr(&loaded.ring))).collect()
        };
        // Both values are alive, so equal addresses are the same set.
        keys(self) == keys(other)
    }
}
