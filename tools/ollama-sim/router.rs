//! From method and target to a handler, as Go's `ServeMux` before gin does it for Ollama (`server/routes.go`).
//!
//! The mux cleans the *escaped* path and redirects where that changed it; gin matches the *decoded* path, so that
//! `/api/%70ull` and `/api%2fpull` reach the pull handler, and redirects a trailing slash.

use hyper::Method;

/// What answers a request; also its name in the ground truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handler {
    Root,
    Version,
    Status,
    Tags,
    Ps,
    Show,
    Generate,
    Chat,
    Embed,
    Embeddings,
    Pull,
    Push,
    Create,
    Copy,
    Delete,
    BlobHead,
    BlobCreate,
    Me,
    Signout,
    WebSearch,
    WebFetch,
    V1Models,
    V1Model,
    V1Chat,
    V1Completions,
    V1Embeddings,
    V1Responses,
    V1Messages,
    Health,
}

impl Handler {
    /// Returns a short fixed name.
    pub fn name(self) -> &'static str {
        match self {
            Handler::Root => "root",
            Handler::Version => "version",
            Handler::Status => "status",
            Handler::Tags => "tags",
            Handler::Ps => "ps",
            Handler::Show => "show",
            Handler::Generate => "generate",
            Handler::Chat => "chat",
            Handler::Embed => "embed",
            Handler::Embeddings => "embeddings",
            Handler::Pull => "pull",
            Handler::Push => "push",
            Handler::Create => "create",
            Handler::Copy => "copy",
            Handler::Delete => "delete",
            Handler::BlobHead => "blob_head",
            Handler::BlobCreate => "blob_create",
            Handler::Me => "me",
            Handler::Signout => "signout",
            Handler::WebSearch => "web_search",
            Handler::WebFetch => "web_fetch",
            Handler::V1Models => "v1_models",
            Handler::V1Model => "v1_model",
            Handler::V1Chat => "v1_chat_completions",
            Handler::V1Completions => "v1_completions",
            Handler::V1Embeddings => "v1_embeddings",
            Handler::V1Responses => "v1_responses",
            Handler::V1Messages => "v1_messages",
            Handler::Health => "health",
        }
    }
}

/// One line of a routing table. A segment that begins with `:` matches any one segment.
type Line = (&'static str, &'static str, Handler);

/// Ollama's routes, those for images and sound left out.
const OLLAMA: &[Line] = &[
    ("HEAD", "/", Handler::Root),
    ("GET", "/", Handler::Root),
    ("HEAD", "/api/version", Handler::Version),
    ("GET", "/api/version", Handler::Version),
    ("GET", "/api/status", Handler::Status),
    ("POST", "/api/pull", Handler::Pull),
    ("POST", "/api/push", Handler::Push),
    ("HEAD", "/api/tags", Handler::Tags),
    ("GET", "/api/tags", Handler::Tags),
    ("POST", "/api/show", Handler::Show),
    ("DELETE", "/api/delete", Handler::Delete),
    ("POST", "/api/me", Handler::Me),
    ("POST", "/api/signout", Handler::Signout),
    ("DELETE", "/api/user/keys/:key", Handler::Signout),
    ("POST", "/api/create", Handler::Create),
    ("POST", "/api/blobs/:digest", Handler::BlobCreate),
    ("HEAD", "/api/blobs/:digest", Handler::BlobHead),
    ("POST", "/api/copy", Handler::Copy),
    ("POST", "/api/experimental/web_search", Handler::WebSearch),
    ("POST", "/api/experimental/web_fetch", Handler::WebFetch),
    ("GET", "/api/ps", Handler::Ps),
    ("POST", "/api/generate", Handler::Generate),
    ("POST", "/api/chat", Handler::Chat),
    ("POST", "/api/embed", Handler::Embed),
    ("POST", "/api/embeddings", Handler::Embeddings),
    ("POST", "/v1/chat/completions", Handler::V1Chat),
    ("POST", "/v1/completions", Handler::V1Completions),
    ("POST", "/v1/embeddings", Handler::V1Embeddings),
    ("GET", "/v1/models", Handler::V1Models),
    ("GET", "/v1/models/:model", Handler::V1Model),
    ("POST", "/v1/responses", Handler::V1Responses),
    ("POST", "/v1/messages", Handler::V1Messages),
];

/// vLLM's routes, as far as they are simulated.
const VLLM: &[Line] = &[
    ("GET", "/health", Handler::Health),
    ("GET", "/v1/models", Handler::V1Models),
    ("POST", "/v1/chat/completions", Handler::V1Chat),
    ("POST", "/v1/completions", Handler::V1Completions),
    ("POST", "/v1/embeddings", Handler::V1Embeddings),
    ("POST", "/v1/responses", Handler::V1Responses),
    ("POST", "/v1/messages", Handler::V1Messages),
];

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// To a handler, with the value of the path's parameter.
    To(Handler, String),
    /// Elsewhere: status and `Location`.
    Redirect(u16, String),
    /// No such path.
    NotFound,
    /// The path exists for these methods only.
    NotAllowed(Vec<&'static str>),
    /// The path is not percent-encoded as it should be.
    BadPath,
}

/// Routes as Ollama does. `path` and `query` as received.
pub fn ollama(method: &Method, path: &str, query: Option<&str>) -> Routed {
    let Some(decoded) = decode(path) else { return Routed::BadPath };
    let escaped = if is_valid_encoding(path) { path.to_owned() } else { encode(&decoded) };
    let clean = clean(&escaped);
    if clean != escaped {
        // net/http encodes the already encoded path once more here.
        return Routed::Redirect(301, with_query(encode(clean.as_bytes()), query));
    }
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    if let Some((handler, value)) = find(OLLAMA, method.as_str(), &decoded) {
        return Routed::To(handler, value);
    }
    if decoded != "/"
        && let Some(other) = other_slash(&decoded)
        && find(OLLAMA, method.as_str(), &other).is_some()
    {
        let status = if method == Method::GET { 301 } else { 307 };
        return Routed::Redirect(status, with_query(encode(other.as_bytes()), query));
    }
    without_handler(OLLAMA, &decoded)
}

/// Routes as Starlette does for vLLM: the decoded path, a trailing slash redirected, nothing cleaned.
pub fn vllm(method: &Method, path: &str, query: Option<&str>) -> Routed {
    let Some(decoded) = decode(path) else { return Routed::BadPath };
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    if let Some((handler, value)) = find(VLLM, method.as_str(), &decoded) {
        return Routed::To(handler, value);
    }
    match (without_handler(VLLM, &decoded), other_slash(&decoded)) {
        (Routed::NotFound, Some(other)) if without_handler(VLLM, &other) != Routed::NotFound => {
            Routed::Redirect(307, with_query(encode(other.as_bytes()), query))
        }
        (routed, _) => routed,
    }
}

fn without_handler(table: &[Line], path: &str) -> Routed {
    let allowed: Vec<&str> =
        table.iter().filter(|(_, pattern, _)| matches(pattern, path).is_some()).map(|(method, _, _)| *method).collect();
    if allowed.is_empty() { Routed::NotFound } else { Routed::NotAllowed(allowed) }
}

fn find(table: &[Line], method: &str, path: &str) -> Option<(Handler, String)> {
    table
        .iter()
        .filter(|(wanted, _, _)| *wanted == method)
        .find_map(|(_, pattern, handler)| matches(pattern, path).map(|value| (*handler, value)))
}

/// Returns the parameter's value where `path` fits `pattern`; empty where the pattern has none.
fn matches(pattern: &str, path: &str) -> Option<String> {
    match pattern.split_once(':') {
        None => (pattern == path).then(String::new),
        Some((fixed, _)) => {
            path.strip_prefix(fixed).filter(|value| !value.is_empty() && !value.contains('/')).map(str::to_owned)
        }
    }
}

/// Returns the same path with its trailing slash taken off or put on.
fn other_slash(path: &str) -> Option<String> {
    match path.strip_suffix('/') {
        Some("") => None,
        Some(rest) => Some(rest.to_owned()),
        None => Some(format!("{path}/")),
    }
}

fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// Go's `path.Clean`, a trailing slash kept, as `net/http` cleans paths: `//`, `.` and `..` segments go.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

/// Percent-decodes a path; `None` where an escape is broken.
fn decode(path: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// Returns whether Go keeps the path as it was written when it shows it again (`validEncoded` in `net/url`).
fn is_valid_encoding(path: &str) -> bool {
    path.bytes().all(|byte| is_plain(byte) || b"!'()*[]%".contains(&byte))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte)
}

fn encode(path: &[u8]) -> String {
    let mut encoded = String::with_capacity(path.len());
    for &byte in path {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
