//! The key sets of all issuers, as they were last fetched.

use super::ring::Ring;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of each issuer's keys, by issuer. One that was not asked to an end yet is absent.
#[derive(Debug, Clone, Default)]
pub struct Rings(BTreeMap<Arc<str>, Fetched>);

/// How an issuer's key set was fetched.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Its keys; `None` until it served a good set.
    pub loaded: Option<Loaded>,
    /// What the last attempt failed with; `None` where it did not.
    pub failure: Option<&'static str>,
    /// Attempts that failed, since one did not.
    pub failures: u32,
}

/// The key set of one issuer.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its keys; the same value for as long as the issuer serves the same set.
    pub ring: Arc<Ring>,
    /// Monotonic nanoseconds at which the issuer last served it.
    pub confirmed_ns: u64,
}

impl Rings {
    /// The set of an issuer, where it ever served one.
    pub fn get(&self, issuer: &str) -> Option<&Loaded> {
        self.0.get(issuer)?.loaded.as_ref()
    }

    /// What is known of an issuer's set.
    pub fn fetched(&self, issuer: &str) -> Option<&Fetched> {
        self.0.get(issuer)
    }

    /// The same with one issuer's replaced, or added.
    #[must_use]
    pub fn with(&self, issuer: &Arc<str>, fetched: Fetched) -> Rings {
        let mut rings = self.clone();
        rings.0.insert(issuer.clone(), fetched);
        rings
    }

    /// The same without one issuer's.
    #[must_use]
    pub fn without(&self, issuer: &str) -> Rings {
        let mut rings = self.clone();
        rings.0.remove(issuer);
        rings
    }

    /// Whether both have the same keys, whenever they were fetched. What was proven by one then holds by the other.
    pub fn same_keys(&self, other: &Rings) -> bool {
        let keys = |rings: &Rings| -> Vec<_> {
            let loaded = rings.0.iter().filter_map(|(issuer, fetched)| Some((issuer.clone(), fetched.loaded.clone()?)));
            loaded.map(|(issuer, loaded)| (issuer, Arc::as_ptr(&loaded.ring))).collect()
        };
        // Both values are alive, so that equal addresses are the same set.
        keys(self) == keys(other)
    }
}
