//! The main job through real HAProxy, on the shipped files: Debian's version and one of 3.1 or newer.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

mod cases;
mod harness;

use harness::haproxy::Version;

#[path = "."]
mod debian_haproxy_2_6 {
    const VERSION: super::Version = super::Version::Debian;
    #[path = "suites/haproxy.rs"]
    mod suite;
}

#[path = "."]
mod haproxy_3_1_or_newer {
    const VERSION: super::Version = super::Version::Newer;
    #[path = "suites/haproxy.rs"]
    mod suite;
}
