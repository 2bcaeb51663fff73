//! What a request is charged, from the best evidence there is of what it used. Pure: the table of `DESIGN.md`, Ledger.
//!
//! | what the line says | charged |
//! |---|---|
//! | no server was reached | nothing |
//! | a server was reached and sent no head | the prompt, and the time it took at the pace learned, up to the reservation |
//! | a server answered with an error | nothing: it generated nothing |
//! | an answer that ended as it should, with figures of the server's own | these figures (`exact`) |
//! | an answer that broke off or failed, its units counted | units (`counted`); the prompt as reported, else as reserved |
//! | an answer whose bytes are known | what these bytes usually hold (`estimated`) |
//! | an answer of which nothing else is known | the reservation |
//!
//! A server leaves figures out that are zero (Ollama's `omitempty`: `prompt_eval_count` of a cached prompt, `eval_count` of
//! an empty answer, both for `/api/embeddings`), so one figure without the other means that the other is zero. A broken
//! stream's own figures stand where they are higher than what was counted.

use super::estimate::Estimates;
use super::reservation::{Evidence, Reservation};
use crate::decision::route::Endpoint;
use serde::{Deserialize, Serialize};

/// What a usage line says of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
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
    /// Bytes of the answer, head and framing included.
    pub bytes_out: Option<u64>,
    /// Milliseconds in all.
    pub ms: Option<u64>,
    /// Milliseconds from the connection on.
    pub ms_served: Option<u64>,
}

/// An answer that came, of which nothing more is known.
impl Default for Observed {
    fn default() -> Observed {
        Observed {
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
            ms: None,
            ms_served: None,
        }
    }
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How they are known.
    pub evidence: Evidence,
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
}

/// Reads the evidence.
pub fn figures(taken: &Reservation, seen: &Observed, learned: &Estimates) -> Figures {
    let nothing = Figures { evidence: Evidence::Exact, tokens_in: 0, tokens_out: 0 };
    let known = |evidence, tokens_in, tokens_out| Figures { evidence, tokens_in, tokens_out };
    if !seen.reached {
        return nothing;
    }
    if !seen.answered {
        let generated = seen.ms_served.map_or(taken.tokens_out, |ms| learned.tokens_in_time(taken.pool, ms));
        return known(Evidence::Estimated, taken.tokens_in, generated.min(taken.tokens_out));
    }
    if seen.status.is_some_and(|status| status >= 400) && seen.units.unwrap_or(0) == 0 {
        return nothing;
    }
    let reported = seen.tokens_in.is_some() || seen.tokens_out.is_some();
    if reported && seen.complete && !seen.failed {
        return known(Evidence::Exact, seen.tokens_in.unwrap_or(0), seen.tokens_out.unwrap_or(0));
    }
    let prompt = seen.tokens_in.unwrap_or(taken.tokens_in);
    if let (Some(units), true) = (seen.units, taken.stream) {
        return known(Evidence::Counted, prompt, units.max(seen.tokens_out.unwrap_or(0)));
    }
    if generates_nothing(taken.endpoint) {
        return known(Evidence::Estimated, prompt, 0);
    }
    match seen.bytes_out {
        Some(bytes) => {
            let generated = learned.tokens_in_bytes(taken.pool, taken.endpoint, taken.stream, bytes);
            known(Evidence::Estimated, prompt, generated.max(seen.tokens_out.unwrap_or(0)))
        }
        None => known(Evidence::Reserved, taken.tokens_in, taken.tokens_out),
    }
}

/// Whether an endpoint answers with vectors or a description.
fn generates_nothing(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Embed | Endpoint::Embeddings | Endpoint::V1Embeddings | Endpoint::Show)
}
