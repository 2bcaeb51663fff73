//! The suites of `tests/suites` on the versions that only `make matrix` installs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
// A suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../harness/mod.rs"]
mod harness;

mod haproxy;
mod nginx;
