//! Answers of `/v1/chat/completions` and `/v1/completions` (`openai/openai.go`, `middleware/openai.go`; vLLM's protocol).

use crate::generation::{Outcome, Script};
use crate::reply::{self, Reply, SSE};
use serde::Serialize;

#[derive(Debug, Default, Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Usage {
    fn of(outcome: &Outcome) -> Usage {
        Usage {
            prompt_tokens: outcome.prompt_tokens,
            completion_tokens: outcome.tokens,
            total_tokens: outcome.prompt_tokens.saturating_add(outcome.tokens),
        }
    }
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    role: &'static str,
    content: &'a str,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Message<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_fingerprint: &'static str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// Writes OpenAI answers.
pub struct OpenAiScript {
    pub id: String,
    /// The model as the request wrote it.
    pub model: String,
    /// `/v1/chat/completions` rather than `/v1/completions`.
    pub chat: bool,
    pub include_usage: bool,
    /// vLLM rather than Ollama: a first chunk with the role alone, no fingerprint.
    pub vllm: bool,
    pub created_ms: i64,
    /// Whether a chunk was written.
    pub begun: bool,
}

impl OpenAiScript {
    fn choice<'a>(&self, text: &'a str, finish_reason: Option<&'static str>, streamed: bool) -> Choice<'a> {
        let role = if self.vllm && streamed && self.begun { "" } else { "assistant" };
        Choice {
            text: (!self.chat).then_some(text),
            index: 0,
            message: (self.chat && !streamed).then_some(Message { role, content: text }),
            delta: (self.chat && streamed).then_some(Message { role, content: text }),
            finish_reason,
        }
    }

    fn object(&self, choices: Vec<Choice<'_>>, usage: Option<Usage>, streamed: bool) -> String {
        reply::text_of(&Completion {
            id: &self.id,
            object: match (self.chat, streamed) {
                (true, true) => "chat.completion.chunk",
                (true, false) => "chat.completion",
                (false, _) => "text_completion",
            },
            created: self.created_ms.div_euclid(1000),
            model: &self.model,
            system_fingerprint: if self.vllm { "" } else { "fp_ollama" },
            choices,
            usage,
        })
    }

    /// One event; Ollama's `/v1/completions` puts a zero usage on every chunk when usage was asked for.
    fn chunk(&mut self, text: &str, finish_reason: Option<&'static str>) -> String {
        let usage = (self.include_usage && !self.chat && !self.vllm).then(Usage::default);
        let mut events = String::new();
        if self.vllm && self.chat && !self.begun {
            let first = self.object(vec![self.choice("", None, true)], None, true);
            events = format!("data: {first}\n\n");
            self.begun = true;
        }
        self.begun = true;
        let chunk = self.object(vec![self.choice(text, finish_reason, true)], usage, true);
        format!("{events}data: {chunk}\n\n")
    }
}

impl Script for OpenAiScript {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn token(&mut self, text: &str, _unix_ms: i64) -> String {
        self.chunk(text, None)
    }

    fn done(&mut self, outcome: &Outcome) -> String {
        let mut events = self.chunk("", Some(outcome.reason));
        if self.include_usage {
            let usage = self.object(Vec::new(), Some(Usage::of(outcome)), true);
            events.push_str(&format!("data: {usage}\n\n"));
        }
        events + "data: [DONE]\n\n"
    }

    fn whole(&mut self, text: &str, outcome: &Outcome) -> Reply {
        let choice = self.choice(text, Some(outcome.reason), false);
        let body = self.object(vec![choice], Some(Usage::of(outcome)), false);
        reply::whole(200, reply::PLAIN_JSON, body + "\n")
    }
}
