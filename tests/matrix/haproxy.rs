//! The HAProxy suite on the versions that only `make matrix` installs.

use crate::harness::haproxy::Version;

#[path = "."]
mod haproxy_2_8 {
    const VERSION: super::Version = super::Version::Lts2_8;
    #[path = "../suites/haproxy.rs"]
    mod suite;
}

#[path = "."]
mod haproxy_3_0 {
    const VERSION: super::Version = super::Version::Lts3_0;
    #[path = "../suites/haproxy.rs"]
    mod suite;
}
