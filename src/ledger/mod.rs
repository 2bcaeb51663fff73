//! The Ledger: the quota books, and where they are kept.

pub mod books;
pub mod durations;
pub mod gcra;
pub mod hold;
pub mod memory;
pub mod shares;
pub mod silence;
pub mod slots;
pub mod users;
pub mod waits;
