//! The Ledger: the quota books, which count requests and tokens against limits, and the memory and journal that keep
//! them.

pub mod account;
pub mod books;
pub mod bucket;
pub mod calendar;
pub mod done;
pub mod durations;
pub mod fair_queue;
pub mod gcra;
pub mod histogram;
pub mod hold;
pub mod journal;
pub mod memory;
pub mod plan;
pub mod reservation;
pub mod silence;
pub mod slots;
pub mod tokens;
pub mod users;
pub mod waits;
