//! The attack corpus: what slipped past other gateways, through real HAProxy, real nginx and the decision alone.
//!
//! `corpus` holds the requests as data, by row of the threat model; `rows` says which test stands for which row, these and
//! those elsewhere in the tree. `docs/security.md` is the page for people.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../cases/mod.rs"]
mod cases;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../wire/mod.rs"]
mod wire;

mod a10_secrets;
mod a1_wiring;
mod a4_http2;
mod a4_unread_headers;
mod a7_nginx;
mod a9_log_channel;
mod break_glass;
mod corpus;
mod corpus_bodies;
mod corpus_runs;
mod page;
mod question;
mod relay;
mod rows;
mod rows_of_limits;

use harness::haproxy;
use harness::nginx::{self, Mode};
use harness::stack::Front;

const HAPROXY: Front = Front::HaProxy(haproxy::Version::Debian);
const NGINX: Front = Front::Nginx(nginx::Version::Debian, Mode::Handoff);
