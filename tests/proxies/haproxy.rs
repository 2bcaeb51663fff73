//! The main job through real HAProxy, on the shipped files: Debian's version and one of 3.1 or newer.

use crate::harness::haproxy::Version;

#[path = "."]
mod debian_haproxy_2_6 {
    const VERSION: super::Version = super::Version::Debian;
    #[path = "../suites/haproxy.rs"]
    mod suite;
}

#[path = "."]
mod haproxy_3_1_or_newer {
    const VERSION: super::Version = super::Version::Newer;
    #[path = "../suites/haproxy.rs"]
    mod suite;
}
