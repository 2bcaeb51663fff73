//! What an OpenAI-compatible server has (vLLM, llama.cpp, LocalAI, TGI): `/v1/models`, and what only some of them have.

use super::check::{CheckFinding, TOKENS};
use super::fetch::{Client, FetchReply, failure};
use super::json::{self, Entries};
use super::measure::{self, AnswerParts, SAMPLE};
use super::{Parsed, Target, load};
use crate::decision::fleet::roster::PoolKey;
use crate::decision::fleet::{Failure, Inventory, Model};
use crate::decision::plan::server::ServerKind;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use crate::ledger::tokens::estimate::Calibration;
use crate::ledger::tokens::form::AnswerKind;
use serde::Deserialize;

/// Lists the models.
pub const MODELS: &str = "/v1/models";
/// vLLM, llama.cpp.
const HEALTH: &str = "/health";
/// llama.cpp, unless it was switched off.
const SLOTS: &str = "/slots";
/// vLLM; llama.cpp where it was switched on.
const METRICS: &str = "/metrics";

/// Which of the endpoints that not every such server has this one has; learned by asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Has {
    health: bool,
    slots: bool,
    metrics: bool,
}

impl Default for Has {
    /// Returns routes of which each is still to be tried.
    fn default() -> Has {
        Has { health: true, slots: true, metrics: true }
    }
}

/// Asks how the server is, what it has, and how full it is. It holds what it lists, so nothing is known as loaded apart
/// from it.
///
/// # Errors
/// As [`Client::body`], and `body` where the list is not what it should be. `/health` counts where it exists (vLLM,
/// llama.cpp; 5xx while the engine is dead or loading).
pub async fn ask(client: &Client, base: &str, has: &mut Has) -> Result<(Inventory, usize), Failure> {
    if has.health {
        let said = client.get(base, HEALTH).await?;
        match said.status {
            404 | 405 | 501 => has.health = false,
            status @ 500.. => return Err(failure("status", format!("{HEALTH}: {status}"))),
            _ => {}
        }
    }
    let Parsed { entries, skipped } = parse_models(&client.body(base, MODELS).await?)?;
    let mut full = false;
    if has.slots {
        let slots = answered(client, base, SLOTS).await?.and_then(|body| load::slots(&body));
        has.slots = slots.is_some();
        full |= slots.is_some_and(|load| load.full);
    }
    if has.metrics {
        let metrics = answered(client, base, METRICS).await?.and_then(|body| load::metrics(&body));
        has.metrics = metrics.is_some();
        full |= metrics.is_some_and(|load| load.full);
    }
    Ok((Inventory { models: entries, full, ..Inventory::default() }, skipped))
}

async fn answered(client: &Client, base: &str, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let said = client.get(base, path).await?;
    Ok((said.status == 200).then_some(said.body))
}

/// Returns a number that differs from an earlier one where the server generated something in between. The inner `None`:
/// not to be told from now; the outer: this server never tells.
pub async fn progress(client: &Client, base: &str) -> Option<Option<u64>> {
    let metrics = answered(client, base, METRICS).await.ok()?.and_then(|body| load::metrics(&body));
    if let Some(progress) = metrics.and_then(|load| load.progress) {
        return Some(Some(progress));
    }
    let slots = answered(client, base, SLOTS).await.ok()?.and_then(|body| load::slots(&body));
    slots.map(|load| load.progress)
}

/// Returns the model to ask for a token: the first listed, on servers that are known to hold what they list. LocalAI
/// and others list models that they would have to load, and have no mark to tell these from loaded ones.
///
/// # Errors
/// As [`Client::body`].
pub async fn held(client: &Client, target: &Target) -> Result<Option<Box<str>>, Failure> {
    if !target.models.is_empty() {
        return Ok(None);
    }
    let models = parse_models(&client.body(&target.url, MODELS).await?)?.entries;
    Ok(models.into_iter().next().filter(|model| HOLDERS.contains(&&*model.owned_by)).map(|model| model.listed))
}

/// The `owned_by` of servers that hold what they list.
const HOLDERS: [&str; 3] = ["vllm", "llamacpp", "sglang"];

/// The route a model is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenAiEndpoint {
    /// `/v1/completions`
    Completions,
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/embeddings`
    Embeddings,
}

/// Which routes a model answers on, learned from refusals, and whose turn it is. Each builds its answers in its own way, so
/// successive checks take turns, as streams and now and then whole: what they measure is how many bytes a token costs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways {
    no_completions: bool,
    no_chat: bool,
    turn: u32,
}

/// Checks after which every way was taken.
pub const WAYS: u32 = 4;

impl Ways {
    /// Returns the way of the next check, and whether as a stream; those after it are for where it is refused.
    fn order(self) -> ([OpenAiEndpoint; 3], bool) {
        let (first, second) = match self.turn % 2 {
            0 => (OpenAiEndpoint::Completions, OpenAiEndpoint::Chat),
            _ => (OpenAiEndpoint::Chat, OpenAiEndpoint::Completions),
        };
        ([first, second, OpenAiEndpoint::Embeddings], self.turn % WAYS < 2)
    }

    fn lacks(self, way: OpenAiEndpoint) -> bool {
        match way {
            OpenAiEndpoint::Completions => self.no_completions,
            OpenAiEndpoint::Chat => self.no_chat,
            OpenAiEndpoint::Embeddings => false,
        }
    }

    /// Notes that a check was made.
    pub fn next(self) -> Ways {
        Ways { turn: self.turn.wrapping_add(1), ..self }
    }

    /// Returns the same for a check that asks in the plainest way.
    pub fn at_first(self) -> Ways {
        Ways { turn: 0, ..self }
    }

    /// Returns how many checks were made so far.
    pub fn turns(self) -> u32 {
        self.turn
    }

    /// Adds what another check learned of the routes.
    #[must_use]
    pub fn learn(self, other: Ways) -> Ways {
        Ways { no_completions: other.no_completions, no_chat: other.no_chat, ..self }
    }
}

/// Asks for a few tokens, or for an embedding; says what was found, what was learned of the routes, and what was measured.
pub async fn few_tokens(
    client: &Client,
    base: &str,
    model: &str,
    ways: Ways,
) -> (CheckFinding, Ways, Option<Calibration>) {
    let (order, stream) = ways.order();
    let (mut learned, mut found) = (ways, CheckFinding::Refused(404));
    for way in order.into_iter().filter(|way| !ways.lacks(*way)) {
        let usage = serde_json::json!({ "include_usage": true });
        let (path, endpoint, mut body) = match way {
            OpenAiEndpoint::Completions => (
                "/v1/completions",
                Endpoint::V1Completions,
                serde_json::json!({ "model": model, "prompt": SAMPLE, "max_tokens": TOKENS, "stream": stream }),
            ),
            OpenAiEndpoint::Chat => {
                let messages = [serde_json::json!({ "role": "user", "content": SAMPLE })];
                (
                    "/v1/chat/completions",
                    Endpoint::V1ChatCompletions,
                    serde_json::json!({ "model": model, "messages": messages, "max_tokens": TOKENS, "stream": stream }),
                )
            }
            OpenAiEndpoint::Embeddings => {
                ("/v1/embeddings", Endpoint::V1Embeddings, serde_json::json!({ "model": model, "input": SAMPLE }))
            }
        };
        let stream = stream && way != OpenAiEndpoint::Embeddings;
        if stream && let Some(body) = body.as_object_mut() {
            body.insert("stream_options".to_owned(), usage);
        }
        let asked = AnswerKind { kind: ServerKind::OpenAi, endpoint, stream, usage: stream, raw: false };
        let (now, measured) = conclude(client.post(base, path, body.to_string()).await, asked, model);
        found = now;
        if !matches!(found, CheckFinding::Refused(400 | 404 | 405 | 422 | 501)) {
            return (found, learned, measured);
        }
        match way {
            OpenAiEndpoint::Completions => learned.no_completions = true,
            OpenAiEndpoint::Chat => learned.no_chat = true,
            OpenAiEndpoint::Embeddings => {}
        }
    }
    // None answers: all are tried again.
    (found, Ways { turn: ways.turn, ..Ways::default() }, None)
}

fn conclude(said: Result<FetchReply, Failure>, asked: AnswerKind, model: &str) -> (CheckFinding, Option<Calibration>) {
    let said = match said {
        Ok(said) => said,
        Err(failure) => return (CheckFinding::Failed(failure.detail.into()), None),
    };
    let found = match said.status {
        200 => {
            let pool = PoolKey::of(&ModelName::canonical(model));
            let AnswerParts { done, error, found, .. } = measure::openai(&said, asked, pool, SAMPLE.len());
            return match error {
                None if done => (CheckFinding::Token, found),
                None => (CheckFinding::Failed("an answer without a token".into()), None),
                Some(_) => (CheckFinding::Failed("an error in the stream".into()), None),
            };
        }
        429 | 503 => CheckFinding::Busy,
        refused @ (400..=499 | 501) => CheckFinding::Refused(refused),
        other => CheckFinding::Failed(format!("status {other}")),
    };
    (found, None)
}

#[derive(Deserialize)]
struct ModelList<'a> {
    #[serde(borrow)]
    data: Entries<'a>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
    created: Option<i64>,
    owned_by: Option<String>,
}

/// Returns the models of an answer to `/v1/models`.
///
/// # Errors
/// `body`.
pub fn parse_models(bytes: &[u8]) -> Result<Parsed<Model>, Failure> {
    let list: ModelList<'_> = json::answer(bytes, MODELS)?;
    Ok(list.data.read(|entry: ModelEntry| {
        let listed = json::name(&entry.id)?;
        Some(Model {
            name: ModelName::canonical(&listed),
            listed,
            digest: "".into(),
            size: 0,
            modified_at: "".into(),
            created: entry.created.unwrap_or(0),
            owned_by: json::short(entry.owned_by),
            details: "".into(),
            capabilities: "".into(),
            remote: false,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_and_bad_entries_counted() {
        let body = br#"{"object":"list","models":[{"name":"llama.cpp says it twice"}],"data":[
            {"id":"meta-llama/Llama-3.1-8B","object":"model","created":1700000000,"owned_by":"vllm","permission":[{}]},
            {"id":"smollm2:135m","created":null}, {"id":null}, {"object":"model"}, 7]}"#;
        let Parsed { entries, skipped } = parse_models(body).unwrap();
        let seen: Vec<_> = entries.iter().map(|m| (m.name.as_str(), &*m.listed, m.created, &*m.owned_by)).collect();
        let expected = [
            ("meta-llama/llama-3.1-8b:latest", "meta-llama/Llama-3.1-8B", 1_700_000_000, "vllm"),
            ("smollm2:135m", "smollm2:135m", 0, ""),
        ];
        assert_eq!(seen, expected);
        assert_eq!(skipped, 3);
        for bad in [&b"{}"[..], b"[]", b"<html>", br#"{"data":[{"id":"a"}"#, br#"{"data":"x"}"#] {
            assert_eq!(parse_models(bad).unwrap_err().kind, "body", "{}", bad.escape_ascii());
        }
    }
}
