//! What a request asks for: its endpoint, from method and target, and its model and options, from the body.

pub mod body;
pub mod endpoint;
pub mod name;
pub mod route;
