//! What is known of a request's use: as its usage line says it, and in tokens.

use crate::ledger::reservation::{Evidence, Tokens};
use serde::{Deserialize, Serialize};

/// What a usage line says of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedUsage {
    /// The server that was really used, by name; empty where none was.
    pub server: Box<str>,
    /// Whether a connection to a server came about.
    pub reached: bool,
    /// Whether the head of an answer came.
    pub answered: bool,
    /// Whether the answer came to its end.
    pub complete: bool,
    /// Whether a stream brought an error.
    pub failed: bool,
    /// The answer's status; absent where the client left before.
    pub status: Option<u16>,
    /// Tokens of the prompt, as the server reported them.
    pub tokens_in: Option<u64>,
    /// Tokens generated, as the server reported them.
    pub tokens_out: Option<u64>,
    /// Lines or events with content that a stream brought.
    pub units: Option<u64>,
    /// Bytes of the answer, head included.
    pub bytes_out: Option<u64>,
    /// Whether the framing of HTTP/1.1 is counted in these bytes.
    pub framed: bool,
    /// Milliseconds that the request took in all.
    pub ms: Option<u64>,
    /// Milliseconds that it took from the connection to the server on.
    pub ms_served: Option<u64>,
}

impl Default for ObservedUsage {
    /// Returns an answer that came, of which nothing more is known.
    fn default() -> ObservedUsage {
        ObservedUsage {
            server: Box::default(),
            reached: true,
            answered: true,
            complete: false,
            failed: false,
            status: None,
            tokens_in: None,
            tokens_out: None,
            units: None,
            bytes_out: None,
            framed: true,
            ms: None,
            ms_served: None,
        }
    }
}

/// The tokens to charge for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How the tokens are known.
    pub evidence: Evidence,
    /// The tokens.
    pub tokens: Tokens,
}
