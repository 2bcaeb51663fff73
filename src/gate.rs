//! One decision from inquiry to verdict: judge, admit, choose, and write it down. What both ingresses call.

use crate::clock::Clock;
use crate::decision::catalog::Rendered;
use crate::decision::inquiry::Inquiry;
use crate::decision::moment::Moment;
use crate::decision::route::Dialect;
use crate::decision::verdict::{Reason, Refusal, Verdict};
use crate::decision::view::View;
use crate::metrics::{Metrics, Port};
use crate::state::State;
use std::sync::Arc;

/// Nanoseconds after which a verdict is worth nothing: the proxy's own deadline (`timeout processing 100ms`) is near.
pub const DEADLINE_NS: u64 = 50_000_000;

/// Everything a decision needs, shared by all connections.
pub struct Gate {
    /// The current view.
    pub state: Arc<State>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
}

/// A verdict, and what an adapter needs to put it on the wire.
#[derive(Debug, Clone)]
pub struct Decided<'v> {
    /// The verdict.
    pub verdict: Verdict<'v>,
    /// The public id of this decision (`x-request-id`), 32 lower-case hex digits.
    pub id: Id,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
}

/// A random 128-bit identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id([u8; 32]);

impl Id {
    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl Gate {
    /// A gate over this state.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>, clock: Clock) -> Gate {
        Gate { state, metrics, clock }
    }

    /// Decides. `received` is when the question was read from the wire: an answer later than [`DEADLINE_NS`] after it is
    /// a refusal, because the proxy has given up by then.
    pub fn decide<'v>(
        &self,
        _view: &'v View,
        _inquiry: &Inquiry<'_>,
        _ingress: Port,
        _received: Moment,
    ) -> Decided<'v> {
        Decided {
            verdict: Verdict::Refuse(Refusal::new(Reason::FleetUnknown)),
            id: Id([b'0'; 32]),
            dialect: Dialect::OpenAi,
        }
    }

    /// A receipt that lets the caller of `answer` fetch it from the HTTP port (`/catalog`): printable ASCII, < 200 bytes.
    pub fn answer_receipt(
        &self,
        _answer: &crate::decision::verdict::Answer<'_>,
        _view: &View,
        _inquiry: &Inquiry<'_>,
    ) -> String {
        String::new()
    }
    /// Decides on a question that lacked what every inquiry must carry: always a refusal, logged and counted like any.
    pub fn refuse_malformed(&self, _uid: &[u8], _ingress: Port, _detail: &'static str) -> Decided<'static> {
        Decided {
            verdict: Verdict::Refuse(Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::MalformedInquiry) }),
            id: Id([b'0'; 32]),
            dialect: Dialect::OpenAi,
        }
    }

    /// The catalog answer a receipt was issued for; `None` where the receipt does not fit the request.
    pub fn catalog(&self, _view: &View, _receipt: &str, _method: &[u8], _target: &[u8]) -> Option<Rendered> {
        None
    }
}
