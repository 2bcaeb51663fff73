//! The nginx suites on the versions that only `make matrix` installs.

use crate::harness::nginx::Version;

#[path = "."]
mod nginx_1_26 {
    const VERSION: super::Version = super::Version::Trixie;
    #[path = "../suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "../suites/nginx_handoff.rs"]
    mod handoff;
}

#[path = "."]
mod nginx_1_30_or_newer {
    const VERSION: super::Version = super::Version::Newer;
    #[path = "../suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "../suites/nginx_handoff.rs"]
    mod handoff;
}
