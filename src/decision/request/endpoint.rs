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

closed_enum! {
    /// An endpoint that herdgate knows (Ollama `server/routes.go`). The set is closed, so it may be a metrics label.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Endpoint {
        /// `POST /api/generate`
        Generate = "generate",
        /// `POST /api/chat`
        Chat = "chat",
        /// `POST /api/embed`
        Embed = "embed",
        /// `POST /api/embeddings`
        Embeddings = "embeddings",
        /// `POST /v1/chat/completions`
        V1ChatCompletions = "v1_chat_completions",
        /// `POST /v1/completions`
        V1Completions = "v1_completions",
        /// `POST /v1/embeddings`
        V1Embeddings = "v1_embeddings",
        /// `POST /v1/responses`
        V1Responses = "v1_responses",
        /// `POST /v1/messages`
        V1Messages = "v1_messages",
        /// `POST /api/show`
        Show = "show",
        /// `GET /`
        Root = "root",
        /// `GET /api/tags`
        Tags = "tags",
        /// `GET /api/ps`
        Ps = "ps",
        /// `GET /api/version`
        Version = "version",
        /// `GET /v1/models`
        V1Models = "v1_models",
        /// `GET /v1/models/{id}`
        V1Model = "v1_model",
        /// Pull, push, create, copy, delete, blobs, account and egress endpoints.
        Admin = "admin",
    }
}

impl Endpoint {
    /// What it is for.
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
}
