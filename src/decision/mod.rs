//! The decision, pure: facts and the moment go in, a verdict comes out. No async, sockets, files, locks, logging, clock or
//! environment below this folder; `tests/tidy.rs` holds it to that.

pub mod allowance;
pub mod authenticate;
pub mod blocks;
pub mod body;
pub mod bounds;
pub mod breaker;
pub mod capacity;
pub mod catalog;
pub mod choose;
pub mod consistency;
pub mod dialect;
pub mod fleet;
pub mod inquiry;
pub mod judge;
pub mod keyset;
pub mod limits;
pub mod moment;
pub mod name;
pub mod network;
pub mod on_behalf;
pub mod overshoot;
pub mod policy;
pub mod priority;
pub mod reset;
pub mod resolve;
pub mod roster;
pub mod route;
pub mod token;
pub mod verdict;
pub mod view;
