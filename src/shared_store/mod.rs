//! The quota books that several herdgates share, in Redis or Valkey.
//!
//! Scheme. Each operation is one script, so it is atomic, and it is idempotent by the decision's id: a call that ran into its
//! deadline may or may not have been carried out, and is simply made again. Time is the store's own (`TIME` inside the script),
//! all keys are in `KEYS` under one hash tag, each has a TTL, and numbers are whole ones below 2^53 (`lua/books.lua`).
//!
//! A decision waits for the store no longer than a deadline (`link`). After a few failures in a row a breaker opens and no
//! decision waits at all; a task of its own tries the store until it takes writes again. Meanwhile each herdgate decides by
//! books of its own, with its share of each limit (`[ledger] on_store_down`). What is settled then is kept, bounded, and
//! delivered once the store is back, where it also counts what was granted without it.
//!
//! Names of holders reach the store as hashes, and nothing a caller wrote reaches it at all but what the reservation names
//! for the ledger's row: the caller, its user and team, the model. Address and password of the store are never shown.

pub mod acl;
pub mod address;
mod backlog;
mod breaker;
mod claim;
mod elsewhere;
mod fraction;
mod keyspace;
mod ledger;
mod link;
mod reply;
mod scripts;
mod tend;
mod terms;

pub use crate::metrics::shared_store::{Counts, Operation, SharedStoreError};
pub use backlog::{Release, Settlement};
pub use breaker::{StoreBreaker, StorePhase};
pub use claim::{excess_of, never_fits, shares_of, standings_of, terms_of};
pub use elsewhere::{Elsewhere, Lane};
pub use fraction::Fraction;
pub use ledger::{AdmitRequest, SharedLedger, StoreSettle, StoredReservation};
pub use link::StorePace;
pub use reply::{Admitted, Stand, StoreExcess, Which};
pub use tend::Replica;
pub use terms::{HolderTerms, StoreTerms, StoreToday};
