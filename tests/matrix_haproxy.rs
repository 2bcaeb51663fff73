//! The HAProxy suite on the versions that only `make matrix` installs.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The suite is included once per version, on purpose: each test has the version in its name.
#![allow(clippy::duplicate_mod)]

mod cases;
mod harness;

use harness::haproxy::Version;

#[path = "."]
mod haproxy_2_8 {
    const VERSION: super::Version = super::Version::Lts2_8;
    #[path = "suites/haproxy.rs"]
    mod suite;
}

#[path = "."]
mod haproxy_3_0 {
    const VERSION: super::Version = super::Version::Lts3_0;
    #[path = "suites/haproxy.rs"]
    mod suite;
}
