//! Decides on requests without a proxy, a daemon or a network, for `herdgate explain` and `herdgate replay`.
//!
//! The gate, the judge and the ledger are those that `serve` runs. Different are the requests, which are text; the fleet, which
//! is as the configuration says; and the time, which is as the requests say.

mod account;
mod fleet;
mod line;
mod rehearsal;
mod request;

pub use account::{ReplayAccount, refused_with};
pub use fleet::{configured, reported};
pub use line::{LINE_MAX, Lines, ReplayLine};
pub use rehearsal::{Rehearsal, Ruling};
pub use request::{ReplayUsage, Request, RequestError, lent};

/// The header that the shipped files of both proxies pass on for keys that name their users.
pub const PASSES: &str = "x-openwebui-user-email";
