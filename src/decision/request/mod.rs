//! What is asked for: the endpoint by method and target, the model and options by the body.

pub mod body;
pub mod endpoint;
pub mod name;
pub mod route;
