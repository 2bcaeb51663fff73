//! The instant at which a decision is taken, supplied by the caller: nothing below `decision/` reads a clock.

/// One instant on two clocks. Rates use the monotonic clock, so that a stepped wall clock neither opens nor locks a
/// limit; expiry dates use the wall clock, because that is what people write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment {
    /// Nanoseconds since an arbitrary origin (process start); never goes back.
    pub mono_ns: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z; may jump.
    pub unix_ms: i64,
}

impl Moment {
    /// Returns the nanoseconds that have passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns)
    }

    /// Returns the moment `ns` nanoseconds later on both clocks.
    pub fn plus_ns(self, ns: u64) -> Moment {
        Moment {
            mono_ns: self.mono_ns.saturating_add(ns),
            unix_ms: self.unix_ms.saturating_add(i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)),
        }
    }
}
