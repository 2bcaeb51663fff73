//! The file, checked and turned into settings and the policy that decisions read.

use super::access;
use super::file::{File, Table};
use super::issuer;
use super::quantity::COUNT_MAX;
use super::queue;
use super::server;
use super::settings::{Listen, ProbeSettings, Settings, clash};
use super::value::{Value, Written};
use crate::decision::plan::policy::{ModelPattern, Plan, Policy, RouteClasses};
use crate::decision::plan::server::Server;
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

    /// `models` of a plan or a server.
    fn models(&mut self, table: &Table, hint_if_empty: &str) -> Vec<Arc<str>> {
        let Some((Value::Texts(models), at)) = table.get("models") else { return Vec::new() };
        if models.is_empty() {
            self.findings.value(at, "\"models\" is an empty list".to_owned(), Some(hint_if_empty.to_owned()));
        }
        for (model, at) in &models {
            if model.len() > NAME_MAX {
                self.findings.value(at.clone(), format!("a model name has at most {NAME_MAX} bytes"), None);
            }
        }
        models.into_iter().map(|(model, _)| model.trim().into()).collect()
    }

    fn routes(&mut self, table: &Table) -> RouteClasses {
        let Some((Value::Texts(routes), at)) = table.get("routes") else { return RouteClasses::default() };
        if routes.is_empty() {
            let hint = "leave it out for \"inference\" and \"catalog\"";
            self.findings.value(at, "\"routes\" is an empty list".to_owned(), Some(hint.to_owned()));
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
            if !server.name.is_empty()
                && servers.iter().any(|other| other.name == server.name)
                && let Some((_, at)) = table.get("name")
            {
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
        let name = match table.get("name") {
            Some((Value::Text(name), at)) => {
                self.check_name("server", &name, &at);
                name
            }
            _ => String::new(),
        };
        let url = match table.get("url") {
            Some((Value::Text(url), at)) => match server::base_url(&url) {
                Ok(url) => url,
                Err(fault) => {
                    self.findings.value(at, format!("\"url\" {}", fault.what), Some(fault.hint.to_owned()));
                    String::new()
                }
            },
            _ => String::new(),
        };
        let number = |key| match table.get(key) {
            Some((Value::Integer(number), _)) => Some(number),
            _ => None,
        };
        Server {
            name: name.into(),
            url: url.into(),
            kind: match table.get("kind") {
                Some((Value::Text(kind), _)) => server::kind(&kind),
                _ => server::kind(""),
            },
            slots: number("slots").and_then(|slots| u32::try_from(slots).ok()),
            maxconn: number("maxconn").and_then(|maxconn| u32::try_from(maxconn).ok()),
            weight: number("weight").and_then(|weight| u16::try_from(weight).ok()).unwrap_or(0),
            models: self.models(table, "leave it out to discover the models"),
        }
    }

    /// Names go into proxy configurations, headers, metrics and logs; these characters are safe in all of them.
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
            agent_check_proxies: integer(file.all("agent_check").next()?, "proxies")?,
            secret_file: match file.all("ledger").next()?.get("secret_file")? {
                (Value::Text(path), _) => self.base.join(path),
                _ => return None,
            },
            ledger: self.ledger(file.all("ledger").next()?)?,
            max_stream: self.max_stream(file.all("ledger").next()?)?,
        })
    }

    fn listen(&mut self, table: &Table) -> Listen {
        let mut open: Vec<(&'static str, Address)> = Vec::new();
        let mut address = |name: &'static str| {
            let (Value::Address(written), at) = table.get(name)? else { return None };
            let address = match written {
                Written::Off => return None,
                Written::Tcp(address) => Address::Tcp(address),
                Written::Unix(path) => Address::Unix(self.base.join(path)),
            };
            if let Address::Unix(path) = &address
                && path.as_os_str().len() > SOCKET_PATH_MAX
            {
                let what = format!("the path of \"{name}\" is longer than {SOCKET_PATH_MAX} bytes, the system's limit");
                self.findings.value(at.clone(), what, Some("use a shorter absolute path".to_owned()));
            }
            if let Some((other, _)) = open.iter().find(|(_, other)| clash(other, &address)) {
                let what = format!("\"{name}\" and \"{other}\" listen on the same address, {address}");
                let hint = "give one of them another port, or \"off\"; the defaults are 9901 to 9905";
                // Where one is a default, the other is the one somebody wrote.
                let written = if table.has(name) { name } else { other };
                let at = table.get(written).map_or(at, |(_, at)| at);
                self.findings.value(at, what, Some(hint.to_owned()));
            }
            open.push((name, address.clone()));
            Some(address)
        };
        let listen = Listen {
            spop: address("spop"),
            http: address("http"),
            agent_check: address("agent_check"),
            metrics: address("metrics"),
            control: address("control"),
            usage: Vec::new(),
        };
        let listen = Listen { usage: self.usage(table), ..listen };
        let off = |name| matches!(table.get(name), Some((Value::Address(Written::Off), _)));
        if off("spop") && off("http") {
            let what = "\"spop\" and \"http\" are both off: no proxy could ask";
            let at = table.get("http").map_or(0..0, |(_, at)| at);
            self.findings.value(at, what.to_owned(), Some("HAProxy asks on spop, nginx on http".to_owned()));
        }
        listen
    }

    /// `usage`: datagram sockets, which may share a port with the TCP listeners.
    fn usage(&mut self, table: &Table) -> Vec<Address> {
        let Some((Value::Texts(written), _)) = table.get("usage") else { return Vec::new() };
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

    fn max_stream(&mut self, table: &Table) -> Option<Duration> {
        let (Value::Duration(longest), at) = table.get("max_stream")? else { return None };
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&longest) {
            self.findings.value(at, "\"max_stream\" must be from 1s to 24h".to_owned(), None);
        }
        Some(longest)
    }

    fn probe(&mut self, table: &Table) -> Option<ProbeSettings> {
        let mut span = |name: &str, (low, high): (Duration, Duration), words: &str| {
            let (Value::Duration(span), at) = table.get(name)? else { return None };
            if !(low..=high).contains(&span) {
                self.findings.value(at.clone(), format!("\"{name}\" must be from {words}"), None);
            }
            Some((span, at))
        };
        let mut interval = |name| span(name, INTERVAL_RANGE, "100ms to 1h");
        let ((fast_interval, fast_at), (interval, at)) = (interval("fast_interval")?, interval("interval")?);
        let (deep_interval, _) = span("deep_interval", DEEP_INTERVAL_RANGE, "100ms to 24h")?;
        let (deep_timeout, _) = span("deep_timeout", DEEP_TIMEOUT_RANGE, "100ms to 5m")?;
        let (idle, _) = span("idle", IDLE_RANGE, "100ms to 400d")?;
        if fast_interval > interval {
            let place = if table.has("fast_interval") { fast_at } else { at };
            let what = format!("\"fast_interval\" ({fast_interval:?}) is longer than \"interval\" ({interval:?})");
            let hint = "it is the time to the next probe after a failed one";
            self.findings.value(place, what, Some(hint.to_owned()));
        }
        let (rise, fall) = (integer(table, "rise")?, integer(table, "fall")?);
        Some(ProbeSettings { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle })
    }
}

pub(super) fn integer(table: &Table, name: &str) -> Option<u32> {
    match table.get(name)? {
        (Value::Integer(number), _) => u32::try_from(number).ok(),
        _ => None,
    }
}

// A quota's spacing is its period over its count, which must be at least a nanosecond.
const _: () = assert!(COUNT_MAX <= 1_000_000_000);
