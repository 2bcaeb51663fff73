//! What an OpenAI-compatible server has (vLLM, llama.cpp, LocalAI, TGI): `/v1/models`, and what only some of them have.

use super::deep::{Found, TOKENS};
use super::fetch::{Client, Said, failure};
use super::json::{self, Entries};
use super::{Parsed, Target, load};
use crate::decision::fleet::{Failure, Inventory, Model};
use crate::decision::name::ModelName;
use serde::Deserialize;
use serde_json::value::RawValue;

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
    /// Each is to be tried.
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

/// A number that differs from an earlier one where the server generated something in between. The inner `None`: not to be
/// told from now; the outer: this server never tells.
pub async fn progress(client: &Client, base: &str) -> Option<Option<u64>> {
    let metrics = answered(client, base, METRICS).await.ok()?.and_then(|body| load::metrics(&body));
    if let Some(progress) = metrics.and_then(|load| load.progress) {
        return Some(Some(progress));
    }
    let slots = answered(client, base, SLOTS).await.ok()?.and_then(|body| load::slots(&body));
    slots.map(|load| load.progress)
}

/// The model to ask for a token: the first listed, on servers that are known to hold what they list. LocalAI and others list
/// models that they would have to load, and have no mark to tell these from loaded ones.
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

/// The route a model answers on; learned from refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// `/v1/completions`
    #[default]
    Completions,
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/embeddings`
    Embeddings,
}

/// Asks for a few tokens, or for an embedding; says what was found, and the route that answered.
pub async fn few_tokens(client: &Client, base: &str, model: &str, known: Way) -> (Found, Way) {
    let mut found = (Found::Refused(404), known);
    let others = [Way::Completions, Way::Chat, Way::Embeddings].into_iter().filter(|way| *way != known);
    for way in std::iter::once(known).chain(others) {
        let (path, body) = match way {
            Way::Completions => {
                ("/v1/completions", serde_json::json!({ "model": model, "prompt": "1", "max_tokens": TOKENS }))
            }
            Way::Chat => {
                let messages = [serde_json::json!({ "role": "user", "content": "1" })];
                (
                    "/v1/chat/completions",
                    serde_json::json!({ "model": model, "messages": messages, "max_tokens": TOKENS }),
                )
            }
            Way::Embeddings => ("/v1/embeddings", serde_json::json!({ "model": model, "input": "1" })),
        };
        found = (conclude(client.post(base, path, body.to_string()).await), way);
        if !matches!(found.0, Found::Refused(400 | 404 | 405 | 422 | 501)) {
            return found;
        }
    }
    (found.0, Way::default())
}

fn conclude(said: Result<Said, Failure>) -> Found {
    #[derive(Deserialize, Default)]
    struct Answer {
        choices: Option<Vec<Box<RawValue>>>,
        data: Option<Vec<Box<RawValue>>>,
    }
    let said = match said {
        Ok(said) => said,
        Err(failure) => return Found::Failed(failure.detail.into()),
    };
    match said.status {
        200 => {
            let answer: Answer = serde_json::from_slice(&said.body).unwrap_or_default();
            let some = |list: Option<Vec<_>>| list.is_some_and(|list| !list.is_empty());
            if some(answer.choices) || some(answer.data) {
                Found::Token
            } else {
                Found::Failed("an answer without a token".into())
            }
        }
        429 | 503 => Found::Busy,
        refused @ (400..=499 | 501) => Found::Refused(refused),
        other => Found::Failed(format!("status {other}")),
    }
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    data: Entries<'a>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    created: Option<i64>,
    owned_by: Option<String>,
}

/// The models of an answer to `/v1/models`.
///
/// # Errors
/// `body`.
pub fn parse_models(bytes: &[u8]) -> Result<Parsed<Model>, Failure> {
    let list: List<'_> = json::answer(bytes, MODELS)?;
    Ok(list.data.read(|entry: Entry| {
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
