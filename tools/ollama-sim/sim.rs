//! The simulated server: what all handlers share.

use crate::faults::Faults;
use crate::fields::{Fields, Keys, Shape};
use crate::json::{self, Fault, Json};
use crate::name::{NameFault, Reference};
use crate::reply::{Reply, Tongue};
use crate::router::Handler;
use crate::scheduler::{Rules, RunnerOptions, Scheduler};
use crate::settings::{Kind, Settings};
use crate::stats::{Event, Stats};
use crate::store::{Model, Store, TRAINED_CONTEXT};
use herdgate::time::clock::Clock;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The server.
#[derive(Debug)]
pub struct Sim {
    pub settings: Settings,
    pub clock: Clock,
    pub stats: Arc<Stats>,
    pub faults: Arc<Faults>,
    pub store: Store,
    pub scheduler: Arc<Scheduler>,
}

/// Options that force a reload where they differ, with the default that does not (`Runner` in `api/types.go`).
const RUNNER_OPTIONS: [(&str, &str); 5] =
    [("num_batch", "512"), ("num_gpu", "-1"), ("main_gpu", "0"), ("num_thread", "0"), ("use_mmap", "null")];

impl Sim {
    /// Returns a server with its models on disk and nothing in memory. Errors on a model name that is none.
    pub fn new(settings: Settings) -> Result<Sim, String> {
        let clock = Clock::new();
        let kind = if settings.kind == Kind::Ollama { "ollama" } else { "openai" };
        let stats = Arc::new(Stats::new(&settings.name, kind));
        let vllm = settings.kind == Kind::Openai;
        let rules = Rules {
            num_parallel: settings.num_parallel,
            max_queue: settings.max_queue,
            slot_queue: settings.slot_queue,
            max_loaded: if vllm { 0 } else { settings.max_loaded },
            load: if vllm { Duration::ZERO } else { Duration::from_millis(settings.load_ms) },
            keep_alive: if vllm { crate::duration::KeepAlive::Forever } else { settings.keep_alive },
        };
        let scheduler = Arc::new(Scheduler::new(rules, clock.clone(), stats.clone()));
        let faults = Arc::new(Faults::new(stats.clone()));
        let store = Store::new(&settings.models_with_digests(), vllm)?;
        Ok(Sim { settings, clock, stats, faults, store, scheduler })
    }

    /// Returns how this server compares keys.
    pub fn keys(&self) -> Keys {
        if self.settings.kind == Kind::Ollama { Keys::Folded } else { Keys::Exact }
    }

    /// Returns a model's name as the counters and the faults have it.
    pub fn key(&self, model: &Model) -> String {
        if self.keys() == Keys::Folded { model.name.key() } else { model.short.clone() }
    }

    /// Returns the dialect of a handler's errors.
    pub fn tongue(&self, handler: Handler) -> Tongue {
        match handler {
            _ if self.settings.kind == Kind::Openai => Tongue::Vllm,
            Handler::V1Messages => Tongue::Anthropic,
            Handler::V1Models
            | Handler::V1Model
            | Handler::V1Chat
            | Handler::V1Completions
            | Handler::V1Embeddings
            | Handler::V1Responses => Tongue::OpenAi,
            _ => Tongue::Native,
        }
    }

    /// Returns the body as JSON, as this server reads it.
    pub fn json(&self, handler: Handler, body: &[u8]) -> Result<Json, Reply> {
        let tongue = self.tongue(handler);
        let (value, length) = json::first_value(body).map_err(|fault| match (fault, tongue) {
            (Fault::Empty, Tongue::Native) => tongue.error(400, "missing request body"),
            (fault, _) => tongue.error(400, &fault.to_string()),
        })?;
        let rest = body.get(length..).unwrap_or_default();
        if tongue == Tongue::Vllm && !rest.iter().all(u8::is_ascii_whitespace) {
            return Err(tongue.error(400, "JSON decode error: Extra data"));
        }
        Ok(value)
    }

    /// Returns the fields of a body; a wrong type is 400.
    pub fn fields<'a>(
        &self,
        handler: Handler,
        value: &'a Json,
        request: &str,
        shape: Shape,
    ) -> Result<Fields<'a>, Reply> {
        Fields::of(value, self.keys(), request, shape).map_err(|error| self.tongue(handler).error(400, &error))
    }

    /// Returns the model a request names. What is answered where there is none differs by route, as in
    /// `server/routes.go`.
    pub fn resolve(&self, handler: Handler, written: &str) -> Result<Model, Reply> {
        let tongue = self.tongue(handler);
        if tongue == Tongue::Vllm {
            let model = match written {
                "" => self.store.all().into_iter().next(),
                written => self.store.find_exact(written),
            };
            return model.ok_or_else(|| tongue.error(404, &format!("The model `{written}` does not exist.")));
        }
        let unknown = || match handler {
            Handler::Embeddings => tongue.error(404, &format!("model {written:?} not found, try pulling it first")),
            _ => tongue.error(404, &format!("model '{written}' not found")),
        };
        let reference = Reference::parse(written).map_err(|fault| match (fault, handler) {
            (NameFault::Missing, Handler::Generate | Handler::Embed) => unknown(),
            (NameFault::Missing, Handler::V1Completions | Handler::V1Embeddings) => unknown(),
            (NameFault::Missing, _) => tongue.error(400, "model is required"),
            (NameFault::Invalid, _) => tongue.error(400, "invalid model name"),
            (NameFault::Conflict, _) => tongue.error(400, "use either :local or :cloud, not both"),
        })?;
        if reference.source == crate::name::Source::Cloud {
            return Err(self.cloud(handler));
        }
        self.store.find(&reference.name).ok_or_else(unknown)
    }

    /// Returns what Ollama answers where the request would go to ollama.com and nobody is signed in.
    pub fn cloud(&self, handler: Handler) -> Reply {
        self.stats.event(Event::Cloud);
        match self.tongue(handler) {
            Tongue::Native => {
                let body =
                    json!({ "error": "unauthorized", "signin_url": "https://ollama.com/connect?name=sim&key=sim" });
                crate::reply::gin(401, &body)
            }
            tongue => tongue.error(401, "unauthorized"),
        }
    }

    /// Returns the options of a request that decide how its model is loaded. Ollama answers 500 to a wrong type here.
    pub fn runner_options(&self, handler: Handler, options: Option<&Fields<'_>>) -> Result<RunnerOptions, Reply> {
        let mut others = Vec::new();
        for (name, default) in RUNNER_OPTIONS {
            match options.and_then(|options| options.entry(name)) {
                None | Some(Json::Null) => {}
                Some(Json::Number(number)) if number == default => {}
                Some(Json::Number(number)) => others.push((name, number.clone())),
                Some(Json::Bool(flag)) => others.push((name, flag.to_string())),
                Some(_) => return Err(self.wrong_option(handler, name)),
            }
        }
        let num_ctx = self.int_option(handler, options, "num_ctx")?.unwrap_or(self.settings.context_length);
        // A longer context than the model was trained for is cut before it is compared (`effectiveContext`).
        Ok(RunnerOptions { num_ctx: num_ctx.clamp(4, TRAINED_CONTEXT), others })
    }

    /// Returns an integer among the options; a fraction is cut off, as in Go's conversion from `float64`.
    pub fn int_option(
        &self,
        handler: Handler,
        options: Option<&Fields<'_>>,
        name: &'static str,
    ) -> Result<Option<i64>, Reply> {
        match options.and_then(|options| options.entry(name)) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Number(number)) => Ok(number.parse::<f64>().ok().map(|number| number as i64)),
            Some(_) => Err(self.wrong_option(handler, name)),
        }
    }

    fn wrong_option(&self, handler: Handler, name: &str) -> Reply {
        self.tongue(handler).error(500, &format!("option {name:?} must be of type integer"))
    }

    /// Returns the refusal of a request too many.
    pub fn busy(&self, handler: Handler) -> Reply {
        self.stats.event(Event::Busy);
        self.busy_reply(handler)
    }

    /// Returns the same answer where nothing was refused for want of room.
    pub fn busy_reply(&self, handler: Handler) -> Reply {
        // Two spaces, as in Ollama.
        self.tongue(handler).error(503, "server busy, please try again.  maximum pending requests exceeded")
    }
}

/// Returns the prompt's length in tokens: one for each four bytes begun, at least one.
pub fn prompt_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4).max(1)
}

/// Bytes of text in a message's content or an input: strings, lists of parts, `text` and `content` members.
pub fn text_bytes(value: Option<&Json>) -> usize {
    match value {
        Some(Json::Text(text)) => text.len(),
        Some(Json::Array(items)) => items.iter().map(|item| text_bytes(Some(item))).sum(),
        Some(object @ Json::Object(_)) => text_bytes(object.member("text")) + text_bytes(object.member("content")),
        _ => 0,
    }
}
