//! What a `[[server]]` may point at.
//!
//! herdgate's probes fetch these URLs with the daemon's own network rights. Whoever may write the file decides that, but
//! a link-local address is never a model server: it is where clouds hand out credentials (169.254.169.254), so it is
//! refused in every spelling the URL reader folds together (hexadecimal, octal, one number, IPv4 in IPv6).

use super::key_of::ChoiceOf;
use crate::decision::plan::server::ServerKind;
use std::net::{IpAddr, Ipv6Addr};
use url::Url;

/// What is wrong with a URL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ServerUrlError {
    /// Goes after "url".
    pub what: &'static str,
    /// What to try.
    pub hint: &'static str,
}

const fn fault(what: &'static str, hint: &'static str) -> ServerUrlError {
    ServerUrlError { what, hint }
}

/// Returns the base URL of a server, without a trailing slash.
///
/// # Errors
/// The first thing that is wrong with it. The URL itself is not in the message: it may hold a password.
pub fn base_url(written: &str) -> Result<String, ServerUrlError> {
    const EXAMPLE: &str = "such as \"http://10.0.1.10:11434\"";
    if written.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(fault("holds a space or a backslash", EXAMPLE));
    }
    if !written.contains("://") {
        return Err(fault("lacks its scheme", "begin with \"http://\" or \"https://\""));
    }
    let url = Url::parse(written).map_err(|_| fault("is not a URL", EXAMPLE))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("must begin with http:// or https://", EXAMPLE));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("holds a credential", "leave it out; a server's own key (key_file) is not supported yet"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("has a query or a fragment", "only scheme, host and port"));
    }
    if url.path() != "/" {
        return Err(fault(
            "has a path",
            "only scheme, host and port; herdgate knows the paths of Ollama and OpenAI servers",
        ));
    }
    if url.port() == Some(0) {
        return Err(fault("has port 0", "the port the server listens on: 11434 for Ollama"));
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(fault("has no host", EXAMPLE))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let forbidden = match bare.parse::<IpAddr>() {
        Ok(address) => forbidden_address(address),
        Err(_) => forbidden_name(bare),
    };
    match forbidden {
        Some(fault) => Err(fault),
        None => Ok(url.as_str().trim_end_matches('/').to_owned()),
    }
}

/// `kind` of a server.
pub(super) const KIND: ChoiceOf<ServerKind> =
    ChoiceOf::named("kind", &[("ollama", ServerKind::Ollama), ("openai", ServerKind::OpenAi)]);

/// The metadata service of AWS over IPv6, which lies outside the link-local block.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Returns whether no model server can be at `address`, and why. The prober asks this too, of what a host name resolves
/// to.
pub fn forbidden_address(address: IpAddr) -> Option<ServerUrlError> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4() {
            Some(v4) => v4.is_link_local(),
            None => v6.is_unicast_link_local() || v6 == METADATA_V6,
        },
    };
    let nowhere = address.is_unspecified() || address.is_multicast() || address == IpAddr::from([255, 255, 255, 255]);
    if link_local {
        let hint = "link-local addresses (169.254.0.0/16, fe80::/10) are where clouds hand out credentials; \
                    use the server's routable address";
        Some(fault("is a link-local or metadata address", hint))
    } else if nowhere {
        Some(fault("is not the address of one server", "for this machine write 127.0.0.1"))
    } else {
        None
    }
}

fn forbidden_name(host: &str) -> Option<ServerUrlError> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host == "metadata.google.internal" || host == "metadata.goog" || host == "instance-data")
        .then_some(fault("is a metadata service", "use the model server's own name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_host_and_port() {
        let cases = [
            ("http://10.0.1.10:11434", Ok("http://10.0.1.10:11434")),
            ("https://gpu1.example.com/", Ok("https://gpu1.example.com")),
            ("http://[fd00::1]:8000", Ok("http://[fd00::1]:8000")),
            ("http://localhost:11434", Ok("http://localhost:11434")),
            ("10.0.1.10:11434", Err("lacks its scheme")),
            ("ftp://a", Err("must begin with http:// or https://")),
            ("http://", Err("is not a URL")),
            ("http://a b", Err("holds a space or a backslash")),
            ("http:\\\\a://", Err("holds a space or a backslash")),
            ("http://me:pw@a", Err("holds a credential")),
            ("http://a/v1", Err("has a path")),
            ("http://a/?x", Err("has a query or a fragment")),
            ("http://a#x", Err("has a query or a fragment")),
            ("http://a:0", Err("has port 0")),
            ("http://a:99999", Err("is not a URL")),
        ];
        for (written, expected) in cases {
            let found = base_url(written);
            assert_eq!(found.as_deref().map_err(|fault| fault.what), expected, "{written}");
        }
    }

    #[test]
    fn no_spelling_of_a_link_local_address_passes() {
        for host in [
            "169.254.169.254",
            "0xA9FEA9FE",
            "2852039166",
            "0251.0376.0251.0376",
            "169.254.1",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[::169.254.169.254]",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
            "%31%36%39.254.169.254",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "0.0.0.0",
            "[::]",
            "224.0.0.1",
        ] {
            assert!(base_url(&format!("http://{host}:80")).is_err(), "{host}");
        }
    }
}
