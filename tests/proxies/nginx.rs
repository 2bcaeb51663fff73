//! The main job through Debian's nginx, on the shipped files.

use crate::harness::nginx::Version;

#[path = "."]
mod debian_nginx_1_22 {
    const VERSION: super::Version = super::Version::Debian;
    #[path = "../suites/nginx_auth_request.rs"]
    mod auth_request;
    #[path = "../suites/nginx_handoff.rs"]
    mod handoff;
}
