//! `GET /status`: the report that `herdgate status` and scripts read.

use super::{Admin, JSON, TEXT, plain};
use crate::decision::caller::blocks::Block;
use crate::decision::caller::token::Issuer;
use crate::decision::fleet::roster::Pool;
use crate::decision::fleet::{Preference, ServerState};
use crate::decision::moment::Moment;
use crate::decision::plan::policy::{ModelPattern, Plan};
use crate::decision::plan::server::{Server, ServerKind};
use crate::decision::view::View;
use crate::gate::Gate;
use crate::metrics::StoreStanding;
use crate::net::http::HttpAnswer;
use crate::time::date;
use hyper::StatusCode;
use serde::Serialize;
use std::sync::atomic::Ordering;

/// Answers with the status report.
pub(super) fn answer(admin: &Admin, view: &View) -> HttpAnswer {
    let now = admin.clock.now();
    let status = StatusReport {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: now.since(admin.started) / 1_000_000_000,
        config_loaded_unix_ms: admin.config_loaded_unix_ms.load(Ordering::Acquire),
        not_ready: admin.readiness(view).err(),
        keys: view.keys.len(),
        waiting: admin.metrics.waiting_now(),
        servers: view.policy.servers.iter().map(|server| ServerStatus::new(view, server)).collect(),
        plans: view.policy.plans.iter().map(PlanStatus::new).collect(),
        blocks: view.blocks.list(now).into_iter().map(BlockStatus::new).collect(),
        ledger: admin.metrics.ledger_file(),
        models: admin.gate.as_ref().map(|gate| learned(gate, view)).unwrap_or_default(),
        issuers: view.policy.issuers.iter().map(|issuer| IssuerStatus::new(view, issuer, admin.clock.now())).collect(),
    };
    match serde_json::to_vec(&status) {
        Ok(body) => plain(StatusCode::OK, JSON, body),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

/// Returns the state of a server; unknown until it was probed.
pub(super) fn state_of(view: &View, server: &Server) -> ServerState {
    view.fleet.servers.get(&server.name).map_or(ServerState::Unknown, |seen| seen.state)
}

/// The body of `/status`. Members are added, never renamed, because scripts read it.
#[derive(Serialize)]
struct StatusReport<'v> {
    version: &'static str,
    uptime_s: u64,
    config_loaded_unix_ms: i64,
    /// Reason that `/readyz` gives with 503; absent where it says 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready: Option<String>,
    keys: usize,
    /// Requests that wait in this process for a server.
    waiting: u64,
    servers: Vec<ServerStatus<'v>>,
    plans: Vec<PlanStatus<'v>>,
    /// Callers that are blocked for a time.
    blocks: Vec<BlockStatus<'v>>,
    /// Issuers of JWTs, with the age of their keys.
    issuers: Vec<IssuerStatus<'v>>,
    /// State of the ledger's file; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<StoreStanding>,
    /// Models whose bytes per LLM token were learned.
    models: Vec<ModelStatus<'v>>,
}

#[derive(Serialize)]
struct ModelStatus<'v> {
    name: &'v str,
    /// Bytes of an answer's text per token.
    bytes_per_output_token: f64,
    /// Bytes of a prompt per token.
    bytes_per_prompt_token: f64,
}

fn learned<'v>(gate: &Gate, view: &'v View) -> Vec<ModelStatus<'v>> {
    let hundredths = |number: f64| (number * 100.0).round() / 100.0;
    let of = |pool: &'v Pool| {
        let (output, prompt) = gate.bytes_per_token(pool.key)?;
        let (bytes_per_output_token, bytes_per_prompt_token) = (hundredths(output), hundredths(prompt));
        Some(ModelStatus { name: pool.name.as_str(), bytes_per_output_token, bytes_per_prompt_token })
    };
    view.roster.pools.iter().filter_map(of).collect()
}

#[derive(Serialize)]
struct BlockStatus<'v> {
    kind: &'static str,
    name: &'v str,
    until: String,
}

impl<'v> BlockStatus<'v> {
    fn new(block: &'v Block) -> BlockStatus<'v> {
        BlockStatus { kind: block.kind.as_str(), name: &block.name, until: date::format(block.until.unix_ms) }
    }
}

/// A server, without its URL, which may hold a password.
#[derive(Serialize)]
struct ServerStatus<'v> {
    name: &'v str,
    kind: &'static str,
    state: &'static str,
    /// `sound`, `one_at_a_time` or `last`: its rank among the servers that take requests.
    preference: &'static str,
    weight: u16,
    maxconn: Option<u32>,
    failure: Option<FailureStatus<'v>>,
    version: Option<&'v str>,
    models: Vec<&'v str>,
    /// Those of `models` whose prompts the server passes on to another host.
    remote: Vec<&'v str>,
    /// Models that get no requests on this server, because its content differs from that of the other servers.
    quarantined: Vec<QuarantineStatus<'v>>,
    loaded: Vec<LoadedStatus<'v>>,
}

#[derive(Serialize)]
struct FailureStatus<'v> {
    kind: &'static str,
    detail: &'v str,
}

#[derive(Serialize)]
struct QuarantineStatus<'v> {
    model: &'v str,
    digest: &'v str,
    expected: &'v str,
}

#[derive(Serialize)]
struct LoadedStatus<'v> {
    name: &'v str,
    size_vram: u64,
    context_length: u64,
    expires_at: &'v str,
}

#[derive(Serialize)]
struct PlanStatus<'v> {
    name: &'v str,
    models: Vec<&'v str>,
    routes: Vec<&'static str>,
    requests: Vec<QuotaStatus>,
}

#[derive(Serialize)]
struct IssuerStatus<'v> {
    issuer: &'v str,
    /// Usable keys.
    keys: usize,
    /// Seconds since the issuer last served its keys; absent until it did.
    age_s: Option<u64>,
    /// Error of the last fetch; absent where it succeeded.
    failure: Option<&'static str>,
    /// Fetches that failed since the last that succeeded.
    failures: u32,
}

impl<'v> IssuerStatus<'v> {
    fn new(view: &'v View, issuer: &'v Issuer, now: Moment) -> IssuerStatus<'v> {
        let fetched = view.rings.fetched(&issuer.name);
        let loaded = view.rings.get(&issuer.name);
        IssuerStatus {
            issuer: &issuer.name,
            keys: loaded.map_or(0, |loaded| loaded.ring.len()),
            age_s: loaded.map(|loaded| now.mono_ns.saturating_sub(loaded.confirmed_ns) / 1_000_000_000),
            failure: fetched.and_then(|fetched| fetched.failure),
            failures: fetched.map_or(0, |fetched| fetched.failures),
        }
    }
}

#[derive(Serialize)]
struct QuotaStatus {
    count: u64,
    period_ms: u64,
    burst: u64,
}

impl<'v> ServerStatus<'v> {
    fn new(view: &'v View, server: &'v Server) -> ServerStatus<'v> {
        let seen = view.fleet.servers.get(&server.name);
        let inventory = seen.map(|seen| &*seen.inventory);
        let failure = seen.and_then(|seen| seen.failure.as_deref());
        let loaded = inventory.map_or(&[][..], |inventory| &inventory.loaded);
        ServerStatus {
            name: &server.name,
            kind: match server.kind {
                ServerKind::Ollama => "ollama",
                ServerKind::OpenAi => "openai",
            },
            state: state_of(view, server).as_str(),
            preference: seen.map_or(Preference::Sound, |seen| seen.preference).as_str(),
            weight: server.weight,
            maxconn: server.maxconn,
            failure: failure.map(|failure| FailureStatus { kind: failure.kind, detail: &failure.detail }),
            version: inventory.and_then(|inventory| inventory.version.as_deref()),
            models: inventory
                .map_or(&[][..], |inventory| &inventory.models)
                .iter()
                .map(|model| &*model.listed)
                .collect(),
            remote: inventory
                .map_or(&[][..], |inventory| &inventory.models)
                .iter()
                .filter(|model| model.remote)
                .map(|model| &*model.listed)
                .collect(),
            quarantined: view
                .roster
                .disagreements
                .iter()
                .filter(|found| found.odd.contains(&server.name))
                .filter_map(|found| {
                    let digest = found.digest_of(&server.name)?;
                    Some(QuarantineStatus { model: found.model.as_str(), digest, expected: found.expected.as_deref()? })
                })
                .collect(),
            loaded: loaded
                .iter()
                .map(|model| LoadedStatus {
                    name: &model.listed,
                    size_vram: model.size_vram,
                    context_length: model.context_length,
                    expires_at: &model.expires_at,
                })
                .collect(),
        }
    }
}

impl<'v> PlanStatus<'v> {
    fn new(plan: &'v Plan) -> PlanStatus<'v> {
        let routes = [("inference", plan.routes.inference), ("catalog", plan.routes.catalog)];
        PlanStatus {
            name: &plan.name,
            models: plan
                .models
                .iter()
                .map(|pattern| match pattern {
                    ModelPattern::Exact(name) => name.as_str(),
                    ModelPattern::Glob(glob) => glob,
                })
                .collect(),
            routes: routes.into_iter().filter_map(|(name, permitted)| permitted.then_some(name)).collect(),
            requests: plan
                .terms
                .requests
                .iter()
                .map(|quota| QuotaStatus {
                    count: quota.count.get(),
                    period_ms: quota.period_ns.get() / 1_000_000,
                    burst: quota.burst.get(),
                })
                .collect(),
        }
    }
}
