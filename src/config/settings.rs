//! Settings of the process, as opposed to the policy that decisions read: addresses, files, intervals.

use crate::decision::plan::limits::Quota;
use crate::gate::GateSettings;
use crate::net::listen::Address;
use crate::shared_store::address::{OnStoreDown, StoreAddress};
use jiff::tz::TimeZone;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the process is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where herdgate listens.
    pub listen: Listen,
    /// `[keys]`
    pub keys: KeySettings,
    /// Credentials of one network that may fail; `None`: any number.
    pub failures: Option<Quota>,
    /// How servers are probed.
    pub probe: ProbeSettings,
    /// Where the keys of issuers come from.
    pub issuers: Vec<IssuerSource>,
    /// Key of receipts.
    pub secret_file: PathBuf,
    /// Where the books are kept.
    pub ledger: LedgerSettings,
    /// Longest a request counts as on its way, 1 s to 24 h.
    pub max_stream: Duration,
    /// HAProxy processes that share a server's `maxconn`, 1 to 1,000.
    pub agent_check_proxies: u32,
}

impl Settings {
    /// Returns what the gate takes up of them, at start and at a reload.
    pub fn of_gate(&self) -> GateSettings {
        let max_stream_ns = u64::try_from(self.max_stream.as_nanos()).unwrap_or(u64::MAX);
        GateSettings { max_stream_ns, failures: self.failures }
    }
}

/// The listeners; `None` is switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// SPOP, for HAProxy.
    pub spop: Option<Address>,
    /// nginx handoff, auth_request, catalog.
    pub http: Option<Address>,
    /// HAProxy's agent-check.
    pub agent_check: Option<Address>,
    /// Metrics and status, read-only.
    pub metrics: Option<Address>,
    /// The unix socket of herdgate's own commands.
    pub control: Option<Address>,
    /// Usage lines, as datagrams.
    pub usage: Vec<Address>,
}

impl Listen {
    /// The listeners that are on, by their name in `[listen]`.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Address)> {
        [
            ("spop", &self.spop),
            ("http", &self.http),
            ("agent_check", &self.agent_check),
            ("metrics", &self.metrics),
            ("control", &self.control),
        ]
        .into_iter()
        .filter_map(|(name, address)| Some((name, address.as_ref()?)))
    }
}

/// `[keys]`: files are relative to the working directory, or absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// The key file.
    pub file: PathBuf,
    /// Whether others may read it.
    pub allow_readable: bool,
    /// What new digests are keyed with.
    pub pepper_file: Option<PathBuf>,
}

/// `[ledger]`, but for what has a field of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The database; `None`: memory alone.
    pub path: Option<PathBuf>,
    /// Days a record is kept, 1 to 3,650.
    pub keep_days: u32,
    /// Whether a damaged file is moved aside, and a fresh one begun.
    pub fresh_on_damage: bool,
    /// Where days begin.
    pub time_zone: TimeZone,
    /// The store that limits are counted in; `None`: this process's own memory.
    pub store: Option<StoreAddress>,
    /// herdgates that share it, 1 to 1,000.
    pub replicas: NonZeroU32,
    /// What becomes of decisions while it is away.
    pub on_store_down: OnStoreDown,
}

/// Where the keys of an `[[issuer]]` come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSource {
    /// Its identifier, where discovery begins.
    pub issuer: Arc<str>,
    /// Its key set; `None` is discovered.
    pub jwks_uri: Option<String>,
    /// The certificates to trust for it, and no others.
    pub ca_file: Option<PathBuf>,
    /// The proxy to reach it through.
    pub proxy: Option<String>,
}

/// `[probe]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// Time between two probes of a server that is well.
    pub interval: Duration,
    /// Time between two probes of a server that failed the last one; at most `interval`.
    pub fast_interval: Duration,
    /// Successes in a row that bring a server up, 1 to 100.
    pub rise: u32,
    /// Failures in a row that take a server down, 1 to 100.
    pub fall: u32,
    /// Time between two deep checks of a server that generates.
    pub deep_interval: Duration,
    /// Longest a deep check takes.
    pub deep_timeout: Duration,
    /// A model without other use for longer than this is not asked.
    pub idle: Duration,
}

/// Whether two listeners could not both be open: the same socket path, or the same port on the same or on every address of
/// that family (an IPv6 wildcard takes IPv4 too).
pub fn clash(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Unix(one), Address::Unix(two)) => one == two,
        (Address::Tcp(one), Address::Tcp(two)) => {
            let covers = |wide: IpAddr, narrow: IpAddr| {
                wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4()) || wide == narrow
            };
            one.port() != 0 && one.port() == two.port() && (covers(one.ip(), two.ip()) || covers(two.ip(), one.ip()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_clash_on_the_same_port_of_overlapping_addresses() {
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("[::]:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ];
        for (one, two, expected) in cases {
            let (one, two) = (Address::Tcp(one.parse().unwrap()), Address::Tcp(two.parse().unwrap()));
            assert_eq!(clash(&one, &two), expected, "{one} and {two}");
            assert_eq!(clash(&two, &one), expected, "{two} and {one}");
        }
        let socket = Address::Unix("a".into());
        assert!(clash(&socket, &socket));
        assert!(!clash(&socket, &Address::Unix("b".into())));
    }
}
