//! What one herdgate may grant by itself while the store is away: its share of each limit, and what that can come to. Pure.

use crate::decision::plan::limits::Quota;
use std::num::{NonZeroU32, NonZeroU64};

/// One of so many herdgates (`[ledger] replicas`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(pub NonZeroU32);

impl Fraction {
    /// Returns its share of a rate: the same count in a period that is longer by the number of herdgates, and its part
    /// of the burst, at least one.
    pub fn of_quota(self, quota: Quota) -> Quota {
        let replicas = NonZeroU64::from(self.0);
        let burst = NonZeroU64::new(quota.burst.get() / replicas).unwrap_or(NonZeroU64::MIN);
        Quota { period_ns: quota.period_ns.saturating_mul(replicas), burst, ..quota }
    }

    /// Returns its share of a number of places, at least one.
    pub fn of_count(self, count: u32) -> u32 {
        (count / self.0).max(1)
    }

    /// Returns its share of an amount, at least one.
    pub fn of_amount(self, amount: NonZeroU64) -> NonZeroU64 {
        NonZeroU64::new(amount.get() / NonZeroU64::from(self.0)).unwrap_or(NonZeroU64::MIN)
    }

    /// Returns the most that all herdgates together may grant beyond a rate because the store was away `times` times.
    /// Each time the shares are whole when it begins, and the store is whole again when it comes back, emptied or
    /// rested: twice what may come at once. And for as long as some were cut off while others were not (`apart_ns`),
    /// the shares flow beside the whole.
    pub fn overshoot(self, quota: Quota, times: u64, apart_ns: u64) -> u64 {
        let shares = self.of_quota(quota).burst.get().saturating_mul(self.0.get().into());
        let interval_ns = u128::from(quota.period_ns.get().div_ceil(quota.count.get()));
        let beside = u64::try_from(u128::from(apart_ns).div_ceil(interval_ns)).unwrap_or(u64::MAX);
        shares.saturating_add(quota.burst.get()).saturating_mul(times).saturating_add(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(count: u64, period_ns: u64, burst: u64) -> Quota {
        let some = |value| NonZeroU64::new(value).unwrap();
        Quota { count: some(count), period_ns: some(period_ns), burst: some(burst) }
    }

    #[test]
    fn shares_sum_up_to_the_limit_where_there_is_one_for_each() {
        for (replicas, whole, share) in [
            (1, quota(60, 1000, 20), quota(60, 1000, 20)),
            (2, quota(60, 1000, 20), quota(60, 2000, 10)),
            (3, quota(60, 1000, 20), quota(60, 3000, 6)),
            (3, quota(60, 1000, 2), quota(60, 3000, 1)),
        ] {
            assert_eq!(Fraction(NonZeroU32::new(replicas).unwrap()).of_quota(whole), share, "{replicas}");
        }
        let three = Fraction(NonZeroU32::new(3).unwrap());
        assert_eq!([9, 8, 2, 0].map(|count| three.of_count(count)), [3, 2, 1, 1]);
        assert_eq!(three.of_amount(NonZeroU64::new(10).unwrap()).get(), 3);
        assert_eq!(three.of_amount(NonZeroU64::MIN).get(), 1);
    }

    #[test]
    fn the_overshoot_is_what_the_shares_and_a_whole_store_give() {
        let two = Fraction(NonZeroU32::new(2).unwrap());
        let rate = quota(100, 1_000_000_000, 50);
        assert_eq!(two.overshoot(rate, 0, 0), 0);
        assert_eq!(two.overshoot(rate, 1, 35_000_000), 50 + 50 + 4);
        let many = Fraction(NonZeroU32::new(80).unwrap());
        assert_eq!(many.overshoot(rate, 2, 0), 2 * (80 + 50), "each share is one at least");
    }
}
