//! Real processes on free loopback ports: proxies, herdgate, simulated model servers, and a client that takes the time.
//!
//! Used by the end-to-end tests and by the demo. Everything that can fail returns a [`Fault`], so that the demo can say
//! what went wrong. Processes are ended by their id when dropped; where a test fails, the [`scratch::Scratch`] prints
//! every file of the run: configurations, logs and output.

// Each test binary and the demo use a part of this.
#![allow(dead_code)]

pub mod client;
pub mod deadline;
pub mod fleet;
pub mod haproxy;
pub mod herdgate;
pub mod issuer;
pub mod nginx;
pub mod port;
pub mod process;
pub mod redis;
pub mod release;
pub mod replay;
pub mod scratch;
pub mod sdk;
pub mod signer;
pub mod spop;
pub mod stack;

/// What went wrong, as a sentence.
pub type Fault = String;

/// Returns the top of the source tree, where `haproxy/`, `nginx/` and `target/tools` are.
pub fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}
