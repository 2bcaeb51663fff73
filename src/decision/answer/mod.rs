//! What clients read: refusals in three dialects, the catalog, and when limits are whole again.

pub mod catalog;
pub mod dialect;
pub mod reset;
