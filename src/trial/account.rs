//! A verdict as `replay` and `explain` print it. Fields are added, never renamed.

use crate::decision::answer::dialect::refusal_body;
use crate::decision::reason::Reason;
use crate::decision::request::name::NameBuffer;
use crate::decision::verdict::Verdict;
use crate::decision::view::View;
use crate::gate::Decision;
use crate::net::http::HttpAnswer;
use crate::nginx::reply;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// One verdict. Fields that do not apply, or were not read, are null.
#[derive(Serialize)]
pub struct ReplayAccount<'v> {
    /// `allow`, `answer` or `refuse`.
    pub verdict: &'static str,
    /// The HTTP status: of a refusal its own, else 200.
    pub status: u16,
    /// The public code of a refusal.
    pub code: Option<&'static str>,
    /// The reason of a refusal, for operators only.
    pub reason: Option<&'static str>,
    /// The caller's name, or the name of the key that may not call.
    pub caller: Option<&'v str>,
    /// Its plan.
    pub plan: Option<&'v str>,
    /// The model as the client wrote it, decoded; null where the decision ended before reading it.
    pub requested_model: Option<String>,
    /// Its canonical name, where the fleet has it.
    pub model: Option<&'v str>,
    /// The chosen server.
    pub server: Option<&'v str>,
    /// Tokens reserved for a grant, prompt and output together, not weighted.
    pub reserved_tokens: Option<u64>,
    stream: Option<bool>,
    max_output: Option<u64>,
    num_ctx: Option<i64>,
    keep_alive: Option<String>,
    /// Headers of the answer to the client: when to retry, and where it stands with its limits.
    pub headers: Headers,
}

/// Options of a request's body; all absent where the decision ended before reading it.
#[derive(Debug, Default)]
pub struct RequestedOptions {
    /// The model as the client wrote it, decoded.
    pub model: Option<String>,
    /// Whether the answer is to stream.
    pub stream: Option<bool>,
    /// Most tokens of its output.
    pub max_output: Option<u64>,
    /// The requested context, in tokens.
    pub num_ctx: Option<i64>,
    /// How long the model is to stay loaded, as written.
    pub keep_alive: Option<String>,
}

/// Headers of an answer, as an object.
pub struct Headers(HttpAnswer);

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What goes to the proxy alone is its own affair.
        let to_client = self.0.headers().iter().filter(|(name, _)| !name.as_str().starts_with("x-herdgate-"));
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in to_client {
            map.serialize_entry(name.as_str(), &value.to_str().unwrap_or_default())?;
        }
        map.end()
    }
}

impl<'v> ReplayAccount<'v> {
    /// Returns the account of a decision on `view`, with the options of the body where it was read.
    pub fn new(view: &'v View, decided: &Decision<'v>, wish: RequestedOptions) -> ReplayAccount<'v> {
        let RequestedOptions { model: requested, stream, max_output, num_ctx, keep_alive } = wish;
        let mut reply = reply::answer(200, "");
        let (verdict, status, code, reason) = match &decided.verdict {
            Verdict::Allow(grant) => {
                // Names of servers are header values; what is left out here is left out of the account.
                let _ = reply::add_grant(&mut reply, grant, None);
                ("allow", 200, None, None)
            }
            Verdict::Answer(_) => ("answer", 200, None, None),
            Verdict::Refuse(refusal) => {
                reply::add_refusal(&mut reply, refusal);
                ("refuse", refusal.status(), Some(refusal.code().as_str()), Some(Reason::as_str(&refusal.reason)))
            }
        };
        let pool = requested.as_deref().and_then(|requested| {
            NameBuffer::default().canonical(requested).and_then(|canonical| view.roster.get(canonical))
        });
        ReplayAccount {
            verdict,
            status,
            code,
            reason,
            caller: decided.caller.map(|caller| caller.name).or(decided.key.map(|key| &*key.name)),
            plan: decided.caller.map(|caller| &*caller.plan.name),
            requested_model: requested,
            model: pool.map(|pool| pool.name.as_str()),
            server: match &decided.verdict {
                Verdict::Allow(grant) => Some(&grant.server.name),
                Verdict::Answer(_) | Verdict::Refuse(_) => None,
            },
            reserved_tokens: decided.reserved.map(|tokens| tokens.prompt.saturating_add(tokens.output)),
            stream,
            max_output,
            num_ctx,
            keep_alive,
            headers: Headers(reply),
        }
    }
}

/// Returns the body of a refusal that the client reads.
pub fn refused_with(decided: &Decision<'_>) -> Option<String> {
    match &decided.verdict {
        Verdict::Refuse(refusal) => Some(refusal_body(refusal, decided.dialect)),
        Verdict::Allow(_) | Verdict::Answer(_) => None,
    }
}
