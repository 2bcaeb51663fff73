//! The fleet: all servers and what is known of them, and which of them serves a request.

pub mod breaker;
pub mod capacity;
pub mod choose;
pub mod consistency;
pub mod roster;
pub mod track;

use crate::decision::request::name::ModelName;
use std::collections::BTreeMap;
use std::sync::Arc;

closed_enum! {
    /// The state of one server. What takes requests is said by [`ServerState::is_live`] and nowhere else.
    pub enum ServerState {
        /// Not yet probed to an end: takes no requests, and is not reported down either.
        Unknown = "unknown",
        /// Takes requests.
        Up = "up",
        /// Takes requests, which will wait: it said that it is full, or was seen to work while a deep check waited.
        Busy = "busy",
        /// Takes requests, although a deep check failed: not often enough yet to prove that it cannot generate.
        Degraded = "degraded",
        /// Real requests failed there: takes them only where no other server has the model.
        Cooldown = "cooldown",
        /// After that: takes one at a time, to see whether it works again.
        Trial = "trial",
        /// An operator wants it empty: takes no new requests, and those on their way end.
        Draining = "draining",
        /// Takes none.
        Down = "down",
    }
}

impl ServerState {
    /// Whether a server in this state takes requests.
    pub fn is_live(self) -> bool {
        match self {
            ServerState::Up
            | ServerState::Busy
            | ServerState::Degraded
            | ServerState::Cooldown
            | ServerState::Trial => true,
            ServerState::Unknown | ServerState::Draining | ServerState::Down => false,
        }
    }
}

/// What a server said it has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Models it can serve (`/api/tags`, `/v1/models`, or the configuration).
    pub models: Vec<Model>,
    /// Models in memory (`/api/ps`).
    pub loaded: Vec<LoadedModel>,
    /// Ollama's version (`/api/version`), where it has one.
    pub version: Option<Box<str>>,
    /// Whether it said that requests wait or that every slot is taken (`/slots`, `/metrics`).
    pub full: bool,
}

/// One model of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Canonical name.
    pub name: ModelName,
    /// The name as the server lists it, which clients may send back to it.
    pub listed: Box<str>,
    /// Content digest, hex without `sha256:`; empty where the server has none.
    pub digest: Box<str>,
    /// Bytes on disk; 0 where unknown.
    pub size: u64,
    /// RFC 3339, as the server gave it; empty where unknown.
    pub modified_at: Box<str>,
    /// Seconds since 1970 (OpenAI's `created`).
    pub created: i64,
    /// OpenAI's `owned_by`; `library` for Ollama models without a namespace.
    pub owned_by: Box<str>,
    /// Ollama's `details`, a JSON object as text; empty where unknown.
    pub details: Box<str>,
    /// Ollama's `capabilities`, a JSON array as text; empty where unknown.
    pub capabilities: Box<str>,
    /// Whether the server only passes prompts on to another host (Ollama's `remote_host`), whatever the name says.
    pub remote: bool,
}

/// A model in a server's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedModel {
    /// Canonical name.
    pub name: ModelName,
    /// The name as the server lists it.
    pub listed: Box<str>,
    /// Content digest.
    pub digest: Box<str>,
    /// Bytes in all.
    pub size: u64,
    /// Bytes in video memory.
    pub size_vram: u64,
    /// Ollama's `details`, a JSON object as text; empty where unknown.
    pub details: Box<str>,
    /// When it will be unloaded, RFC 3339 as the server gave it.
    pub expires_at: Box<str>,
    /// Context length it was loaded with; 0 where unknown.
    pub context_length: u64,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A fixed word for logs, metrics and agent-check: `connect`, `timeout`, `status`, `body`, `too_large`; `generation`
    /// where a deep check failed, `traffic` where real requests did.
    pub kind: &'static str,
    /// What was seen, for the log. Never holds a secret.
    pub detail: Box<str>,
}

/// How a real request went at its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It was answered whole.
    Well,
    /// The server said that it is full.
    Full,
    /// The server failed it: a fixed word for what was seen.
    Badly(&'static str),
}

closed_enum! {
    /// How willingly a live server is chosen.
    #[derive(Default)]
    pub enum Preference {
        /// As any.
        #[default]
        Sound = "sound",
        /// While nothing is on its way there; see [`crate::decision::fleet::breaker`].
        OneAtATime = "one_at_a_time",
        /// Where no other has the model.
        Last = "last",
    }
}

/// What is known of one server, as readers see it.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// Its state.
    pub state: ServerState,
    /// How willingly it is chosen while it is live.
    pub preference: Preference,
    /// Last inventory seen; kept while it is down, so that its models stay known.
    pub inventory: Arc<Inventory>,
    /// The last failure, while there is one.
    pub failure: Option<Arc<Failure>>,
}

/// What is known of all servers, by name. Immutable; a new one is published after each change.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// By server name.
    pub servers: BTreeMap<Arc<str>, ServerView>,
}
