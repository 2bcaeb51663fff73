//! Answers of `/v1/responses` in basic form: one message of text (`openai/responses.go`).

use crate::generation::{Outcome, Script};
use crate::reply::{self, Reply, SSE};
use serde_json::{Value, json};

/// Writes Responses answers.
pub struct ResponsesScript {
    pub id: String,
    /// The model as the request wrote it.
    pub model: String,
    pub created_ms: i64,
    /// What was streamed so far, and the number of the next event.
    pub text: String,
    pub sequence: u64,
}

impl ResponsesScript {
    fn response(&self, status: &str, output: Value, outcome: Option<&Outcome>) -> Value {
        let usage = outcome.map(|outcome| {
            json!({
                "input_tokens": outcome.prompt_tokens,
                "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens": outcome.tokens,
                "output_tokens_details": { "reasoning_tokens": 0 },
                "total_tokens": outcome.prompt_tokens.saturating_add(outcome.tokens),
            })
        });
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created_ms.div_euclid(1000),
            "completed_at": outcome.map(|outcome| outcome.unix_ms.div_euclid(1000)),
            "status": status,
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": true,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        })
    }

    fn item(&self, status: &str, text: Option<&str>) -> Value {
        let content = text.map(part).into_iter().collect::<Vec<_>>();
        json!({
            "id": format!("msg_{}", self.id), "type": "message", "status": status, "role": "assistant", "content": content,
        })
    }

    fn event(&mut self, kind: &str, mut data: Value) -> String {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        format!("event: {kind}\ndata: {data}\n\n")
    }

    fn about_text(&mut self, kind: &str, name: &str, value: Value) -> String {
        let item = format!("msg_{}", self.id);
        self.event(kind, json!({ "item_id": item, "output_index": 0, "content_index": 0, name: value }))
    }

    fn begin(&mut self) -> String {
        let response = self.response("in_progress", json!([]), None);
        let item = self.item("in_progress", None);
        self.event("response.created", json!({ "response": response }))
            + &self.event("response.in_progress", json!({ "response": response }))
            + &self.event("response.output_item.added", json!({ "output_index": 0, "item": item }))
            + &self.about_text("response.content_part.added", "part", part(""))
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

impl Script for ResponsesScript {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn token(&mut self, text: &str, _unix_ms: i64) -> String {
        let begin = if self.sequence == 0 { self.begin() } else { String::new() };
        self.text.push_str(text);
        begin + &self.about_text("response.output_text.delta", "delta", json!(text))
    }

    fn done(&mut self, outcome: &Outcome) -> String {
        let begin = if self.sequence == 0 { self.begin() } else { String::new() };
        let text = std::mem::take(&mut self.text);
        let item = self.item("completed", Some(&text));
        let response = self.response("completed", json!([item]), Some(outcome));
        begin
            + &self.about_text("response.output_text.done", "text", json!(text))
            + &self.about_text("response.content_part.done", "part", part(&text))
            + &self.event("response.output_item.done", json!({ "output_index": 0, "item": item }))
            + &self.event("response.completed", json!({ "response": response }))
    }

    fn whole(&mut self, text: &str, outcome: &Outcome) -> Reply {
        let item = self.item("completed", Some(text));
        reply::v1(200, &self.response("completed", json!([item]), Some(outcome)))
    }
}
