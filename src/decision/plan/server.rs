//! One model server, as the operator describes it.

use std::sync::Arc;

/// One model server (`[[server]]`).
#[derive(Debug, Clone)]
pub struct Server {
    /// The backend's name in haproxy.cfg, or the upstream's in nginx.conf.
    pub name: Arc<str>,
    /// The base URL for probes, without a trailing slash.
    pub url: Arc<str>,
    /// The API that the server speaks.
    pub kind: ServerKind,
    /// Most requests in flight over all models; `None` if herdgate does not bound them.
    pub maxconn: Option<u32>,
    /// Parallel requests per loaded model (OLLAMA_NUM_PARALLEL), at least 1; `None` if the operator did not say.
    pub slots: Option<u32>,
    /// Share in the rotation, 0 to 256; a server with 0 gets no new requests.
    pub weight: u16,
    /// The models that a server has which cannot be asked for them; empty if they are discovered.
    pub models: Vec<Arc<str>>,
}

impl Server {
    /// Returns the parallel requests per loaded model, at least 1, for comparing servers.
    pub fn parallel(&self) -> u32 {
        self.slots.unwrap_or(1).max(1)
    }
}

/// The API that a model server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// Ollama's native API (and its `/v1`).
    Ollama,
    /// OpenAI's API only: vLLM, llama.cpp, LocalAI, TGI.
    OpenAi,
}

/// The position of a server in the policy's `servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub u16);
