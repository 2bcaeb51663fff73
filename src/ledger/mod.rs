//! The Ledger: the quota books, and where they are kept.

pub mod books;
pub mod durations;
pub mod estimate;
pub mod fit;
pub mod form;
pub mod gcra;
pub mod histogram;
pub mod memory;
pub mod silence;
pub mod slots;
pub mod users;
