//! API keys: made, kept as digests in `keys.toml`, read into the set that decisions look them up in.

pub mod file;
pub mod schema;
pub mod secret;
pub mod source;
pub mod used;
pub mod watch;
pub mod write;

pub use file::{KeyEntry, load};
pub use secret::Secret;
pub use source::KeyFile;
