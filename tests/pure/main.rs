//! What is decided and computed, and what the wires mean: no process is started and no socket opened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/signer.rs"]
mod signer;

mod body;
mod body_options;
mod decide;
mod estimates;
mod fair_order;
mod jwt;
mod ledger;
mod limits_of_people;
mod plans;
mod quota;
mod slots;
mod spop_session;
mod spop_translate;
mod spop_wire;
mod wycheproof;
