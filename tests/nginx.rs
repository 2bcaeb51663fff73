//! The main job through Debian's nginx, on the shipped files.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

mod cases;
mod harness;

use harness::nginx::Version;

#[path = "."]
mod debian_nginx_1_22 {
    const VERSION: super::Version = super::Version::Debian;
    #[path = "suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "suites/nginx_handoff.rs"]
    mod handoff;
}
