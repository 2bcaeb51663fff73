//! The network to which an address belongs: it tells callers apart that have no API key of their own.
//!
//! An IPv4 address is a network of its own. Of an IPv6 address the first 64 bits count, because a single host can
//! choose all the rest (RFC 4291 section 2.5.1, RFC 6177). An IPv4-mapped address (`::ffff:192.0.2.7`, RFC 4291 section
//! 2.5.5.2) counts as the IPv4 address that it maps; otherwise every client of a dual-stack listener would be one
//! network.

use crate::decision::plan::limits::Scope;
use std::net::IpAddr;

/// A /32 of IPv4 or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// All clients whose address the proxy does not know: those on a unix socket.
    Unknown,
    /// One IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
}

impl Network {
    /// Returns the network of a client as the proxy sees it.
    pub fn of(source: Option<IpAddr>) -> Network {
        match source.map(|address| address.to_canonical()) {
            None => Network::Unknown,
            Some(IpAddr::V4(address)) => Network::V4(address.octets()),
            Some(IpAddr::V6(address)) => {
                let mut head = [0; 8];
                head.copy_from_slice(&address.octets()[..8]);
                Network::V6(head)
            }
        }
    }

    /// Returns the scope under which its usage is counted.
    pub fn scope(self) -> Scope {
        match self {
            Network::Unknown => Scope::of("network", &[]),
            Network::V4(head) => Scope::of("network", &head),
            Network::V6(head) => Scope::of("network", &head),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_host_are_one_network() {
        let network = |address: &str| Network::of(Some(address.parse().unwrap()));
        let cases = [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::192.0.2.7", "192.0.2.7", false),
        ];
        for (one, other, same) in cases {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
            assert_eq!(network(one).scope() == network(other).scope(), same, "{one} {other}");
        }
        assert_eq!(Network::of(None), Network::Unknown);
        assert_ne!(Network::Unknown.scope(), network("0.0.0.0").scope());
    }
}
