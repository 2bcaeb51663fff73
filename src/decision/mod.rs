//! The decision, pure: facts and the moment go in, a verdict comes out. No async, sockets, files, locks, logging, clock or
//! environment below this folder; `tests/tidy` holds it to that.

pub mod answer;
pub mod caller;
pub mod fleet;
pub mod inquiry;
pub mod judge;
pub mod moment;
pub mod plan;
pub mod reason;
pub mod request;
pub mod resolve;
pub mod verdict;
pub mod view;
