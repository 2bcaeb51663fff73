//! LLM tokens: how many a request will use, how many it has used, and what is charged for them.

pub mod charge;
pub mod estimate;
pub mod fit;
pub mod form;
pub mod observed;
