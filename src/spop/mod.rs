//! The HAProxy ingress: SPOP frames in, variables out.
//!
//! In flow order: `listener` accepts, `connection` reads and writes, [`session`] holds the conversation, [`frame`]
//! cuts frames ([`hello`], [`notify`], [`ack`], [`disconnect`] are their payloads, [`wire`] the pieces of those), and
//! `translate` turns a NOTIFY into an inquiry and a verdict into variables. Everything but the first two is pure.
//! Facts about HAProxy name their source file; both engines (up to 3.0, and the one since 3.1) are served.

pub mod ack;
pub mod disconnect;
pub mod frame;
pub mod hello;
pub mod notify;
pub mod session;
pub mod status;
pub mod variable;
pub mod wire;
