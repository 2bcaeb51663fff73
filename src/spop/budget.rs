//! Bytes that all connections of one listener may hold in begun frames.
//!
//! Each connection may hold one frame of up to a megabyte, and there may be 16,384 of them: without a common bound, peers
//! that begin frames and never end them could make herdgate hold 16 GiB. Small buffers, which every connection has, are
//! bounded by the number of connections and are not counted here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are left.
#[derive(Debug)]
pub struct FrameBudget {
    left: AtomicUsize,
}

impl FrameBudget {
    /// Returns a budget of so many bytes.
    pub fn new(bytes: usize) -> FrameBudget {
        FrameBudget { left: AtomicUsize::new(bytes) }
    }

    /// Returns a share of this budget that holds nothing yet.
    pub fn charge(&self) -> Charge<'_> {
        Charge { budget: self, bytes: 0 }
    }
}

/// Share of one connection. Dropping it frees the share.
#[derive(Debug)]
pub struct Charge<'b> {
    budget: &'b FrameBudget,
    bytes: usize,
}

impl Charge<'_> {
    /// Holds `bytes` instead of what it held. Returns false, and changes nothing, where the budget has fewer left.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let taken =
                self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        } else {
            self.budget.left.fetch_add(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_never_exceeds_the_budget_and_comes_back() {
        let budget = FrameBudget::new(100);
        let (mut a, mut b) = (budget.charge(), budget.charge());
        assert!(a.set(60) && b.set(40));
        assert!(!b.set(41) && !a.set(61));
        assert!(a.set(10) && b.set(90));
        assert!(!a.set(11), "nothing changed where there was no room");
        drop(b);
        assert!(a.set(100));
        drop(a);
        assert_eq!(budget.left.into_inner(), 100);
    }
}
