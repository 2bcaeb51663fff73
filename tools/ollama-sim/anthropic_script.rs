//! Answers of `/v1/messages` in basic form: one block of text (`anthropic/anthropic.go`).

use crate::generation::{Outcome, Script};
use crate::reply::{self, Reply, SSE};
use serde_json::{Value, json};

/// Writes Anthropic answers.
pub struct AnthropicScript {
    pub id: String,
    /// The model as the request wrote it.
    pub model: String,
    /// Input tokens as estimated from the request, which a stream's first event shows.
    pub estimate: u64,
    /// Whether the first event was written.
    pub begun: bool,
}

impl AnthropicScript {
    fn message(&self, content: Value, stop: Option<&str>, usage: Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": null,
            "usage": usage,
        })
    }

    fn begin(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) {
            return String::new();
        }
        let message = self.message(json!([]), None, json!({ "input_tokens": self.estimate, "output_tokens": 0 }));
        event("message_start", json!({ "message": message }))
            + &event("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } }))
    }
}

fn event(kind: &str, mut data: Value) -> String {
    data["type"] = json!(kind);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn stop_reason(reason: &str) -> &'static str {
    match reason {
        "stop" => "end_turn",
        "length" => "max_tokens",
        _ => "stop_sequence",
    }
}

fn usage(outcome: &Outcome) -> Value {
    json!({ "input_tokens": outcome.prompt_tokens, "output_tokens": outcome.tokens })
}

impl Script for AnthropicScript {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn token(&mut self, text: &str, _unix_ms: i64) -> String {
        self.begin()
            + &event("content_block_delta", json!({ "index": 0, "delta": { "type": "text_delta", "text": text } }))
    }

    fn done(&mut self, outcome: &Outcome) -> String {
        let stop = json!({ "stop_reason": stop_reason(outcome.reason), "stop_sequence": null });
        self.begin()
            + &event("content_block_stop", json!({ "index": 0 }))
            + &event("message_delta", json!({ "delta": stop, "usage": usage(outcome) }))
            + &event("message_stop", json!({}))
    }

    fn whole(&mut self, text: &str, outcome: &Outcome) -> Reply {
        let content = json!([{ "type": "text", "text": text }]);
        reply::v1(200, &self.message(content, Some(stop_reason(outcome.reason)), usage(outcome)))
    }
}
