//! Answers of `/api/generate` and `/api/chat` (`GenerateResponse`, `ChatResponse` in `api/types.go`).

use crate::generation::{Outcome, Script};
use crate::reply::{self, NDJSON, Reply};
use crate::timestamp::rfc3339;
use serde::Serialize;

/// Zero is absent (`omitempty`).
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Debug, Default, Serialize)]
struct Metrics {
    #[serde(skip_serializing_if = "is_zero")]
    total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_eval_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    eval_duration: u64,
}

impl Metrics {
    fn of(outcome: &Outcome) -> Metrics {
        Metrics {
            total_duration: outcome.total_ns,
            load_duration: outcome.load_ns,
            prompt_eval_count: outcome.prompt_tokens,
            prompt_eval_duration: outcome.prompt_ns,
            eval_count: outcome.tokens,
            eval_duration: outcome.generation_ns,
        }
    }
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    done: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    done_reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    context: Vec<u32>,
    #[serde(flatten)]
    metrics: Metrics,
}

/// Writes native answers.
pub struct NativeScript {
    /// The model as the request wrote it.
    pub model: String,
    /// `/api/chat` rather than `/api/generate`.
    pub chat: bool,
    /// `/api/generate` without `raw` shows the tokens of prompt and answer as `context`.
    pub context: bool,
}

impl NativeScript {
    fn line(&self, text: &str, unix_ms: i64, end: Option<&Outcome>) -> String {
        let mut context = Vec::new();
        if let Some(outcome) = end
            && self.context
        {
            let length = u32::try_from(outcome.prompt_tokens.saturating_add(outcome.tokens)).unwrap_or(u32::MAX);
            context = (0..length.min(1 << 20)).map(|at| 1000 + at % 30_000).collect();
        }
        reply::text_of(&Line {
            model: &self.model,
            created_at: rfc3339(unix_ms),
            response: (!self.chat).then_some(text),
            message: self.chat.then_some(Message { role: "assistant", content: text }),
            done: end.is_some(),
            done_reason: end.map_or("", |outcome| outcome.reason),
            context,
            metrics: end.map(Metrics::of).unwrap_or_default(),
        })
    }
}

impl Script for NativeScript {
    fn stream_type(&self) -> &'static str {
        NDJSON
    }

    fn token(&mut self, text: &str, unix_ms: i64) -> String {
        self.line(text, unix_ms, None) + "\n"
    }

    fn done(&mut self, outcome: &Outcome) -> String {
        self.line("", outcome.unix_ms, Some(outcome)) + "\n"
    }

    fn whole(&mut self, text: &str, outcome: &Outcome) -> Reply {
        reply::whole(200, reply::GIN_JSON, self.line(text, outcome.unix_ms, Some(outcome)))
    }
}
