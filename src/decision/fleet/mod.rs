//! The fleet: all servers, what is known of them, and which of them serves a request.

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
    /// A server's state. [`ServerState::is_live`] alone says whether a server in a state takes requests.
    pub enum ServerState {
        /// No probe has finished yet: the server takes no requests, and is not reported down either.
        Unknown = "unknown",
        /// The server takes requests.
        Up = "up",
        /// The server takes requests, which will wait: it said that it is full, or was seen to work while a deep check
        /// waited.
        Busy = "busy",
        /// The server takes requests although a deep check failed: not often enough yet to prove that it cannot generate.
        Degraded = "degraded",
        /// Real requests failed at the server: it takes requests only if no other server has the model.
        Cooldown = "cooldown",
        /// The cooldown is over: the server takes one request at a time, to show whether it works again.
        Trial = "trial",
        /// An operator wants the server empty: it takes no new requests, and those in flight end.
        Draining = "draining",
        /// The server takes no requests.
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

/// The models and the condition that a server reported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// The models that it can serve (`/api/tags`, `/v1/models`, or the configuration).
    pub models: Vec<Model>,
    /// The models in its memory (`/api/ps`).
    pub loaded: Vec<LoadedModel>,
    /// Ollama's version (`/api/version`), if the server has one.
    pub version: Option<Box<str>>,
    /// Whether it said that requests wait or that every slot is taken (`/slots`, `/metrics`).
    pub full: bool,
}

/// One model of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The canonical name.
    pub name: ModelName,
    /// The name as the server lists it, which clients may send back to it.
    pub listed: Box<str>,
    /// The content digest, in hex without `sha256:`; empty if the server has none.
    pub digest: Box<str>,
    /// Size on disk in bytes; 0 if unknown.
    pub size: u64,
    /// The time of the last change, RFC 3339 as the server gave it; empty if unknown.
    pub modified_at: Box<str>,
    /// The time of creation in seconds since 1970 (OpenAI's `created`).
    pub created: i64,
    /// OpenAI's `owned_by`; `library` for Ollama models without a namespace.
    pub owned_by: Box<str>,
    /// Ollama's `details`, a JSON object as text; empty if unknown.
    pub details: Box<str>,
    /// Ollama's `capabilities`, a JSON array as text; empty if unknown.
    pub capabilities: Box<str>,
    /// Whether the server only passes prompts on to another host (Ollama's `remote_host`), whatever the name says.
    pub remote: bool,
}

/// A model in a server's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedModel {
    /// The canonical name.
    pub name: ModelName,
    /// The name as the server lists it.
    pub listed: Box<str>,
    /// The content digest.
    pub digest: Box<str>,
    /// Size in all memory, in bytes.
    pub size: u64,
    /// Size in video memory, in bytes.
    pub size_vram: u64,
    /// Ollama's `details`, a JSON object as text; empty if unknown.
    pub details: Box<str>,
    /// The time at which it will be unloaded, RFC 3339 as the server gave it.
    pub expires_at: Box<str>,
    /// The context length with which it was loaded, in LLM tokens; 0 if unknown.
    pub context_length: u64,
}

/// The reason for which a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A fixed word for logs, metrics and agent-check: `connect`, `timeout`, `status`, `body`, `too_large`;
    /// `generation` for a failed deep check, `traffic` for failed real requests.
    pub kind: &'static str,
    /// The observation, for the log. Never contains a secret.
    pub detail: Box<str>,
}

/// The outcome of a real request at its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceResult {
    /// The request was answered in full.
    Well,
    /// The server said that it is full.
    Full,
    /// The server failed the request: a fixed word for the observation.
    Badly(&'static str),
}

closed_enum! {
    /// The preference among live servers for one of them.
    #[derive(Default)]
    pub enum Preference {
        /// The server is chosen like any other.
        #[default]
        Sound = "sound",
        /// The server is preferred while nothing is in flight there; see [`crate::decision::fleet::breaker`].
        OneAtATime = "one_at_a_time",
        /// The server is chosen only if no other has the model.
        Last = "last",
    }
}

/// The knowledge of one server, as readers see it.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// The server's state.
    pub state: ServerState,
    /// How readily it is chosen while it is live.
    pub preference: Preference,
    /// The last inventory seen. It is kept while the server is down, so that its models stay known.
    pub inventory: Arc<Inventory>,
    /// The last failure, while there is one.
    pub failure: Option<Arc<Failure>>,
}

/// The knowledge of all servers. Immutable; a new value is published after each change.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// The servers by name.
    pub servers: BTreeMap<Arc<str>, ServerView>,
}
