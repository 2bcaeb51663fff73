//! Requests put to the decision without a proxy, a daemon or a network: what `herdgate explain` and `herdgate replay` do.
//!
//! The gate, the judge and the ledger are those that `serve` runs; what differs is where a request comes from (text), what
//! the fleet is (the configuration's word for it) and that time is what the requests say.

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
