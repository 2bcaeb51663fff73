//! Time: the one place that reads a clock, and the calendar that people read.

pub mod clock;
pub mod date;
