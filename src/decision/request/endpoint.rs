//! The endpoints that herdgate knows, the class of each, and the dialect of its answers.

use serde::{Deserialize, Serialize};

/// The purpose of an endpoint. A plan permits classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The endpoint generates or embeds on a model server.
    Inference,
    /// herdgate answers for the whole fleet, except `POST /api/show`, which is routed to a server but not metered.
    Catalog,
    /// The endpoint changes servers or has effects outside the fleet.
    Admin,
}

/// The API in whose form a refusal must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `/api/*` and `/`: `{"error": "…"}`
    Ollama,
    /// `/v1/*`: `{"error": {"message", "type", "param", "code"}}`
    OpenAi,
    /// `/v1/messages`: `{"type": "error", "error": {"type", "message"}}`
    Anthropic,
}

impl Dialect {
    /// Returns the dialect of a path, whether or not the path is a known one.
    pub fn of(path: &[u8]) -> Dialect {
        if path == b"/v1/messages" {
            Dialect::Anthropic
        } else if path.starts_with(b"/v1/") {
            Dialect::OpenAi
        } else {
            Dialect::Ollama
        }
    }
}

/// An endpoint that herdgate knows (Ollama `server/routes.go`). The set is closed, so it may be a metrics label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /api/generate`
    Generate,
    /// `POST /api/chat`
    Chat,
    /// `POST /api/embed`
    Embed,
    /// `POST /api/embeddings`
    Embeddings,
    /// `POST /v1/chat/completions`
    V1ChatCompletions,
    /// `POST /v1/completions`
    V1Completions,
    /// `POST /v1/embeddings`
    V1Embeddings,
    /// `POST /v1/responses`
    V1Responses,
    /// `POST /v1/messages`
    V1Messages,
    /// `POST /api/show`
    Show,
    /// `GET /`
    Root,
    /// `GET /api/tags`
    Tags,
    /// `GET /api/ps`
    Ps,
    /// `GET /api/version`
    Version,
    /// `GET /v1/models`
    V1Models,
    /// `GET /v1/models/{id}`
    V1Model,
    /// Pull, push, create, copy, delete, blobs, account and egress endpoints.
    Admin,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Endpoint; 17] = [
        Endpoint::Generate,
        Endpoint::Chat,
        Endpoint::Embed,
        Endpoint::Embeddings,
        Endpoint::V1ChatCompletions,
        Endpoint::V1Completions,
        Endpoint::V1Embeddings,
        Endpoint::V1Responses,
        Endpoint::V1Messages,
        Endpoint::Show,
        Endpoint::Root,
        Endpoint::Tags,
        Endpoint::Ps,
        Endpoint::Version,
        Endpoint::V1Models,
        Endpoint::V1Model,
        Endpoint::Admin,
    ];

    /// Returns the purpose of the endpoint.
    pub fn class(self) -> Class {
        match self {
            Endpoint::Generate
            | Endpoint::Chat
            | Endpoint::Embed
            | Endpoint::Embeddings
            | Endpoint::V1ChatCompletions
            | Endpoint::V1Completions
            | Endpoint::V1Embeddings
            | Endpoint::V1Responses
            | Endpoint::V1Messages => Class::Inference,
            Endpoint::Show
            | Endpoint::Root
            | Endpoint::Tags
            | Endpoint::Ps
            | Endpoint::Version
            | Endpoint::V1Models
            | Endpoint::V1Model => Class::Catalog,
            Endpoint::Admin => Class::Admin,
        }
    }

    /// Returns whether herdgate answers the endpoint itself instead of routing it to a server.
    pub fn is_answered_here(self) -> bool {
        self.class() == Class::Catalog && self != Endpoint::Show
    }

    /// Returns a short fixed name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Endpoint::Generate => "generate",
            Endpoint::Chat => "chat",
            Endpoint::Embed => "embed",
            Endpoint::Embeddings => "embeddings",
            Endpoint::V1ChatCompletions => "v1_chat_completions",
            Endpoint::V1Completions => "v1_completions",
            Endpoint::V1Embeddings => "v1_embeddings",
            Endpoint::V1Responses => "v1_responses",
            Endpoint::V1Messages => "v1_messages",
            Endpoint::Show => "show",
            Endpoint::Root => "root",
            Endpoint::Tags => "tags",
            Endpoint::Ps => "ps",
            Endpoint::Version => "version",
            Endpoint::V1Models => "v1_models",
            Endpoint::V1Model => "v1_model",
            Endpoint::Admin => "admin",
        }
    }
}
