//! Files that herdgate reads and writes: configuration, keys, ledger.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../store/faulty.rs"]
mod faulty;
#[path = "../store/mod.rs"]
mod store;

mod config;
mod key_life;
mod keys;
mod raise;
mod store_contract;
mod store_crash;
mod store_faults;
mod store_file;
