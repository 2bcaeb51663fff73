//! What is decided: Grant, Answer or Refusal, and the one table from a refusal's reason to its status, public code and label.
//!
//! *Why* ([`Reason`]) and *what is told* ([`Code`]) are two enums, recorded together: the log names the reason, the client
//! learns only the code. An unknown model and a model outside the plan differ in the first and not in the second.

use super::reason::{Code, Reason};
use crate::decision::fleet::roster::Pool;
use crate::decision::plan::priority::Place;
use crate::decision::plan::server::Server;
use crate::decision::request::endpoint::Endpoint;

/// The decision on one inquiry. Borrows from the View it was taken on.
#[derive(Debug, Clone)]
pub enum Verdict<'v> {
    /// Let it through, to this server.
    Allow(Grant<'v>),
    /// herdgate answers this request itself (catalog).
    Answer(Answer<'v>),
    /// Do not let it through.
    Refuse(Refusal),
}

/// Permission to pass, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'v> {
    /// The chosen server.
    pub server: &'v Server,
    /// Where the proxy sends the request should the first be unavailable to it.
    pub server2: Option<&'v Server>,
    /// The pool that serves the model; absent where the ingress hides bodies.
    pub pool: Option<&'v Pool>,
    /// Where the caller stands with its tightest request limit, after this request; absent without one.
    pub requests: Option<Standing>,
    /// Where it stands in the proxy's queue, should that server be full.
    pub place: Place,
    /// Where the caller stands with its tightest token limit, in tokens, after this request; absent without one.
    pub tokens: Option<Standing>,
}

/// Where a caller stands with one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Most that may be taken at once (the burst).
    pub limit: u64,
    /// What is left right now.
    pub remaining: u64,
    /// Nanoseconds until the whole limit is available again.
    pub reset_ns: u64,
}

/// A catalog answer: rendered by `catalog::render` on the same View.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'v> {
    /// Which catalog endpoint was asked.
    pub endpoint: Endpoint,
    /// The caller's plan: the catalog shows only what it may use. Index into the View's plans.
    pub plan: crate::decision::plan::policy::PlanIndex,
    /// The model asked for by `GET /v1/models/{id}`.
    pub pool: Option<&'v Pool>,
    /// `HEAD`: headers and length only.
    pub head: bool,
}

/// A refusal: why, what is told, and when to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for the log.
    pub reason: Reason,
    /// Whole seconds after which a retry may succeed; only on 429 and 503.
    pub retry_after_s: Option<u64>,
    /// Where the caller stands with the request rate that refused it; only on 429.
    pub standing: Option<Standing>,
    /// Where the caller stands with the token rate or budget that refused it; only on 429.
    pub tokens: Option<Standing>,
    /// The model as the client wrote it (decoded, at most 256 bytes), where the public message names it.
    pub model: Option<Box<str>>,
}

impl Refusal {
    /// A refusal without a time to come back.
    pub fn new(reason: Reason) -> Refusal {
        Refusal { reason, retry_after_s: None, standing: None, tokens: None, model: None }
    }

    /// The public code.
    pub fn code(&self) -> Code {
        self.reason.code()
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code().status()
    }
}
