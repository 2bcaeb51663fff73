//! Usage lines: the proxies report each ended request in a datagram, and the request is settled by it.
//!
//! Scheme. This port is a way to write into the counters, so nothing in a line is believed but a receipt, which only herdgate
//! can have written (see `receipt`); it ends one slot once. A line without a receipt can only end the slot of a request
//! whose verdict never arrived, named by the proxy's identifier, which the proxy draws at random and no client sees before
//! its answer. Lines that are forged, repeated, cut or late change nothing and are counted.

mod line;
mod listener;
mod served;

pub use line::{UsageLine, parse};
pub use listener::{UsageSocket, bind, serve};
