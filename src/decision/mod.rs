//! The decision, which is pure: facts and the moment go in, a verdict comes out. There is no async, socket, file, lock,
//! logging, clock or environment below this folder; `tests/tidy` enforces that.

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
