//! The request-rate arithmetic: GCRA, one 64-bit time a limit (ITU-T I.371, "generic cell rate algorithm").
//!
//! The stored time is when the limit would be whole again. A request is allowed when taking one more emission interval
//! leaves that time at most `burst` intervals ahead. Integers only; the interval is rounded up, so that the rate is never
//! above the configured one.

use crate::decision::limits::Quota;
use crate::decision::verdict::Standing;

/// Nanoseconds one request costs under this quota, at least 1.
pub fn interval_ns(quota: Quota) -> u64 {
    quota.period_ns.get().div_ceil(quota.count.get())
}

/// Nanoseconds the stored time may lie ahead of now.
fn horizon_ns(quota: Quota) -> u64 {
    interval_ns(quota).saturating_mul(quota.burst.get())
}

/// What taking one request would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Allowed: store this time.
    Allow {
        /// The new stored time.
        tat_ns: u64,
        /// Where the caller then stands.
        standing: Standing,
    },
    /// Not now.
    Deny {
        /// Nanoseconds until the same request would be allowed, if nothing else is taken.
        retry_ns: u64,
        /// Where the caller stands.
        standing: Standing,
    },
}

/// Computes one request at `now_ns` against the stored time `tat_ns` (0 for none). Changes nothing.
pub fn take(quota: Quota, tat_ns: u64, now_ns: u64) -> Take {
    let (interval, horizon) = (interval_ns(quota), horizon_ns(quota));
    // A quota made smaller by a reload must not lock its caller out for longer than the new horizon.
    let base = tat_ns.clamp(now_ns, now_ns.saturating_add(horizon));
    let next = base.saturating_add(interval);
    if next - now_ns <= horizon {
        Take::Allow { tat_ns: next, standing: standing(quota, next, now_ns) }
    } else {
        Take::Deny { retry_ns: next - now_ns - horizon, standing: standing(quota, base, now_ns) }
    }
}

/// Gives one request back: the stored time after a release.
pub fn give_back(quota: Quota, tat_ns: u64) -> u64 {
    tat_ns.saturating_sub(interval_ns(quota))
}

fn standing(quota: Quota, tat_ns: u64, now_ns: u64) -> Standing {
    let ahead = tat_ns.saturating_sub(now_ns);
    let remaining = horizon_ns(quota).saturating_sub(ahead) / interval_ns(quota);
    Standing { limit: quota.burst.get(), remaining, reset_ns: ahead }
}
