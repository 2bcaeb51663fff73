//! Several herdgates, or clients, on one real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod books;
mod client;
mod faults;
mod herdgates;
