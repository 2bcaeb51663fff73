//! What clients read: refusals in three dialects, the catalog, and the time until limits are full again.

pub mod catalog;
pub mod dialect;
pub mod reset;
