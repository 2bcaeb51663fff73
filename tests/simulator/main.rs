//! The simulated model server of our own tests and demo, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

// The simulator's own reading of JSON; it uses more of it.
#[path = "../../tools/ollama-sim/duration.rs"]
#[allow(dead_code)]
mod duration;
#[path = "../../tools/ollama-sim/fields.rs"]
#[allow(dead_code)]
mod fields;
#[path = "../../tools/ollama-sim/json.rs"]
#[allow(dead_code)]
mod json;

mod faults;
mod json_bodies;
mod memory;
mod routes;
mod sim;
