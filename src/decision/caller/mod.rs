//! Who is calling: an API key, the bearer of a JWT, a user behind a key, or an address.

pub mod authenticate;
pub mod blocks;
pub mod keyset;
pub mod network;
pub mod on_behalf;
pub mod token;
