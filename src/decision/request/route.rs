//! Step 1: looks the raw method and target up in an exact table.
//!
//! Nothing is decoded or normalized: Ollama routes on the decoded path, so `/api/%70ull` is `/api/pull` there (gin over
//! Go's `net/http`), and a decoder of ours that differed from Go's in one rule would be a way around the table. A
//! target that is not in the table byte for byte is refused. The one exception is `%2F` and `%3A` in `/v1/models/{id}`,
//! which herdgate answers itself.

use super::endpoint::{Dialect, Endpoint};
use super::name::NAME_MAX;
use crate::decision::reason::Reason;

/// A request whose method and target are in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    /// The endpoint asked for.
    pub endpoint: Endpoint,
    /// The dialect of a refusal.
    pub dialect: Dialect,
    /// Whether the method is `HEAD`.
    pub head: bool,
    /// The `{id}` of `/v1/models/{id}`, still percent-encoded.
    pub model_in_path: Option<&'a [u8]>,
}

/// Looks up a request by method and target.
///
/// # Errors
/// [`Reason::UnsafePath`] if servers could read the target in different ways, [`Reason::UnknownRoute`] if it is not in
/// the table, and [`Reason::ModelInQuery`] if the query names a model; each with the dialect in which to write the
/// refusal.
pub fn route<'a>(method: &[u8], target: &'a [u8]) -> Result<Route<'a>, (Reason, Dialect)> {
    let target = origin_form(target).ok_or((Reason::UnsafePath, Dialect::Ollama))?;
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &[][..]),
    };
    let dialect = Dialect::of(path);
    if !path.starts_with(b"/") {
        return Err((Reason::UnknownRoute, dialect));
    }
    if let Some(id) = path.strip_prefix(b"/v1/models/")
        && matches!(method, b"GET" | b"HEAD")
    {
        if id.is_empty() || id.len() > 3 * NAME_MAX || !is_safe(path, true) || query.contains(&b'#') {
            return Err((Reason::UnsafePath, dialect));
        }
        return Ok(Route { endpoint: Endpoint::V1Model, dialect, head: method == b"HEAD", model_in_path: Some(id) });
    }
    if !is_safe(path, false) || query.contains(&b'#') {
        return Err((Reason::UnsafePath, dialect));
    }
    let endpoint = lookup(method, path).ok_or((Reason::UnknownRoute, dialect))?;
    if !endpoint.is_answered_here() && names_model(query) {
        return Err((Reason::ModelInQuery, dialect));
    }
    Ok(Route { endpoint, dialect, head: method == b"HEAD", model_in_path: None })
}

fn lookup(method: &[u8], path: &[u8]) -> Option<Endpoint> {
    let found = match (method, path) {
        (b"POST", b"/api/generate") => Endpoint::Generate,
        (b"POST", b"/api/chat") => Endpoint::Chat,
        (b"POST", b"/api/embed") => Endpoint::Embed,
        (b"POST", b"/api/embeddings") => Endpoint::Embeddings,
        (b"POST", b"/v1/chat/completions") => Endpoint::V1ChatCompletions,
        (b"POST", b"/v1/completions") => Endpoint::V1Completions,
        (b"POST", b"/v1/embeddings") => Endpoint::V1Embeddings,
        (b"POST", b"/v1/responses") => Endpoint::V1Responses,
        (b"POST", b"/v1/messages") => Endpoint::V1Messages,
        (b"POST", b"/api/show") => Endpoint::Show,
        (b"GET" | b"HEAD", b"/") => Endpoint::Root,
        (b"GET" | b"HEAD", b"/api/tags") => Endpoint::Tags,
        (b"GET" | b"HEAD", b"/api/ps") => Endpoint::Ps,
        (b"GET" | b"HEAD", b"/api/version") => Endpoint::Version,
        (b"GET" | b"HEAD", b"/v1/models") => Endpoint::V1Models,
        (b"POST", b"/api/pull" | b"/api/push" | b"/api/create" | b"/api/copy" | b"/api/me" | b"/api/signout") => {
            Endpoint::Admin
        }
        (b"DELETE", b"/api/delete") => Endpoint::Admin,
        (b"HEAD" | b"POST", path) if path.starts_with(b"/api/blobs/") => Endpoint::Admin,
        (b"DELETE", path) if path.starts_with(b"/api/user/keys/") => Endpoint::Admin,
        (b"GET" | b"POST", path) if path.starts_with(b"/api/experimental/") => Endpoint::Admin,
        _ => return None,
    };
    Some(found)
}

/// Returns the target in origin form, reduced from the absolute form (RFC 9112 section 3.2.2) if its scheme is `http`
/// or `https`; `None` unless a plain authority and a path follow the scheme. HAProxy shows HTTP/2 requests in absolute
/// form and forwards them in origin form. A client of HTTP/1 may write the absolute form too, and Go's server then
/// routes on its path, as this function does.
fn origin_form(target: &[u8]) -> Option<&[u8]> {
    let Some(scheme) = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
    else {
        return Some(target);
    };
    let rest = &target[scheme.len()..];
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    (slash > 0 && rest[..slash].iter().all(plain)).then(|| &rest[slash..])
}

/// Returns whether every server reads the path alike: visible ASCII without `%`, `\`, `;`, `#`, empty segments or dot
/// segments. With `model_id`, the escapes `%2F` and `%3A` are allowed.
fn is_safe(path: &[u8], model_id: bool) -> bool {
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' if model_id => match tail {
                [b'2', b'F' | b'f', tail @ ..] | [b'3', b'A' | b'a', tail @ ..] => tail,
                _ => return false,
            },
            b'%' | b'\\' | b';' | b'#' => return false,
            0x21..=0x7e => tail,
            _ => return false,
        };
    }
    // The first segment is the empty one before the leading slash. The last may be empty (a trailing slash is merely
    // unknown).
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if matches!(segment, b"." | b"..") || (segment.is_empty() && !last) {
            return false;
        }
    }
    true
}

/// Returns whether a query string has a parameter that some server would read as `model`, in any case or
/// percent-encoding.
fn names_model(query: &[u8]) -> bool {
    query.split(|&byte| matches!(byte, b'&' | b';')).any(|pair| {
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
        let mut decoded = percent_decoded(name);
        b"model".iter().all(|&expected| decoded.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&expected)))
            && decoded.next().is_none()
    })
}

/// Returns the bytes of a percent-encoded text. A `%` that starts no escape stands for itself.
pub fn percent_decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        if byte == b'%'
            && let (Some(high), Some(low)) =
                (text.get(at + 1).and_then(hex_digit), text.get(at + 2).and_then(hex_digit))
        {
            at += 3;
            return Some(high << 4 | low);
        }
        at += 1;
        Some(byte)
    })
}

fn hex_digit(byte: &u8) -> Option<u8> {
    char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        let found = match route(method.as_bytes(), target.as_bytes()) {
            Ok(route) => route.endpoint.as_str(),
            Err((reason, _)) => reason.as_str(),
        };
        assert_eq!(found, expected, "{method} {target}");
    }

    #[test]
    fn only_what_stands_in_the_table_is_known() {
        for (method, target, expected) in [
            ("POST", "/api/chat", "chat"),
            ("POST", "/api/chat?x=1&y=%20", "chat"),
            ("POST", "/v1/messages?beta=true", "v1_messages"),
            ("GET", "/api/chat", "unknown_route"),
            ("post", "/api/chat", "unknown_route"),
            ("POST", "/api/chat/", "unknown_route"),
            ("POST", "/API/CHAT", "unknown_route"),
            ("POST", "/api/chatx", "unknown_route"),
            ("HEAD", "/", "root"),
            ("GET", "/?x", "root"),
            ("GET", "", "unknown_route"),
            ("OPTIONS", "*", "unknown_route"),
            ("CONNECT", "example.com:443", "unknown_route"),
            ("GET", "/v1/models", "v1_models"),
            ("GET", "/v1/models/", "unsafe_path"),
            ("GET", "/v1/models/llama3.2:3b", "v1_model"),
            ("GET", "/v1/models/hf.co%2Fa%2fb%3AQ4_K_M", "v1_model"),
            ("GET", "/v1/models/hf.co/a/b", "v1_model"),
            ("GET", "/v1/models/a%00b", "unsafe_path"),
            ("GET", "/v1/models/..%2f..%2fapi%2fpull", "v1_model"),
            ("GET", "/v1/models/../../api/pull", "unsafe_path"),
            ("DELETE", "/v1/models/llama3", "unknown_route"),
            ("POST", "/v1/audio/transcriptions", "unknown_route"),
        ] {
            check(method, target, expected);
        }
    }

    #[test]
    fn paths_that_two_servers_read_in_two_ways_are_refused() {
        for target in [
            "//api/pull",
            "/api//pull",
            "/api/./pull",
            "/api/x/../pull",
            "/api/..",
            "/api/%70ull",
            "/api%2fpull",
            "/api/pull;x",
            "/api/pull%00",
            "/api/pull\\x",
            "/api/pull#x",
            "/api/pull?x#y",
            "/api/pu ll",
            "/api/p\u{fc}ll",
            "/api/chat\u{7f}",
            "http://host//api/pull",
            "http://user@host/api/chat",
            "http:///api/chat",
        ] {
            check("POST", target, "unsafe_path");
        }
    }

    #[test]
    fn the_absolute_form_is_read_by_its_path() {
        for (target, expected) in [
            ("http://host/api/chat", "chat"),
            ("HTTPS://[::1]:8443/api/chat?x", "chat"),
            ("http://host/api/pull", "admin"),
            ("ftp://host/api/chat", "unknown_route"),
            ("http://host", "unsafe_path"),
        ] {
            check("POST", target, expected);
        }
    }

    #[test]
    fn admin_endpoints_are_known_as_such() {
        for (method, target) in [
            ("POST", "/api/pull"),
            ("POST", "/api/push"),
            ("POST", "/api/create"),
            ("POST", "/api/copy"),
            ("DELETE", "/api/delete"),
            ("HEAD", "/api/blobs/sha256:0"),
            ("POST", "/api/blobs/sha256:0"),
            ("POST", "/api/me"),
            ("POST", "/api/signout"),
            ("DELETE", "/api/user/keys/k"),
            ("POST", "/api/experimental/web_search"),
        ] {
            check(method, target, "admin");
        }
    }

    /// LiteLLM #41810: a query parameter took precedence over the model of the body.
    #[test]
    fn litellm_41810_a_model_in_the_query_is_refused() {
        for query in ["model=x", "a=b&Model=x", "m%6fdel=x", "MODEL", "a;model=x", "%6D%6f%64%65%6C=x"] {
            check("POST", &format!("/v1/chat/completions?{query}"), "model_in_query");
        }
        check("POST", "/api/show?model=x", "model_in_query");
        check("GET", "/api/tags?model=x", "tags");
        for query in ["models=x", "mode=l", "x=model", "model%20=x", "beta=true"] {
            check("POST", &format!("/v1/chat/completions?{query}"), "v1_chat_completions");
        }
    }

    #[test]
    fn a_refusal_speaks_the_dialect_of_its_path() {
        for (target, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/nowhere", Dialect::OpenAi),
            ("/api/nowhere", Dialect::Ollama),
            ("/", Dialect::Ollama),
        ] {
            let found = match route(b"PATCH", target.as_bytes()) {
                Ok(route) => route.dialect,
                Err((_, dialect)) => dialect,
            };
            assert_eq!(found, dialect, "{target}");
        }
    }
}
