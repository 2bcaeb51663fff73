//! The token-rate arithmetic: a bucket that may go into debt, kept as the time at which it is full again.
//!
//! Only what was settled is in the bucket; reservations of requests in flight are a plain sum beside it. If they were
//! taken out of the bucket and returned, a bucket that had filled up meanwhile would get back more than its capacity.
//! Integers only; every rounding is against the caller, by less than a nanosecond of refill.

use crate::decision::plan::limits::Quota;
use crate::decision::verdict::LimitStanding;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The rate at which it fills. Kept with the time, which means another amount at another rate.
    quota: Quota,
    /// When it is full again; if that is past, it is full.
    full_at_ns: u64,
}

/// Why a bucket does not admit a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketExcess {
    /// Nanoseconds of refill that are lacking; `None` where no refill helps and a request in flight must end.
    pub retry_ns: Option<u64>,
    /// How the bucket stands.
    pub standing: LimitStanding,
}

impl Bucket {
    /// Returns a full bucket.
    pub fn new(quota: Quota) -> Bucket {
        Bucket { quota, full_at_ns: 0 }
    }

    /// Returns a bucket with the same debt at another rate.
    pub fn at_rate(self, quota: Quota, now_ns: u64) -> Bucket {
        if self.quota == quota {
            return self;
        }
        let debt = self.debt(now_ns);
        Bucket { quota, full_at_ns: now_ns.saturating_add(refill_ns(quota, debt)) }
    }

    /// Returns its capacity, in thousandths of a token.
    pub fn capacity(quota: Quota) -> u64 {
        quota.burst.get().saturating_mul(1000)
    }

    /// Returns what is missing from it, in thousandths of a token, rounded up.
    pub fn debt(&self, now_ns: u64) -> u64 {
        match self.full_at_ns.checked_sub(now_ns) {
            None | Some(0) => 0,
            Some(ahead_ns) => {
                let per_period = u128::from(self.quota.count.get()) * 1000;
                mul_div_up(u128::from(ahead_ns), per_period, self.quota.period_ns.get())
            }
        }
    }

    /// Checks whether `need` fits beside what is `reserved` already, all in thousandths of a token.
    ///
    /// # Errors
    /// [`BucketExcess`] where it does not.
    pub fn check(&self, reserved: u64, need: u64, now_ns: u64) -> Result<LimitStanding, BucketExcess> {
        let (debt, capacity) = (self.debt(now_ns), Bucket::capacity(self.quota));
        let standing = |reserved: u64| LimitStanding {
            limit: self.quota.burst.get(),
            remaining: capacity.saturating_sub(debt).saturating_sub(reserved) / 1000,
            reset_ns: self.full_at_ns.saturating_sub(now_ns),
        };
        let with_need = reserved.saturating_add(need);
        let lacking = debt.saturating_add(with_need).saturating_sub(capacity);
        if lacking == 0 {
            return Ok(standing(with_need));
        }
        let retry_ns = (lacking <= debt).then(|| refill_ns(self.quota, lacking));
        Err(BucketExcess { retry_ns, standing: standing(reserved) })
    }

    /// Takes what a request used, into debt where need be.
    pub fn charge(&mut self, amount: u64, now_ns: u64) {
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(refill_ns(self.quota, amount));
    }

    /// Returns whether the bucket is full.
    pub fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns <= now_ns
    }
}

/// Returns the nanoseconds in which so much flows in, rounded up.
fn refill_ns(quota: Quota, amount: u64) -> u64 {
    let per_period = quota.count.get().saturating_mul(1000);
    mul_div_up(u128::from(amount), u128::from(quota.period_ns.get()), per_period)
}

/// Returns `a * b / by`, rounded up. Saturates.
fn mul_div_up(a: u128, b: u128, by: u64) -> u64 {
    let product = a.saturating_mul(b);
    match u64::try_from(product) {
        // Most are small, and a division of 128 bits costs several times as much.
        Ok(product) => product.div_ceil(by.max(1)),
        Err(_) => u64::try_from(product.div_ceil(u128::from(by.max(1)))).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may fail
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    const S: u64 = 1_000_000_000;

    fn quota(count: u64, period_s: u64, burst: u64) -> Quota {
        let some = |value| NonZeroU64::new(value).unwrap();
        Quota { count: some(count), period_ns: some(period_s * S), burst: some(burst) }
    }

    #[test]
    fn what_is_used_flows_back_at_the_rate_and_debt_blocks_until_it_has() {
        let mut bucket = Bucket::new(quota(600, 60, 600));
        let now = 1000 * S;
        assert_eq!(bucket.check(0, 600_000, now).unwrap().remaining, 0);
        assert_eq!(bucket.check(400_000, 200_000, now).unwrap().remaining, 0);
        let over = bucket.check(400_000, 200_001, now).unwrap_err();
        assert_eq!((over.retry_ns, over.standing.remaining), (None, 200), "nothing was used yet: one must end");
        bucket.charge(900_000, now);
        assert_eq!(bucket.debt(now), 900_000);
        let over = bucket.check(0, 1_000, now).unwrap_err();
        assert_eq!(over.retry_ns, Some(30 * S + S / 10));
        assert!(bucket.check(0, 1_000, now + 30 * S + S / 10 - 1).is_err());
        assert!(bucket.check(0, 1_000, now + 30 * S + S / 10).is_ok());
        assert!(bucket.is_full(now + 90 * S) && !bucket.is_full(now + 90 * S - 1));
    }

    #[test]
    fn another_rate_keeps_the_debt() {
        let mut bucket = Bucket::new(quota(600, 60, 600));
        bucket.charge(300_000, S);
        let slower = bucket.at_rate(quota(60, 60, 60), S);
        assert_eq!((bucket.debt(S), slower.debt(S)), (300_000, 300_000));
        assert!(slower.is_full(301 * S) && !slower.is_full(301 * S - 1));
    }

    #[test]
    fn no_amount_overflows() {
        for quota in [quota(1, 86_400, 1), quota(1_000_000_000, 1, 1_000_000_000)] {
            let mut bucket = Bucket::new(quota);
            for _ in 0..3 {
                bucket.charge(u64::MAX, u64::MAX / 2);
            }
            assert!(bucket.check(u64::MAX, u64::MAX, 0).is_err());
            assert!(bucket.debt(0) > 0);
        }
    }
}
