//! What one adapter leaves for another: bounded, never waited for.

pub mod calibrations;
pub mod drains;
pub mod traffic;
pub mod wanted;
