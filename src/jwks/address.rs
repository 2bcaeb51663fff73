//! Where a key set may be fetched from.
//!
//! An operator may run an issuer at any address of its own network, and writes it into the configuration. A discovery
//! document is written by somebody else: a `jwks_uri` in it may lead to the issuer's own host or to the public internet,
//! never into this network (SSRF). Neither may lead to a link-local or metadata address, where clouds hand out credentials.
//! What a name resolves to counts, at every connection.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::Url;

/// The metadata service of AWS over IPv6, which lies outside the link-local block.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// Resolves names, and hides the addresses that may not be asked.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// Hosts that the operator wrote.
    pub own: Vec<String>,
}

impl Resolver {
    /// Returns whether `url` may be asked, as far as it says: `https`, or `http` on this machine; an address that is
    /// permitted.
    pub fn permits(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        let here = address.map_or(is_localhost(bare), |address| address.is_loopback());
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let scheme = url.scheme() == "https" || (url.scheme() == "http" && here);
        plain && scheme && address.is_none_or(|address| self.permits_address(bare, address))
    }

    fn permits_address(&self, host: &str, address: IpAddr) -> bool {
        let own = self.own.iter().any(|own| own.eq_ignore_ascii_case(host));
        let named = !is_localhost(host) || address.is_loopback();
        named && !is_nowhere(address) && (own || is_public(address))
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> =
                found.filter(|address| resolver.permits_address(&host, address.ip())).collect();
            if permitted.is_empty() {
                return Err("no permitted address".into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

fn is_localhost(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// Returns whether no issuer can have this address.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4 == Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_nowhere(IpAddr::V4(v4)),
            None => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast() || v6 == METADATA_V6,
        },
    }
}

/// Returns whether an address lies outside of any private network (IANA special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = a == 192 && b == 0 && c == 0;
            let benchmark = a == 198 && (18..20).contains(&b);
            let special = a == 0 || a >= 240 || shared || protocol || benchmark;
            !(special || v4.is_loopback() || v4.is_private() || v4.is_documentation() || is_nowhere(address))
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            // 2000::/3 is all that is given out; 2002::/16 (6to4) and 2001::/32 (Teredo) carry IPv4 addresses inside.
            None => {
                let [first, second, ..] = v6.segments();
                first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && second == 0)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovered_set_is_on_the_issuers_host_or_on_the_internet() {
        let resolver = Resolver { own: vec!["id.corp.example".into(), "10.1.2.3".into(), "127.0.0.1".into()] };
        let cases = [
            ("https://id.corp.example/jwks", true),
            ("https://elsewhere.example/jwks", true),
            ("https://10.1.2.3/jwks", true),
            ("https://10.1.2.4/jwks", false),
            ("https://192.168.1.1/", false),
            ("https://100.64.0.1/", false),
            ("https://1.1.1.1/", true),
            ("https://[2606:4700::1]/", true),
            ("https://[fd00::1]/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://[2002:a00:1::]/", false),
            ("https://169.254.169.254/", false),
            ("https://0xA9FEA9FE/", false),
            ("http://127.0.0.1:1/", true),
            ("http://127.0.0.2:1/", false),
            ("http://id.corp.example/", false),
            ("ftp://id.corp.example/", false),
            ("https://me:pw@id.corp.example/", false),
        ];
        for (url, permitted) in cases {
            assert_eq!(resolver.permits(&Url::parse(url).unwrap()), permitted, "{url}");
        }
        let of = |host: &str, address: &str| resolver.permits_address(host, address.parse().unwrap());
        assert!(of("id.corp.example", "10.0.0.9"), "the operator's own host may be private");
        assert!(!of("elsewhere.example", "10.0.0.9"), "a name of somebody else's must not lead here");
        assert!(!of("id.corp.example", "169.254.169.254"), "nobody's issuer is there");
        assert!(!of("localhost", "1.1.1.1"), "http is for this machine");
    }
}
