//! Probe reports → the state of each server, with hysteresis, and what is known of its models.

use super::name::ModelName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// Not yet probed to an end: takes no requests, and is not reported down either.
    Unknown,
    /// Takes requests.
    Up,
    /// Takes none.
    Down,
}

impl ServerState {
    /// Every state, for metrics.
    pub const ALL: [ServerState; 3] = [ServerState::Unknown, ServerState::Up, ServerState::Down];

    /// The name in logs, metrics and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerState::Unknown => "unknown",
            ServerState::Up => "up",
            ServerState::Down => "down",
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
    /// A fixed word for logs, metrics and agent-check: `connect`, `timeout`, `status`, `body`, `too_large`.
    pub kind: &'static str,
    /// What was seen, for the log. Never holds a secret.
    pub detail: Box<str>,
}

/// What is known of one server, as readers see it.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// Its state.
    pub state: ServerState,
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

/// A change of state, with its evidence, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: ServerState,
    /// State after.
    pub to: ServerState,
}

/// The memory behind a [`ServerView`]: counts successes and failures in a row.
#[derive(Debug, Clone)]
pub struct ServerTrack {
    state: ServerState,
    successes: u32,
    failures: u32,
    inventory: Arc<Inventory>,
    failure: Option<Arc<Failure>>,
}

impl Default for ServerTrack {
    fn default() -> ServerTrack {
        ServerTrack { state: ServerState::Unknown, successes: 0, failures: 0, inventory: Arc::default(), failure: None }
    }
}

impl ServerTrack {
    /// Takes one probe's outcome. Up after `rise` successes in a row, down after `fall` failures in a row; out of
    /// `Unknown` the first success is enough, because a fleet that waits `rise` intervals after every start refuses
    /// requests for no reason.
    pub fn report(&mut self, outcome: Result<Inventory, Failure>, rise: u32, fall: u32) -> Option<Transition> {
        let from = self.state;
        match outcome {
            Ok(inventory) => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
                self.failure = None;
                if *self.inventory != inventory {
                    self.inventory = Arc::new(inventory);
                }
                if from == ServerState::Unknown || self.successes >= rise {
                    self.state = ServerState::Up;
                }
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.failure = Some(Arc::new(failure));
                if self.failures >= fall {
                    self.state = ServerState::Down;
                }
            }
        }
        (from != self.state).then_some(Transition { from, to: self.state })
    }

    /// Whether the last probe failed: the next one then comes after `fast_interval`.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// What readers see.
    pub fn view(&self) -> ServerView {
        ServerView { state: self.state, inventory: self.inventory.clone(), failure: self.failure.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s` is a success, `f` a failure; the expectation is the state after each, by its first letter.
    fn check(rise: u32, fall: u32, reports: &str, states: &str) {
        let mut track = ServerTrack::default();
        let mut seen = String::new();
        for report in reports.chars() {
            let outcome = match report {
                's' => Ok(Inventory::default()),
                _ => Err(Failure { kind: "connect", detail: "refused".into() }),
            };
            track.report(outcome, rise, fall);
            seen.push_str(&track.view().state.as_str()[..1]);
        }
        assert_eq!(seen, states, "rise {rise}, fall {fall}, reports {reports}");
    }

    #[test]
    fn states_change_with_hysteresis() {
        check(2, 3, "s", "u"); // `u` for both unknown and up: told apart below
        check(2, 3, "fff", "uud");
        check(2, 3, "sffsfff", "uuuuuud");
        check(2, 3, "fffsfss", "uuddddu");
        check(1, 1, "sfsf", "udud");
    }

    #[test]
    fn the_first_success_after_start_is_enough_and_the_first_failure_is_not() {
        let mut track = ServerTrack::default();
        assert_eq!(track.report(Err(Failure { kind: "connect", detail: "".into() }), 2, 3), None);
        assert_eq!(track.view().state, ServerState::Unknown);
        let up = track.report(Ok(Inventory::default()), 2, 3);
        assert_eq!(up, Some(Transition { from: ServerState::Unknown, to: ServerState::Up }));
    }

    #[test]
    fn a_server_that_goes_down_keeps_its_last_inventory() {
        let mut track = ServerTrack::default();
        let inventory = Inventory { version: Some("0.30.1".into()), ..Inventory::default() };
        track.report(Ok(inventory.clone()), 1, 1);
        track.report(Err(Failure { kind: "timeout", detail: "".into() }), 1, 1);
        assert_eq!(track.view().state, ServerState::Down);
        assert_eq!(*track.view().inventory, inventory);
    }
}
