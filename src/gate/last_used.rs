//! When each secret was last used. Decisions note it in memory, to the second; `serve` writes it to a file.

use dashmap::DashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Fingerprints of secrets and when each last authenticated. Bounded by the keys of the file: no other secret authenticates.
#[derive(Debug, Default)]
pub struct LastUsed {
    /// Sharded, because every decision that authenticates notes a use while the others do.
    unix_s: DashMap<u64, AtomicI64, foldhash::fast::RandomState>,
    changed: AtomicBool,
}

impl LastUsed {
    /// Notes that a secret has authenticated. Allocates only for the first use of a secret since the start.
    pub fn note(&self, fingerprint: u64, unix_ms: i64) {
        let unix_s = unix_ms.div_euclid(1_000);
        match self.unix_s.get(&fingerprint) {
            Some(noted) if noted.load(Ordering::Relaxed) >= unix_s => return,
            Some(noted) => noted.store(unix_s, Ordering::Relaxed),
            None => drop(self.unix_s.insert(fingerprint, AtomicI64::new(unix_s))),
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Adds the uses that an earlier run wrote down. A later use that is known already stays.
    pub fn recall(&self, written: impl IntoIterator<Item = (u64, i64)>) {
        for (fingerprint, unix_s) in written {
            self.unix_s.entry(fingerprint).or_default().fetch_max(unix_s, Ordering::Relaxed);
        }
    }

    /// Returns the last uses in the order of fingerprints; `None` where nothing changed since the last call. Forgets secrets that
    /// no longer exist.
    pub fn changed(&self, exists: impl Fn(u64) -> bool) -> Option<Vec<(u64, i64)>> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        self.unix_s.retain(|fingerprint, _| exists(*fingerprint));
        let noted = self.unix_s.iter().map(|noted| (*noted.key(), noted.value().load(Ordering::Relaxed)));
        let mut noted: Vec<(u64, i64)> = noted.collect();
        noted.sort_unstable();
        Some(noted)
    }

    /// Makes [`LastUsed::changed`] return the uses again, because they could not be written.
    pub fn not_written(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_is_known_and_told_once() {
        let used = LastUsed::default();
        assert_eq!(used.changed(|_| true), None);
        used.note(7, 5_999);
        used.note(8, 1_000);
        used.note(7, 3_000);
        used.recall([(7, 4), (9, 2)]);
        assert_eq!(used.changed(|fingerprint| fingerprint != 8), Some(vec![(7, 5), (9, 2)]));
        assert_eq!(used.changed(|_| true), None, "nothing new");
        used.note(7, 5_000);
        assert_eq!(used.changed(|_| true), None, "the same second");
        used.not_written();
        assert_eq!(used.changed(|_| true), Some(vec![(7, 5), (9, 2)]));
    }
}
