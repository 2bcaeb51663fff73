//! The request-rate arithmetic: GCRA, one 64-bit time a limit (ITU-T I.371, "generic cell rate algorithm").
//!
//! The stored time is when the limit would be whole again. A request is allowed when taking one more emission interval
//! leaves that time at most `burst` intervals ahead. Integers only; the interval is rounded up, so that the rate is never
//! above the configured one.

use crate::decision::plan::limits::Quota;
use crate::decision::verdict::LimitStanding;

/// Returns the nanoseconds that one request costs under this quota, at least 1.
pub fn interval_ns(quota: Quota) -> u64 {
    quota.period_ns.get().div_ceil(quota.count.get())
}

/// Returns the nanoseconds that the stored time may lie ahead of now.
fn horizon_ns(quota: Quota, interval_ns: u64) -> u64 {
    interval_ns.saturating_mul(quota.burst.get())
}

/// The effect that taking one request would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The request is allowed: this time is to be stored.
    Allow {
        /// The new stored time.
        tat_ns: u64,
        /// How the caller then stands.
        standing: LimitStanding,
    },
    /// The request is not allowed now.
    Deny {
        /// Nanoseconds until the same request would be allowed, if nothing else is taken.
        retry_ns: u64,
        /// How the caller stands.
        standing: LimitStanding,
    },
}

/// Computes one request at `now_ns` against the stored time `tat_ns` (0 for none). Changes nothing.
pub fn take(quota: Quota, tat_ns: u64, now_ns: u64) -> Take {
    let interval = interval_ns(quota);
    let horizon = horizon_ns(quota, interval);
    // Divisions are most of what a limit costs: one for the interval, one here.
    let standing = |tat_ns: u64| {
        let ahead = tat_ns.saturating_sub(now_ns);
        LimitStanding { limit: quota.burst.get(), remaining: horizon.saturating_sub(ahead) / interval, reset_ns: ahead }
    };
    // A quota made smaller by a reload must not lock its caller out for longer than the new horizon.
    let base = tat_ns.clamp(now_ns, now_ns.saturating_add(horizon));
    let next = base.saturating_add(interval);
    if next - now_ns <= horizon {
        Take::Allow { tat_ns: next, standing: standing(next) }
    } else {
        Take::Deny { retry_ns: next - now_ns - horizon, standing: standing(base) }
    }
}

/// Returns the stored time once a request is given back.
pub fn give_back(quota: Quota, tat_ns: u64) -> u64 {
    tat_ns.saturating_sub(interval_ns(quota))
}
