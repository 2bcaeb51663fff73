//! The Ledger: the quota books, and where they are kept.

pub mod books;
pub mod gcra;
pub mod memory;
