//! API keys: made, kept as digests in `keys.toml`, read into the set that decisions look them up in.

pub mod date;
pub mod file;
pub mod secret;
pub mod watch;
pub mod write;

pub use file::{Entry, load};
pub use secret::Secret;
