//! Which `Host` headers a loopback Ollama answers (`allowedHostsMiddleware` in `server/routes.go`).

use std::net::IpAddr;

/// Returns whether a request with this `Host` (port included) is answered. Names that resolve to the machine are not
/// looked up.
pub fn is_allowed(host: &str) -> bool {
    let host = without_port(host);
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_near(address);
    }
    let host = host.to_ascii_lowercase();
    host.is_empty()
        || host == "localhost"
        || [".localhost", ".local", ".internal"].iter().any(|domain| host.ends_with(domain))
        || host == machine_name()
}

/// Loopback, private or unspecified; other addresses of this machine's own interfaces are not simulated.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || (v6.segments()[0] & 0xfe00) == 0xfc00,
    }
}

/// Go's `net.SplitHostPort`; the whole text where it has no port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => name.trim_matches(['[', ']']),
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn machine_name() -> String {
    // Linux only; elsewhere the machine's own name is simply not among the allowed ones.
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase()
}
