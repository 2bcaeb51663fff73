//! The fields each route reads, with their types (`api/types.go`, `openai/openai.go`, `anthropic/anthropic.go`).

use crate::fields::{Kind, Shape};

const NATIVE_MESSAGE: Shape = &[
    ("role", Kind::Text),
    ("content", Kind::Text),
    ("thinking", Kind::Text),
    ("images", Kind::List),
    ("tool_calls", Kind::List),
];

/// `POST /api/generate`
pub const GENERATE: Shape = &[
    ("model", Kind::Text),
    ("prompt", Kind::Text),
    ("suffix", Kind::Text),
    ("system", Kind::Text),
    ("template", Kind::Text),
    ("context", Kind::List),
    ("stream", Kind::OptionalBool),
    ("raw", Kind::Bool),
    ("format", Kind::Any),
    ("keep_alive", Kind::KeepAlive),
    ("images", Kind::List),
    ("options", Kind::Map),
    ("think", Kind::Any),
    ("truncate", Kind::OptionalBool),
    ("shift", Kind::OptionalBool),
];

/// `POST /api/chat`
pub const CHAT: Shape = &[
    ("model", Kind::Text),
    ("messages", Kind::Objects(NATIVE_MESSAGE)),
    ("stream", Kind::OptionalBool),
    ("format", Kind::Any),
    ("keep_alive", Kind::KeepAlive),
    ("tools", Kind::List),
    ("options", Kind::Map),
    ("think", Kind::Any),
    ("truncate", Kind::OptionalBool),
    ("shift", Kind::OptionalBool),
];

/// `POST /api/embed`
pub const EMBED: Shape = &[
    ("model", Kind::Text),
    ("input", Kind::Any),
    ("keep_alive", Kind::KeepAlive),
    ("truncate", Kind::OptionalBool),
    ("dimensions", Kind::Int),
    ("options", Kind::Map),
];

/// `POST /api/embeddings`
pub const EMBEDDINGS: Shape =
    &[("model", Kind::Text), ("prompt", Kind::Text), ("keep_alive", Kind::KeepAlive), ("options", Kind::Map)];

/// `POST /api/show`
pub const SHOW: Shape = &[
    ("model", Kind::Text),
    ("name", Kind::Text),
    ("system", Kind::Text),
    ("template", Kind::Text),
    ("verbose", Kind::Bool),
    ("options", Kind::Map),
];

/// `POST /api/pull`, `/api/push`, `/api/create`; `DELETE /api/delete`
pub const MANAGE: Shape = &[
    ("model", Kind::Text),
    ("name", Kind::Text),
    ("from", Kind::Text),
    ("insecure", Kind::Bool),
    ("stream", Kind::OptionalBool),
];

/// `POST /api/copy`
pub const COPY: Shape = &[("source", Kind::Text), ("destination", Kind::Text)];

const STREAM_OPTIONS: Shape = &[("include_usage", Kind::Bool)];

const V1_MESSAGE: Shape =
    &[("role", Kind::Text), ("content", Kind::Any), ("name", Kind::Text), ("tool_calls", Kind::List)];

/// `POST /v1/chat/completions`. Ollama does not read `max_completion_tokens`; vLLM does.
pub const V1_CHAT: Shape = &[
    ("model", Kind::Text),
    ("messages", Kind::Objects(V1_MESSAGE)),
    ("stream", Kind::Bool),
    ("stream_options", Kind::Object(STREAM_OPTIONS)),
    ("max_tokens", Kind::OptionalInt),
    ("seed", Kind::OptionalInt),
    ("temperature", Kind::Float),
    ("top_p", Kind::Float),
    ("frequency_penalty", Kind::Float),
    ("presence_penalty", Kind::Float),
    ("tools", Kind::List),
];

/// The same as vLLM reads it.
pub const VLLM_CHAT: Shape = &[
    ("model", Kind::Text),
    ("messages", Kind::Objects(V1_MESSAGE)),
    ("stream", Kind::Bool),
    ("stream_options", Kind::Object(STREAM_OPTIONS)),
    ("max_tokens", Kind::OptionalInt),
    ("max_completion_tokens", Kind::OptionalInt),
    ("temperature", Kind::Float),
    ("tools", Kind::List),
];

/// `POST /v1/completions`
pub const V1_COMPLETIONS: Shape = &[
    ("model", Kind::Text),
    ("prompt", Kind::Text),
    ("suffix", Kind::Text),
    ("stream", Kind::Bool),
    ("stream_options", Kind::Object(STREAM_OPTIONS)),
    ("max_tokens", Kind::OptionalInt),
    ("seed", Kind::OptionalInt),
    ("temperature", Kind::Float),
    ("top_p", Kind::Float),
    ("frequency_penalty", Kind::Float),
    ("presence_penalty", Kind::Float),
];

/// `POST /v1/embeddings`
pub const V1_EMBEDDINGS: Shape =
    &[("model", Kind::Text), ("input", Kind::Any), ("dimensions", Kind::Int), ("encoding_format", Kind::Text)];

/// `POST /v1/responses`
pub const V1_RESPONSES: Shape = &[
    ("model", Kind::Text),
    ("input", Kind::Any),
    ("instructions", Kind::Text),
    ("stream", Kind::OptionalBool),
    ("max_output_tokens", Kind::OptionalInt),
    ("temperature", Kind::Float),
    ("top_p", Kind::Float),
];

/// `POST /v1/messages`
pub const V1_MESSAGES: Shape = &[
    ("model", Kind::Text),
    ("max_tokens", Kind::Int),
    ("messages", Kind::Objects(V1_MESSAGE)),
    ("system", Kind::Any),
    ("stream", Kind::Bool),
    ("temperature", Kind::Float),
    ("tools", Kind::List),
];
