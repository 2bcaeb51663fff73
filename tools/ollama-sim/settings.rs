//! The command line.

use crate::duration::KeepAlive;
use clap::{Parser, ValueEnum};
use std::net::SocketAddr;

/// Which server is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Ollama: native API and `/v1`.
    Ollama,
    /// vLLM: `/v1` and `/health`.
    Openai,
}

/// A simulated Ollama (or vLLM) server, with counters of what it saw under /sim/stats.
#[derive(Debug, Clone, Parser)]
#[command(name = "ollama-sim")]
pub struct Settings {
    /// Address to listen on; port 0 takes a free one, which the first line of output names.
    #[arg(long, default_value = "127.0.0.1:11434")]
    pub listen: SocketAddr,
    /// Name of this server in its counters.
    #[arg(long, default_value = "ollama-sim")]
    pub name: String,
    /// Which server to imitate.
    #[arg(long, value_enum, default_value = "ollama")]
    pub kind: Kind,
    /// A model on disk; may be given several times.
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,
    /// Digest of a model, 64 hexadecimal digits; otherwise it follows from the name.
    #[arg(long = "digest", value_name = "MODEL=HEX", value_parser = digest)]
    pub digests: Vec<(String, String)>,
    /// Requests generating at once with one loaded model (OLLAMA_NUM_PARALLEL).
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub num_parallel: usize,
    /// Requests that may wait to be scheduled (OLLAMA_MAX_QUEUE); one more is answered 503.
    #[arg(long, default_value_t = 512)]
    pub max_queue: usize,
    /// Requests that may wait for a slot of a loaded model; one more is answered 503. Ollama itself has no such bound.
    #[arg(long)]
    pub slot_queue: Option<usize>,
    /// Models in memory at once (OLLAMA_MAX_LOADED_MODELS); 0 is without limit.
    #[arg(long, default_value_t = 3)]
    pub max_loaded: usize,
    /// Tokens generated a second in each slot; 0 is as fast as possible.
    #[arg(long, default_value_t = 50.0)]
    pub tokens_per_second: f64,
    /// Prompt tokens evaluated a second; 0 is as fast as possible.
    #[arg(long, default_value_t = 5000.0)]
    pub prompt_tokens_per_second: f64,
    /// Milliseconds a model takes to load.
    #[arg(long, default_value_t = 0)]
    pub load_ms: u64,
    /// How long an idle model stays in memory (OLLAMA_KEEP_ALIVE): a Go duration, negative for ever.
    #[arg(long, default_value = "5m", value_parser = KeepAlive::parse, allow_hyphen_values = true)]
    pub keep_alive: KeepAlive,
    /// Context length where a request names none (OLLAMA_CONTEXT_LENGTH).
    #[arg(long, default_value_t = 4096)]
    pub context_length: i64,
    /// Tokens generated where a request sets no bound.
    #[arg(long, default_value_t = 32)]
    pub default_predict: u64,
    /// Tokens of 1 to 12 bytes in an order of their own for each request, instead of the same short text.
    #[arg(long)]
    pub mixed_tokens: bool,
    /// Version shown by /api/version.
    #[arg(long, default_value = "0.30.0")]
    pub release: String,
    /// Answer 403 to a foreign Host header; by default on a loopback address only, as Ollama does.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub check_host: Option<bool>,
    /// Largest request body in bytes.
    #[arg(long, default_value_t = 128 << 20)]
    pub max_body: usize,
}

impl Settings {
    /// Returns the models, each with its digest where one was given.
    pub fn models_with_digests(&self) -> Vec<(String, Option<String>)> {
        let digest = |model: &String| self.digests.iter().find(|(name, _)| name == model).map(|(_, hex)| hex.clone());
        self.models.iter().map(|model| (model.clone(), digest(model))).collect()
    }

    /// Returns whether `Host` is checked.
    pub fn checks_host(&self) -> bool {
        self.check_host.unwrap_or(self.kind == Kind::Ollama && self.listen.ip().is_loopback())
    }
}

fn digest(text: &str) -> Result<(String, String), String> {
    let (model, hex) = text.rsplit_once('=').ok_or("MODEL=HEX is needed")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("a digest has 64 hexadecimal digits".to_owned());
    }
    Ok((model.to_owned(), hex.to_ascii_lowercase()))
}
