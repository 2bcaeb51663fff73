//! Step 1: the raw method and target against an exact table.
//!
//! Nothing is decoded or tidied: Ollama routes on the decoded path, so `/api/%70ull` is `/api/pull` there (gin), and any
//! decoding of ours that differed by one rule from Go's would be a way around the table. What is not literally in the
//! table is refused.

use super::verdict::Reason;

/// What an endpoint is for; a plan permits classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Generates or embeds on a model server.
    Inference,
    /// Answered by herdgate for the whole fleet; `POST /api/show` is routed but unmetered.
    Catalog,
    /// Changes servers or spends outside the fleet.
    Admin,
}

/// The API a refusal must be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/api/*` and `/`: `{"error": "…"}`
    Ollama,
    /// `/v1/*`: `{"error": {"message", "type", "code", "param"}}`
    OpenAi,
    /// `/v1/messages`: `{"type": "error", "error": {"type", "message"}}`
    Anthropic,
}

/// Every endpoint herdgate knows. A closed set, so it may be a metrics label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Endpoint {
    Generate,
    Chat,
    Embed,
    Embeddings,
    V1ChatCompletions,
    V1Completions,
    V1Embeddings,
    V1Responses,
    V1Messages,
    Show,
    Root,
    Tags,
    Ps,
    Version,
    V1Models,
    V1Model,
    Admin,
}
