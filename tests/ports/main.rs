//! Listeners and clients on real sockets of this process: what they answer, and what they survive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../simulator/sim.rs"]
mod sim;
#[path = "../wire/mod.rs"]
mod wire;

mod admin;
mod agent_check;
mod deep;
mod jwks;
mod nginx_port;
mod probe;
mod spop_listener;
