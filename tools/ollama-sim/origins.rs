//! Which browser origins Ollama answers (`AllowedOrigins` in `envconfig/config.go`, gin's cors middleware).

/// What the `Origin` header makes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cors {
    /// None, or the server's own: nothing to add.
    Same,
    /// Another origin that is allowed.
    Allowed,
    /// 403.
    Refused,
}

/// Judges an `Origin` against the `Host` of the same request.
pub fn judge(origin: Option<&str>, host: &str) -> Cors {
    let Some(origin) = origin.filter(|origin| !origin.is_empty()) else { return Cors::Same };
    if origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host) {
        return Cors::Same;
    }
    let (scheme, rest) = origin.split_once("://").unwrap_or((origin, ""));
    let allowed = match scheme {
        "http" | "https" => {
            let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
            ["localhost", "127.0.0.1", "0.0.0.0"].contains(&name) && port.is_none_or(|port| !port.is_empty())
        }
        "app" | "file" | "tauri" | "vscode-webview" | "vscode-file" => true,
        "chrome-extension" | "safari-extension" | "moz-extension" | "ms-browser-extension" => true,
        _ => false,
    };
    if allowed { Cors::Allowed } else { Cors::Refused }
}
