//! The HAProxy ingress: SPOP frames in, variables out.
//!
//! In flow order: [`listener`] accepts (within [`limits`]), [`connection`] reads and writes,
//! [`session`] holds the conversation, [`frame`] cuts frames ([`hello`], [`notify`], [`ack`], [`disconnect`] are their
//! payloads, [`wire`] the pieces of those), [`answerer`] is the seam to the decision, and [`translate`] turns a NOTIFY
//! into an inquiry and a verdict into variables. Codec, session and translation are pure. Facts about HAProxy name their
//! source; both engines are served, the one up to 3.0 and the one since 3.1.

pub mod ack;
pub mod answerer;
pub mod budget;
pub mod connection;
pub mod disconnect;
pub mod frame;
pub mod hello;
pub mod limits;
pub mod listener;
pub mod notify;
pub mod session;
pub mod status;
pub mod translate;
pub mod variable;
pub mod wire;
