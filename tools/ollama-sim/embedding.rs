//! Routes that embed: `/api/embed`, the legacy `/api/embeddings`, `/v1/embeddings`.

use crate::faults::Kind;
use crate::fields::Fields;
use crate::generation::Pace;
use crate::json::Json;
use crate::reply::{self, Reply};
use crate::router::Handler;
use crate::shapes;
use crate::sim::{Sim, prompt_tokens};
use crate::stats::Flight;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What a request wants embedded.
enum Input {
    Texts(Vec<String>),
    /// Absent or empty: the model is loaded.
    Nothing,
    /// Not a string or a list of strings.
    Wrong,
}

/// Answers a request for embeddings.
pub async fn answer(sim: &Sim, handler: Handler, body: &[u8]) -> Reply {
    let flight = Flight::new(&sim.stats);
    let reply = embed(sim, handler, body).await.unwrap_or_else(|refusal| refusal);
    flight.landed();
    reply
}

async fn embed(sim: &Sim, handler: Handler, body: &[u8]) -> Result<Reply, Reply> {
    let arrived = sim.clock.now();
    let tongue = sim.tongue(handler);
    let value = sim.json(handler, body)?;
    let (request, shape) = match handler {
        Handler::Embed => ("api.EmbedRequest", shapes::EMBED),
        Handler::Embeddings => ("api.EmbeddingRequest", shapes::EMBEDDINGS),
        _ => ("openai.EmbedRequest", shapes::V1_EMBEDDINGS),
    };
    let fields = sim.fields(handler, &value, request, shape)?;
    let format = fields.text("encoding_format");
    if !["", "float", "base64"].contains(&format.to_ascii_lowercase().as_str()) {
        let values = "Supported values: ['float', 'base64'].";
        return Err(tongue.error(400, &format!("Invalid value for 'encoding_format' = {format}. {values}")));
    }
    let input = input(handler, &fields);
    if handler == Handler::V1Embeddings && matches!(input, Input::Nothing) {
        return Err(tongue.error(400, "invalid input"));
    }
    let written = fields.text("model");
    let model = sim.resolve(handler, written)?;
    let texts = match input {
        Input::Texts(texts) => texts,
        Input::Nothing => Vec::new(),
        Input::Wrong => return Err(tongue.error(400, "invalid input type")),
    };
    let options = sim.runner_options(handler, fields.object("options").as_ref())?;
    let key = sim.key(&model);
    sim.faults.hold(Kind::Dead, Some(&key)).await;
    let acquired = sim.scheduler.acquire(&model, options, fields.keep_alive(), handler.name()).await;
    let lease = acquired.map_err(|_| sim.busy(handler))?;
    sim.faults.hold(Kind::Hang, Some(&key)).await;
    let ready = sim.clock.now();
    let tokens: u64 = texts.iter().map(|text| prompt_tokens(text.len())).sum();
    let pace = Pace { tokens_per_second: 0.0, prompt_tokens_per_second: sim.settings.prompt_tokens_per_second };
    pace.prompt(tokens).await;
    sim.stats.tokens(&key, tokens, 0);
    drop(lease);
    let wanted = fields.int("dimensions").and_then(|wanted| usize::try_from(wanted).ok()).filter(|wanted| *wanted > 0);
    let vectors: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, wanted)).collect();
    Ok(match handler {
        Handler::Embeddings => reply::gin(200, &json!({ "embedding": vectors.first().cloned().unwrap_or_default() })),
        Handler::Embed => {
            let some = !texts.is_empty();
            let now = sim.clock.now();
            reply::gin(
                200,
                &Embedded {
                    model: written,
                    embeddings: vectors,
                    total_duration: some.then(|| now.mono_ns.saturating_sub(arrived.mono_ns)),
                    load_duration: some.then(|| ready.mono_ns.saturating_sub(arrived.mono_ns)),
                    prompt_eval_count: some.then_some(tokens),
                },
            )
        }
        _ => {
            let base64 = format.eq_ignore_ascii_case("base64");
            let data: Vec<Value> = vectors.iter().enumerate().map(|(at, vector)| entry(at, vector, base64)).collect();
            let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
            reply::v1(200, &json!({ "object": "list", "data": data, "model": written, "usage": usage }))
        }
    })
}

#[derive(Debug, Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<u64>,
}

fn input(handler: Handler, fields: &Fields<'_>) -> Input {
    if handler == Handler::Embeddings {
        return match fields.text("prompt") {
            "" => Input::Nothing,
            prompt => Input::Texts(vec![prompt.to_owned()]),
        };
    }
    match fields.any("input") {
        None => Input::Nothing,
        Some(Json::Text(text)) if text.is_empty() && handler == Handler::Embed => Input::Nothing,
        Some(Json::Text(text)) => Input::Texts(vec![text.clone()]),
        Some(Json::Array(items)) if items.is_empty() => Input::Nothing,
        Some(Json::Array(items)) => match items.iter().map(|item| item.text().map(str::to_owned)).collect() {
            Some(texts) => Input::Texts(texts),
            None => Input::Wrong,
        },
        Some(_) => Input::Wrong,
    }
}

/// 32 numbers that follow from the text, or the first `wanted` of them, of length 1 together.
fn vector(text: &str, wanted: Option<usize>) -> Vec<f32> {
    let mut vector: Vec<f32> =
        Sha256::digest(text.as_bytes()).iter().map(|byte| f32::from(*byte) / 128.0 - 1.0).collect();
    vector.truncate(wanted.unwrap_or(vector.len()));
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

fn entry(at: usize, vector: &[f32], base64: bool) -> Value {
    let embedding = if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        json!(STANDARD.encode(bytes))
    } else {
        json!(vector)
    };
    json!({ "object": "embedding", "embedding": embedding, "index": at })
}
