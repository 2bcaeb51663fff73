//! herdgate itself: its configuration, its keys, its process.

use super::client::{self, Request};
use super::deadline::wait_until;
use super::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL, SINGLE_MODEL};
use super::process::{Process, built};
use super::scratch::Scratch;
use super::{Fault, port};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Where herdgate listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// `[listen] spop`
    pub spop: SocketAddr,
    /// `[listen] http`
    pub http: SocketAddr,
    /// `[listen] agent_check`
    pub agent_check: SocketAddr,
    /// `[listen] metrics`
    pub metrics: SocketAddr,
    /// `[listen] usage`, UDP
    pub usage: SocketAddr,
}

impl Ports {
    /// Free ones.
    pub fn free() -> Result<Ports, Fault> {
        Ok(Ports {
            spop: port::free()?,
            http: port::free()?,
            agent_check: port::free()?,
            metrics: port::free()?,
            usage: port::free()?,
        })
    }
}

/// The secrets of one key per plan.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Models of the first two servers, no limit that a test meets.
    pub team: String,
    /// The same models, three requests at once and one more a second.
    pub slow: String,
    /// All models.
    pub all: String,
}

/// Requests the `slow` plan lets through at once.
pub const SLOW_BURST: usize = 3;

/// Requests the `rare` plan lets through at once; the next one comes a minute later.
pub const RARE_BURST: usize = 3;

/// herdgate, running or not.
#[derive(Debug)]
pub struct Herdgate {
    /// Where it listens.
    pub ports: Ports,
    /// Its keys.
    pub keys: Keys,
    config: PathBuf,
    output: PathBuf,
    process: Option<Process>,
}

impl Herdgate {
    /// Writes the configuration and makes the keys; does not start it.
    pub fn new(scratch: &Scratch, fleet: &Fleet) -> Result<Herdgate, Fault> {
        Herdgate::new_with(scratch, fleet, "")
    }

    /// Returns the same with `addition` at the end of the configuration.
    pub fn new_with(scratch: &Scratch, fleet: &Fleet, addition: &str) -> Result<Herdgate, Fault> {
        let ports = Ports::free()?;
        let mut herdgate = Herdgate::with(scratch, ports, &(configuration(&ports, fleet) + addition))?;
        herdgate.keys = Keys {
            team: herdgate.new_key("team", "team")?,
            slow: herdgate.new_key("slow", "slow")?,
            all: herdgate.new_key("all", "all")?,
        };
        Ok(herdgate)
    }

    /// Writes a configuration that listens on `ports`; makes no key and does not start it.
    pub fn with(scratch: &Scratch, ports: Ports, configuration: &str) -> Result<Herdgate, Fault> {
        let config = scratch.write("herdgate.toml", configuration)?;
        let output = scratch.join("herdgate.log");
        Ok(Herdgate { ports, keys: Keys::default(), config, output, process: None })
    }

    /// Makes a key of a plan and returns its secret.
    pub fn new_key(&self, name: &str, plan: &str) -> Result<String, Fault> {
        self.new_key_with(name, plan, &[])
    }

    /// Returns the same with more to say of it.
    pub fn new_key_with(&self, name: &str, plan: &str, more: &[&str]) -> Result<String, Fault> {
        let printed = self.run(&[&["key", "new", "--name", name, "--plan", plan, "--print"], more].concat())?;
        Ok(printed.trim_end().to_owned())
    }

    /// Gives a key another secret and returns it.
    pub fn rotate_key(&self, name: &str, grace: &str) -> Result<String, Fault> {
        let printed = self.run(&["key", "rotate", name, "--grace", grace, "--print"])?;
        Ok(printed.trim_end().to_owned())
    }

    /// Runs a command of herdgate that must end well; answers what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Fault> {
        let mut command = Command::new(built("herdgate")?);
        command.args(arguments).arg("--config").arg(&self.config);
        let ran = command.output().map_err(|fault| format!("herdgate {arguments:?}: {fault}"))?;
        let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        if ran.status.success() {
            return Ok(printed);
        }
        Err(format!("herdgate {arguments:?}: {}: {printed}{}", ran.status, String::from_utf8_lossy(&ran.stderr)))
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(&mut self) -> Result<(), Fault> {
        self.start_at("debug")
    }

    /// The same with another log level.
    pub fn start_at(&mut self, level: &str) -> Result<(), Fault> {
        let mut command = Command::new(built("herdgate")?);
        command.args(["serve", "--log", level, "--config"]).arg(&self.config);
        let mut process = Process::start("herdgate", command, &self.output)?;
        let metrics = self.ports.metrics;
        process.wait_until_ready(Duration::from_secs(15), |_| {
            client::send(metrics, &Request::get("/readyz").header("Connection", "close"))
                .is_ok_and(|answer| answer.status == 200)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Returns the running process.
    pub fn process(&mut self) -> Result<&mut Process, Fault> {
        self.process.as_mut().ok_or_else(|| "herdgate does not run".to_owned())
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
        self.process = None;
    }

    /// Returns what it has printed, over all its runs.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Returns what its log says of the decision with this id, the `x-request-id` of an answer: the outcome and the
    /// facts.
    pub fn why(&self, id: &str) -> Result<String, Fault> {
        let mut line = String::new();
        wait_until("the log line", Duration::from_secs(5), || {
            let output = self.output();
            let found = output.lines().find(|line| line.contains(id));
            line = found.unwrap_or_default().to_owned();
            found.is_some()
        })?;
        let outcome = ["refused", "allowed", "answered"].into_iter().find(|word| line.contains(word)).unwrap_or("?");
        let facts = ["code", "reason", "at_byte", "caller", "plan", "model", "server", "server2"];
        let facts = facts.iter().filter_map(|name| Some(format!("{name}={}", field(&line, name)?)));
        Ok(format!("{outcome} {}", facts.collect::<Vec<_>>().join(" ")))
    }

    /// Waits until `/status` shows a server in a state.
    pub fn wait_for_state(&self, server: &str, state: &str, limit: Duration) -> Result<(), Fault> {
        let request = Request::get("/status").header("Connection", "close");
        wait_until(&format!("{server} {state}"), limit, || {
            client::send(self.ports.metrics, &request).is_ok_and(|answer| {
                let status = answer.json();
                let servers = status["servers"].as_array().cloned().unwrap_or_default();
                servers.iter().any(|found| found["name"] == server && found["state"] == state)
            })
        })
    }

    /// Returns a sample of `/metrics`, by its name and labels.
    pub fn metric(&self, series: &str) -> Option<u64> {
        let scrape = Request::get("/metrics").header("Connection", "close");
        let text = client::send(self.ports.metrics, &scrape).ok()?.text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Returns the file it reads.
    pub fn config(&self) -> &std::path::Path {
        &self.config
    }
}

/// Returns the value of `name=value` or `name="value"` in a log line.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let start = line.find(&format!(" {name}="))? + name.len() + 2;
    let rest = &line[start..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    }
}

fn configuration(ports: &Ports, fleet: &Fleet) -> String {
    let Ports { spop, http, agent_check, metrics, usage } = ports;
    let mut text = format!(
        r#"[listen]
spop = "{spop}"
http = "{http}"
agent_check = "{agent_check}"
metrics = "{metrics}"
usage = ["udp:{usage}"]
control = "unix:herdgate.sock"

[keys]
file = "keys.toml"

[probe]
interval = "500ms"
fast_interval = "200ms"
rise = 2
fall = 2
# Longer than any run: the simulators' counters are to show what clients asked.
deep_interval = "24h"

[plans.team]
models = ["{SHARED_MODEL}", "{SINGLE_MODEL}"]
routes = ["inference", "catalog"]

[plans.slow]
models = ["{SHARED_MODEL}", "{SINGLE_MODEL}"]
routes = ["inference", "catalog"]
requests = "60/min"
burst = {SLOW_BURST}

[plans.narrow]
models = ["{SHARED_MODEL}"]
concurrency = 2

[plans.all]
models = ["*", "{FOREIGN_MODEL}"]
routes = ["inference", "catalog"]

[plans.rare]
models = ["{SHARED_MODEL}", "{SINGLE_MODEL}"]
requests = "60/h"
burst = {RARE_BURST}

[teams.pair]
plan = "rare"
"#
    );
    for server in &fleet.servers {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[[server]]\nname = \"{}\"\nurl = \"http://{}\"\nkind = \"ollama\"\nmaxconn = 64\n",
            server.name, server.address
        );
    }
    text
}
