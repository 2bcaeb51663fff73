//! What an OpenAI-compatible server has: `/v1/models` (vLLM, llama.cpp, LocalAI, TGI).

use super::Parsed;
use super::fetch::Client;
use super::json::{self, Entries};
use crate::decision::fleet::{Failure, Inventory, Model};
use crate::decision::name::ModelName;
use serde::Deserialize;

/// Lists the models.
pub const MODELS: &str = "/v1/models";

/// Asks for the models. Such a server holds what it lists, so nothing is known as loaded apart from it.
///
/// # Errors
/// As [`Client::body`], and `body` where the answer is not what it should be.
pub async fn ask(client: &Client, base: &str) -> Result<(Inventory, usize), Failure> {
    let Parsed { entries, skipped } = parse_models(&client.body(base, MODELS).await?)?;
    Ok((Inventory { models: entries, ..Inventory::default() }, skipped))
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
