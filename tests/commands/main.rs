//! The built binary: its commands, and its life as a daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../store/mod.rs"]
mod store;

mod audit;
mod cli;
mod examples;
mod explain;
mod life;
mod lifecycle;
mod metrics;
mod reload;
mod replay;
mod replay_command;
mod usage;
