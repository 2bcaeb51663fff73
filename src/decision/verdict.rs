//! The result of a decision: Grant, Answer or Refusal.
//!
//! The reason ([`Reason`]) and what the client learns ([`Code`]) are two enums, recorded together: the log names the
//! reason, the client learns only the code. An unknown model and a model outside the plan differ in the first and not
//! in the second.

use super::reason::{Code, Reason};
use crate::decision::fleet::roster::Pool;
use crate::decision::plan::priority::QueuePlace;
use crate::decision::plan::server::Server;
use crate::decision::request::endpoint::Endpoint;

/// The decision on one inquiry. It borrows from the View on which it was taken.
#[derive(Debug, Clone)]
pub enum Verdict<'v> {
    /// The request may pass, to this server.
    Allow(Grant<'v>),
    /// herdgate answers this request itself (catalog).
    Answer(LocalAnswer<'v>),
    /// The request may not pass.
    Refuse(Refusal),
}

/// Permission to pass, and the destination.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'v> {
    /// The chosen server.
    pub server: &'v Server,
    /// The server to which the proxy sends the request if the first is unavailable to it.
    pub server2: Option<&'v Server>,
    /// The pool that serves the model; `None` if the ingress hides bodies.
    pub pool: Option<&'v Pool>,
    /// The caller's standing with its tightest request limit, after this request; `None` without such a limit.
    pub requests: Option<LimitStanding>,
    /// The request's place in the proxy's queue, if the server is full.
    pub place: QueuePlace,
    /// The caller's standing with its tightest token limit, in LLM tokens, after this request; `None` without such a
    /// limit.
    pub tokens: Option<LimitStanding>,
}

/// A caller's standing with one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStanding {
    /// Most that may be taken at once (the burst).
    pub limit: u64,
    /// What is left right now.
    pub remaining: u64,
    /// Nanoseconds until the whole limit is available again.
    pub reset_ns: u64,
}

/// A catalog answer, rendered by `catalog::render` on the same View.
#[derive(Debug, Clone, Copy)]
pub struct LocalAnswer<'v> {
    /// The catalog endpoint asked for.
    pub endpoint: Endpoint,
    /// The caller's plan, as a position in the View's plans: the catalog shows only what it may use.
    pub plan: crate::decision::plan::policy::PlanIndex,
    /// The model asked for by `GET /v1/models/{id}`.
    pub pool: Option<&'v Pool>,
    /// Whether the method is `HEAD`: the answer then has only headers and the length.
    pub head: bool,
}

/// A refusal: the reason, what the client learns, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, for the log.
    pub reason: Reason,
    /// Whole seconds after which a retry may succeed; only on 429 and 503.
    pub retry_after_s: Option<u64>,
    /// The caller's standing with the request rate that refused it; only on 429.
    pub standing: Option<LimitStanding>,
    /// The caller's standing with the token rate or budget that refused it, in LLM tokens; only on 429.
    pub tokens: Option<LimitStanding>,
    /// The model as the client wrote it (decoded, at most 256 bytes), if the public message names it.
    pub model: Option<Box<str>>,
}

impl Refusal {
    /// Returns a refusal without a time to come back.
    pub fn new(reason: Reason) -> Refusal {
        Refusal { reason, retry_after_s: None, standing: None, tokens: None, model: None }
    }

    /// Returns the public code.
    pub fn code(&self) -> Code {
        self.reason.code()
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> u16 {
        self.code().status()
    }
}
