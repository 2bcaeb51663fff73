//! The catalog: what the fleet offers a caller, in Ollama's and OpenAI's form, filtered to what the caller's plan may
//! use.

use super::dialect::push_json_string;
use crate::decision::fleet::roster::Pool;
use crate::decision::fleet::{LoadedModel, Model};
use crate::decision::plan::policy::PlanIndex;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use crate::decision::verdict::LocalAnswer;
use crate::decision::view::View;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A rendered catalog answer, always with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedCatalog {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body. An answer to `HEAD` sends only its length.
    pub body: String,
    /// Whether the request was `HEAD`.
    pub head: bool,
}

/// Renders an answer on the view on which it was decided.
pub fn render(view: &View, answer: &LocalAnswer<'_>) -> RenderedCatalog {
    let (content_type, body) = match answer.endpoint {
        Endpoint::Root => ("text/plain; charset=utf-8", "Ollama is running".to_owned()),
        Endpoint::Tags => ("application/json; charset=utf-8", tags(view, answer.plan)),
        Endpoint::Ps => ("application/json; charset=utf-8", ps(view, answer.plan)),
        Endpoint::Version => ("application/json; charset=utf-8", version(view)),
        Endpoint::V1Model => ("application/json", answer.pool.map(v1_model).unwrap_or_default()),
        _ => ("application/json", v1_models(view, answer.plan)),
    };
    RenderedCatalog { content_type, body, head: answer.head }
}

fn visible(view: &View, plan: PlanIndex) -> impl Iterator<Item = &Pool> {
    view.roster.pools.iter().filter(move |pool| pool.permits(plan))
}

/// Renders `ListResponse` of Ollama `api/types.go`.
fn tags(view: &View, plan: PlanIndex) -> String {
    let mut out = String::from("{\"models\":[");
    for (position, pool) in visible(view, plan).enumerate() {
        separate(&mut out, position);
        let Model { listed, digest, size, modified_at, details, capabilities, .. } = &pool.listed;
        out.push_str("{\"name\":");
        push_json_string(&mut out, listed);
        out.push_str(",\"model\":");
        push_json_string(&mut out, listed);
        out.push_str(",\"modified_at\":");
        // Clients parse this field as a time and fail on an empty one.
        push_json_string(&mut out, if modified_at.is_empty() { "1970-01-01T00:00:00Z" } else { modified_at });
        let _ = write!(out, ",\"size\":{size},\"digest\":");
        push_json_string(&mut out, digest);
        out.push_str(",\"details\":");
        out.push_str(if details.is_empty() { NO_DETAILS } else { details });
        if !capabilities.is_empty() {
            out.push_str(",\"capabilities\":");
            out.push_str(capabilities);
        }
        out.push('}');
    }
    out.push_str("]}");
    out
}

/// Ollama's `ModelDetails` when nothing is known: its clients expect every member.
const NO_DETAILS: &str = "{\"parent_model\":\"\",\"format\":\"\",\"family\":\"\",\"families\":null,\"parameter_size\":\"\",\"quantization_level\":\"\"}";

/// Renders `ProcessResponse` of Ollama `api/types.go`: the union of live servers. Of a model loaded on several, it
/// lists the entry that stays loaded longest.
fn ps(view: &View, plan: PlanIndex) -> String {
    let mut loaded: BTreeMap<&ModelName, &LoadedModel> = BTreeMap::new();
    let live = view.fleet.servers.values().filter(|server| server.state.is_live());
    for model in live.flat_map(|server| &server.inventory.loaded) {
        let may = view.roster.get(model.name.as_str()).is_some_and(|pool| pool.permits(plan));
        if may && loaded.get(&model.name).is_none_or(|other| *other.expires_at < *model.expires_at) {
            loaded.insert(&model.name, model);
        }
    }
    let mut out = String::from("{\"models\":[");
    for (position, model) in loaded.values().enumerate() {
        separate(&mut out, position);
        out.push_str("{\"name\":");
        push_json_string(&mut out, &model.listed);
        out.push_str(",\"model\":");
        push_json_string(&mut out, &model.listed);
        let _ = write!(out, ",\"size\":{},\"digest\":", model.size);
        push_json_string(&mut out, &model.digest);
        out.push_str(",\"details\":");
        out.push_str(if model.details.is_empty() { NO_DETAILS } else { &model.details });
        out.push_str(",\"expires_at\":");
        push_json_string(&mut out, &model.expires_at);
        let _ = write!(out, ",\"size_vram\":{},\"context_length\":{}}}", model.size_vram, model.context_length);
    }
    out.push_str("]}");
    out
}

/// Renders the lowest version among live servers, because clients enable features by it.
fn version(view: &View) -> String {
    let numbers =
        |version: &str| -> Vec<u64> { version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect() };
    let lowest = view
        .fleet
        .servers
        .values()
        .filter(|server| server.state.is_live())
        .filter_map(|server| server.inventory.version.as_deref())
        .min_by_key(|version| numbers(version));
    let mut out = String::from("{\"version\":");
    push_json_string(&mut out, lowest.unwrap_or("0.0.0"));
    out.push('}');
    out
}

fn v1_models(view: &View, plan: PlanIndex) -> String {
    let mut out = String::from("{\"object\":\"list\",\"data\":[");
    for (position, pool) in visible(view, plan).enumerate() {
        separate(&mut out, position);
        out.push_str(&v1_model(pool));
    }
    out.push_str("]}");
    out
}

/// Renders OpenAI's model object.
fn v1_model(pool: &Pool) -> String {
    let mut out = String::from("{\"id\":");
    push_json_string(&mut out, &pool.listed.listed);
    let _ = write!(out, ",\"object\":\"model\",\"created\":{},\"owned_by\":", pool.listed.created);
    push_json_string(&mut out, &pool.listed.owned_by);
    out.push('}');
    out
}

fn separate(out: &mut String, position: usize) {
    if position > 0 {
        out.push(',');
    }
}
