//! herdgate decides; HAProxy or nginx carries.

pub mod admin;
pub mod agent_check;
pub mod cli;
pub mod clock;
pub mod complaint;
pub mod config;
pub mod decision;
pub mod drains;
pub mod file_watch;
pub mod gate;
pub mod http;
pub mod keys;
pub mod ledger;
pub mod listen;
pub mod metrics;
pub mod nginx;
pub mod probe;
pub mod problem;
pub mod receipt;
pub mod secret_file;
pub mod serve;
pub mod settle;
pub mod spelling;
pub mod spop;
pub mod state;
pub mod traffic;
