//! herdgate decides; HAProxy or nginx carries.
//!
//! The proxy keeps every byte of the data path. For each request it asks herdgate one question, and lets the request pass
//! only where herdgate answers yes in time. To read the code, follow such a question through the modules:
//!
//! **A question comes in.** [`spop`] speaks HAProxy's SPOP, [`nginx`] the HTTP of `auth_request` and of whole requests handed
//! over. Both make the same [`decision::inquiry::Inquiry`] of what they read.
//!
//! **It is decided.** [`gate`] is the one road of every decision: it takes the current [`decision::view::View`], has
//! [`decision::judge`] say who asks, what for and whether the plan permits it, and logs and counts the verdict. [`decision`]
//! is pure: no clock, file, socket or lock.
//!
//! **It is accounted for.** [`ledger`] takes all limits of the request or none, and reserves LLM tokens. [`shared_store`] does
//! so in Redis or Valkey where several herdgates share their limits. When the request has ended, [`settle`] receives the
//! proxy's usage line, and what was reserved becomes what is charged. [`store`] keeps all of it across restarts (SQLite).
//!
//! **Servers and issuers are watched.** [`probe`] asks every model server what it has and whether it generates; [`jwks`] fetches
//! the keys of identity providers; [`agent_check`] tells HAProxy which servers take requests. [`mailbox`] holds what one of
//! these adapters leaves for another.
//!
//! **Operators write files.** [`config`] reads `herdgate.toml` into a policy, [`keys`] reads and writes `keys.toml`, and [`files`]
//! has what they share: mistakes with their place and a hint, near spellings, changes on disk.
//!
//! **Operators look.** [`admin`] serves `/metrics`, `/status` and the control socket; [`metrics`] has every counter;
//! [`explanation`] says in words why a decision came out as it did; [`trial`] decides on requests that are only text.
//!
//! **It is put together.** [`serve`] starts, reloads and stops the parts in order, and [`cli`] is the command line. They stand
//! on [`net`] (sockets and HTTP) and [`time`] (the one place that reads a clock).

// The same order as above; within a group, by name.

#[macro_use]
mod closed_enum;

// A question comes in.
pub mod nginx;
pub mod spop;

// It is decided.
pub mod decision;
pub mod gate;

// It is accounted for.
pub mod ledger;
pub mod settle;
pub mod shared_store;
pub mod store;

// Servers and issuers are watched.
pub mod agent_check;
pub mod jwks;
pub mod mailbox;
pub mod probe;

// Operators write files.
pub mod config;
pub mod files;
pub mod keys;

// Operators look.
pub mod admin;
pub mod explanation;
pub mod metrics;
pub mod trial;

// It is put together.
pub mod cli;
pub mod serve;

// All of it stands on these.
pub mod net;
pub mod time;
