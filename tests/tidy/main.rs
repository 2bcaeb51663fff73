//! The rules of the house that a compiler does not check.

#![allow(clippy::unwrap_used)] // a test may fail

mod documents;
mod names;
mod purity;
mod rooms;
mod sources;
