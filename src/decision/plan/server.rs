//! One model server, as the operator describes it.

use std::sync::Arc;

/// One model server (`[[server]]`).
#[derive(Debug, Clone)]
pub struct Server {
    /// The backend's name in haproxy.cfg, the upstream's in nginx.conf.
    pub name: Arc<str>,
    /// Base URL for probes, without a trailing slash.
    pub url: Arc<str>,
    /// What software it speaks like.
    pub kind: ServerKind,
    /// Requests it may have at once over all models; `None`: not bounded by us.
    pub maxconn: Option<u32>,
    /// Parallel requests per loaded model (OLLAMA_NUM_PARALLEL), at least 1; `None` where the operator did not say.
    pub slots: Option<u32>,
    /// Share in the rotation, 0 to 256; 0 takes no new requests.
    pub weight: u16,
    /// Models it serves where it cannot be asked; empty: discovered.
    pub models: Vec<Arc<str>>,
}

impl Server {
    /// Parallel requests per loaded model, at least 1, for comparing servers.
    pub fn parallel(&self) -> u32 {
        self.slots.unwrap_or(1).max(1)
    }
}

/// The API a model server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// Ollama's native API (and its `/v1`).
    Ollama,
    /// OpenAI's API only: vLLM, llama.cpp, LocalAI, TGI.
    OpenAi,
}

/// Position of a server in the policy's `servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub u16);
