//! The file, checked and turned into settings and the policy that decisions read.

use super::access;
use super::file::{File, Table};
use super::issuer;
use super::key_of::{KeyOf, key};
use super::quantity::COUNT_MAX;
use super::queue;
use super::server;
use super::settings::{Listen, ProbeSettings, Settings, clash};
use super::value::AddressText;
use crate::decision::plan::policy::{ModelPattern, Plan, Policy, RouteClasses};
use crate::decision::plan::server::{Server, ServerKind};
use crate::decision::request::name::NAME_MAX;
use crate::files::problem::{Findings, Problems};
use crate::net::listen::Address;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Most `[[server]]` tables.
pub const SERVERS_MAX: usize = 1_000;

/// Most `[plans.NAME]` tables.
pub const PLANS_MAX: usize = 65_535;

/// Longest name of a server or plan, in bytes.
pub const NAME_LENGTH_MAX: usize = 64;

/// Longest path of a unix socket, in bytes (`sun_path` of unix(7), less the closing zero).
const SOCKET_PATH_MAX: usize = 107;

/// Bounds of a probe interval.
const INTERVAL_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));

/// Bounds of the time between two deep checks.
const DEEP_INTERVAL_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(86_400));

/// Bounds of a deep check's deadline.
const DEEP_TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));

/// Bounds of the time after which a model is idle.
const IDLE_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(400 * 86_400));

/// Bounds of the longest time a request counts as in flight.
const MAX_STREAM_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

/// A good configuration.
#[derive(Debug)]
pub struct Config {
    /// What the process is run with.
    pub settings: Settings,
    /// What decisions read.
    pub policy: Policy,
}

/// Compiles `source`, the text of the file called `file`; paths in it are relative to `base`.
///
/// # Errors
/// Every problem of the text, in its order.
pub fn compile(source: &str, file: &str, base: &Path) -> Result<Config, Problems> {
    let mut findings = Findings::new(source);
    let written = File::read(source, &mut findings);
    let mut compiler = Compiler { findings: &mut findings, base };
    let (plans, servers) = (compiler.plans(&written), compiler.servers(&written));
    let (teams, anonymous) = (compiler.teams(&written, &plans), compiler.anonymous(&written, &plans));
    let (models, routes, gate) =
        (compiler.models_held(&written), compiler.routes_held(&written), compiler.gate(&written));
    let settings = compiler.settings(&written);
    let patience = compiler.patience(&written);
    let (issuers, sources) = issuer::issuers(&written, &plans, &teams, base, &mut findings);
    match settings {
        Some(settings) if findings.is_empty() => {
            let recheck_s = settings.probe.interval.as_secs_f64().ceil() as u64;
            let settings = Settings { issuers: sources, ..settings };
            let policy =
                Policy { plans, servers, teams, anonymous, issuers, models, routes, gate, recheck_s, patience };
            Ok(Config { policy, settings })
        }
        _ => Err(findings.into_problems(file)),
    }
}

pub(super) struct Compiler<'c, 's> {
    pub(super) findings: &'c mut Findings<'s>,
    pub(super) base: &'c Path,
}

impl Compiler<'_, '_> {
    fn plans(&mut self, file: &File) -> Vec<Plan> {
        let plans: Vec<Plan> = file.all("plans").map(|table| self.plan(table)).collect();
        if plans.is_empty() && !file.mentions("plans") {
            let hint = "without a plan no key may do anything; begin with [plans.team] and models = [\"*\"]";
            self.findings.missing(0..0, "there is no [plans.NAME]".to_owned(), Some(hint.to_owned()));
        } else if let Some(table) = file.all("plans").nth(PLANS_MAX) {
            self.findings.key(table.at.clone(), format!("more than {PLANS_MAX} plans"), None);
        }
        plans
    }

    fn plan(&mut self, table: &Table) -> Plan {
        let name = table.name.as_deref().unwrap_or_default();
        self.check_name("plan", name, &table.at);
        Plan {
            name: name.into(),
            models: self
                .models(table, "a plan without models may do nothing; [\"*\"] is every model of the fleet")
                .iter()
                .map(|model| ModelPattern::new(model))
                .collect(),
            routes: self.routes(table),
            terms: self.terms(table),
            allowance: self.allowance(table),
            priority: queue::priority(table),
        }
    }

    /// Returns `models` of a plan or a server.
    fn models(&mut self, table: &Table, hint_if_empty: &str) -> Vec<Arc<str>> {
        let Some(models) = table.texts(key!("models")) else { return Vec::new() };
        if models.is_empty() {
            self.findings.value(
                table.at("models"),
                "\"models\" is an empty list".to_owned(),
                Some(hint_if_empty.to_owned()),
            );
        }
        for (model, at) in &models {
            if model.len() > NAME_MAX {
                self.findings.value(at.clone(), format!("a model name has at most {NAME_MAX} bytes"), None);
            }
        }
        models.into_iter().map(|(model, _)| model.trim().into()).collect()
    }

    fn routes(&mut self, table: &Table) -> RouteClasses {
        let Some(routes) = table.texts(key!("routes")) else { return RouteClasses::default() };
        if routes.is_empty() {
            let hint = "leave it out for \"inference\" and \"catalog\"";
            self.findings.value(table.at("routes"), "\"routes\" is an empty list".to_owned(), Some(hint.to_owned()));
        }
        let has = |class: &str| routes.iter().any(|(route, _)| route == class);
        RouteClasses { inference: has("inference"), catalog: has("catalog") }
    }

    fn servers(&mut self, file: &File) -> Vec<Server> {
        let mut servers: Vec<Server> = Vec::new();
        for table in file.all("server") {
            if servers.len() == SERVERS_MAX {
                self.findings.key(table.at.clone(), format!("more than {SERVERS_MAX} servers"), None);
                break;
            }
            let server = self.server(table);
            if !server.name.is_empty() && servers.iter().any(|other| other.name == server.name) {
                let at = table.at("name");
                let hint = "each server is one backend in haproxy.cfg, one upstream in nginx.conf";
                self.findings.value(at, format!("a second server called \"{}\"", server.name), Some(hint.to_owned()));
            }
            servers.push(server);
        }
        if servers.is_empty() && !file.mentions("server") {
            let hint = "every request would be refused; begin with [[server]], name and url";
            self.findings.missing(0..0, "there is no [[server]]".to_owned(), Some(hint.to_owned()));
        }
        servers
    }

    fn server(&mut self, table: &Table) -> Server {
        // What is absent or cannot be read is a problem already, and then nothing is made of the server.
        let name = table.text(key!("name"));
        if let Some(name) = &name {
            self.check_name("server", name, &table.at("name"));
        }
        let url = table.text(key!("url")).and_then(|url| {
            let read = server::base_url(&url);
            let wrong = |fault: server::ServerUrlError| {
                let what = format!("\"url\" {fault}");
                self.findings.value(table.at("url"), what, Some(fault.hint.to_owned()));
            };
            read.map_err(wrong).ok()
        });
        Server {
            name: name.unwrap_or_default().into(),
            url: url.unwrap_or_default().into(),
            kind: table.choice(&server::KIND).unwrap_or(ServerKind::Ollama),
            slots: table.count(key!("slots")),
            maxconn: table.count(key!("maxconn")),
            weight: table.count(key!("weight")).and_then(|weight| u16::try_from(weight).ok()).unwrap_or(0),
            models: self.models(table, "leave it out to discover the models"),
        }
    }

    /// Checks a name. Names go into proxy configurations, headers, metrics and logs; these characters are safe in all
    /// of them.
    pub(super) fn check_name(&mut self, what: &str, name: &str, at: &Range<usize>) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(fits) {
            let shown: String = name.escape_debug().take(NAME_LENGTH_MAX).collect();
            let hint = format!("1 to {NAME_LENGTH_MAX} letters, digits, \"_\", \".\" or \"-\"");
            self.findings.value(at.clone(), format!("\"{shown}\" cannot be the name of a {what}"), Some(hint));
        } else if what == "server" && (name == "herdgate" || name.starts_with("herdgate_")) {
            let hint = "the shipped proxy files use these names for herdgate itself; call the server otherwise";
            let what = format!("\"{name}\" is reserved: no server may be called herdgate or herdgate_…");
            self.findings.value(at.clone(), what, Some(hint.to_owned()));
        }
    }

    fn settings(&mut self, file: &File) -> Option<Settings> {
        Some(Settings {
            listen: self.listen(file.all("listen").next()?),
            keys: self.keys(file.all("keys").next()?)?,
            failures: access::failures(file.all("auth").next()?),
            issuers: Vec::new(),
            probe: self.probe(file.all("probe").next()?)?,
            agent_check_proxies: file.all("agent_check").next()?.count(key!("proxies"))?,
            secret_file: self.base.join(file.all("ledger").next()?.path(key!("secret_file"))?),
            ledger: self.ledger(file.all("ledger").next()?)?,
            max_stream: self.span(file.all("ledger").next()?, key!("max_stream"), MAX_STREAM_RANGE, "1s to 24h")?,
        })
    }

    fn listen(&mut self, table: &Table) -> Listen {
        let mut open: Vec<(&'static str, Address)> = Vec::new();
        let mut address = |key: KeyOf<AddressText>| {
            let name = key.name();
            let address = match table.address(key)? {
                AddressText::Off => return None,
                AddressText::Tcp(address) => Address::Tcp(address),
                AddressText::Unix(path) => Address::Unix(self.base.join(path)),
            };
            if let Address::Unix(path) = &address
                && path.as_os_str().len() > SOCKET_PATH_MAX
            {
                let what = format!("the path of \"{name}\" is longer than {SOCKET_PATH_MAX} bytes, the system's limit");
                self.findings.value(table.at(name), what, Some("use a shorter absolute path".to_owned()));
            }
            if let Some((other, _)) = open.iter().find(|(_, other)| clash(other, &address)) {
                let what = format!("\"{name}\" and \"{other}\" listen on the same address, {address}");
                let hint = "give one of them another port, or \"off\"; the defaults are 9901 to 9905";
                // Where one is a default, the other is the one somebody wrote.
                let written = if table.has(name) { name } else { other };
                self.findings.value(table.at(written), what, Some(hint.to_owned()));
            }
            open.push((name, address.clone()));
            Some(address)
        };
        let listen = Listen {
            spop: address(key!("spop")),
            http: address(key!("http")),
            agent_check: address(key!("agent_check")),
            metrics: address(key!("metrics")),
            control: address(key!("control")),
            usage: Vec::new(),
        };
        let listen = Listen { usage: self.usage(table), ..listen };
        let is_off = |key| table.address(key) == Some(AddressText::Off);
        if is_off(key!("spop")) && is_off(key!("http")) {
            let what = "\"spop\" and \"http\" are both off: no proxy could ask";
            self.findings.value(
                table.at("http"),
                what.to_owned(),
                Some("HAProxy asks on spop, nginx on http".to_owned()),
            );
        }
        listen
    }

    /// Returns `usage`: datagram sockets, which may share a port with the TCP listeners.
    fn usage(&mut self, table: &Table) -> Vec<Address> {
        let Some(written) = table.texts(key!("usage")) else { return Vec::new() };
        let mut sockets: Vec<Address> = Vec::new();
        for (text, at) in written {
            let socket = match (text.strip_prefix("udp:").map(str::parse), text.strip_prefix("unix:")) {
                (Some(Ok(address)), _) => Address::Tcp(address),
                (None, Some(path)) if !path.is_empty() => Address::Unix(self.base.join(path)),
                _ => {
                    let hint = "write \"udp:127.0.0.1:9904\" or \"unix:/path\"";
                    self.findings.value(at, format!("\"{text}\" is no datagram address"), Some(hint.to_owned()));
                    continue;
                }
            };
            if sockets.iter().any(|other| clash(other, &socket)) {
                self.findings.value(at.clone(), format!("\"usage\" names {text} twice"), None);
            }
            sockets.push(socket);
        }
        sockets
    }

    /// Returns a duration and checks its bounds, which `words` tell.
    pub(super) fn span(
        &mut self,
        table: &Table,
        key: KeyOf<Duration>,
        (low, high): (Duration, Duration),
        words: &str,
    ) -> Option<Duration> {
        let span = table.duration(key)?;
        if !(low..=high).contains(&span) {
            let name = key.name();
            self.findings.value(table.at(name), format!("\"{name}\" must be from {words}"), None);
        }
        Some(span)
    }

    fn probe(&mut self, table: &Table) -> Option<ProbeSettings> {
        let fast_interval = self.span(table, key!("fast_interval"), INTERVAL_RANGE, "100ms to 1h")?;
        let interval = self.span(table, key!("interval"), INTERVAL_RANGE, "100ms to 1h")?;
        let deep_interval = self.span(table, key!("deep_interval"), DEEP_INTERVAL_RANGE, "100ms to 24h")?;
        let deep_timeout = self.span(table, key!("deep_timeout"), DEEP_TIMEOUT_RANGE, "100ms to 5m")?;
        let idle = self.span(table, key!("idle"), IDLE_RANGE, "100ms to 400d")?;
        if fast_interval > interval {
            let place = table.at(if table.has("fast_interval") { "fast_interval" } else { "interval" });
            let what = format!("\"fast_interval\" ({fast_interval:?}) is longer than \"interval\" ({interval:?})");
            let hint = "it is the time to the next probe after a failed one";
            self.findings.value(place, what, Some(hint.to_owned()));
        }
        let (rise, fall) = (table.count(key!("rise"))?, table.count(key!("fall"))?);
        Some(ProbeSettings { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle })
    }
}

// A quota's spacing is its period over its count, which must be at least a nanosecond.
const _: () = assert!(COUNT_MAX <= 1_000_000_000);
