//! The Ledger: the quota books, and where they are kept.

pub mod books;
pub mod durations;
pub mod gcra;
pub mod memory;
pub mod reservation;
pub mod silence;
pub mod slots;
pub mod users;
