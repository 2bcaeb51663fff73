//! herdgate decides; HAProxy or nginx carries.

#[macro_use]
mod closed_enum;

pub mod admin;
pub mod agent_check;
pub mod cli;
pub mod config;
pub mod decision;
pub mod explanation;
pub mod files;
pub mod gate;
pub mod jwks;
pub mod keys;
pub mod ledger;
pub mod mailbox;
pub mod metrics;
pub mod net;
pub mod nginx;
pub mod probe;
pub mod serve;
pub mod settle;
pub mod shared_store;
pub mod spop;
pub mod store;
pub mod time;
pub mod trial;
