//! The nginx suites on the versions that only `make matrix` installs.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

mod cases;
mod harness;

use harness::nginx::Version;

#[path = "."]
mod nginx_1_26 {
    const VERSION: super::Version = super::Version::Trixie;
    #[path = "suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "suites/nginx_handoff.rs"]
    mod handoff;
}

#[path = "."]
mod nginx_1_30_or_newer {
    const VERSION: super::Version = super::Version::Newer;
    #[path = "suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "suites/nginx_handoff.rs"]
    mod handoff;
}
