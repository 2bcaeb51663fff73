//! What a caller may do: the compiled policy, the request limits and usage limits of a plan, and how far it can be
//! overshot.

pub mod allowance;
pub mod bounds;
pub mod excess;
pub mod limits;
pub mod overshoot;
pub mod policy;
pub mod priority;
pub mod server;
