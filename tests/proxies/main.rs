//! Through real HAProxy and real nginx, on the shipped files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
// A suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../harness/mod.rs"]
mod harness;

mod bench;
mod charges;
mod estimate;
mod haproxy;
mod nginx;
mod server_faults;
