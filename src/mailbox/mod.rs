//! Mailboxes in which one adapter leaves something for another: bounded, never waited for.

pub mod calibrations;
pub mod drains;
pub mod traffic;
pub mod wanted;
