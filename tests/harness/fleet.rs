//! Simulated model servers, and what each of them saw.

use super::client::{self, Request};
use super::process::{Process, built};
use super::scratch::Scratch;
use super::{Fault, port};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What health checks and probes ask for, of HAProxy and of herdgate. Nothing a client asks for ends up there: model
/// lists are answered by herdgate.
const PROBES: [&str; 6] = ["root", "tags", "ps", "version", "v1_models", "health"];

/// Model servers as a proxy knows them.
pub trait Servers {
    /// Name and address of each, in the order of the shipped files.
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)>;
}

/// One simulated server.
#[derive(Debug)]
pub struct Simulator {
    /// Its name, in herdgate.toml and in the proxies.
    pub name: &'static str,
    /// The models it has.
    pub models: &'static [&'static str],
    /// Where it listens, also while it is stopped.
    pub address: SocketAddr,
    tokens_per_second: u32,
    options: &'static str,
    output: PathBuf,
    process: Option<Process>,
}

/// One request as a simulator saw it.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The handler's name.
    pub handler: String,
    /// The model asked for, canonical.
    pub model: String,
    /// Status answered; 0 where the client left.
    pub status: u16,
}

/// A simulator's own counters.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Counters {
    /// Requests by handler.
    pub handlers: BTreeMap<String, u64>,
    /// Everything except `/sim/*`.
    pub requests: u64,
    /// Clients that left before their answer was complete.
    pub aborts: u64,
    /// How often each fault on purpose struck.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// Inference requests waiting for a slot.
    #[serde(default)]
    pub queued: u64,
    /// 503 answers.
    #[serde(default)]
    pub busy: u64,
    /// Tokens by model.
    pub models: BTreeMap<String, Tokens>,
    /// The last two hundred.
    pub recent: Vec<Seen>,
}

/// Tokens a simulator evaluated and generated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Tokens {
    /// Of prompts.
    pub tokens_in: u64,
    /// Of answers, sent or not.
    pub tokens_out: u64,
}

impl Counters {
    /// Requests that were no probes.
    pub fn asked(&self) -> u64 {
        self.requests
            - self.handlers.iter().filter(|(name, _)| PROBES.contains(&name.as_str())).map(|(_, n)| n).sum::<u64>()
    }

    /// Tokens of all models together.
    pub fn tokens(&self) -> Tokens {
        self.models.values().fold(Tokens::default(), |sum, model| Tokens {
            tokens_in: sum.tokens_in + model.tokens_in,
            tokens_out: sum.tokens_out + model.tokens_out,
        })
    }

    /// Returns the last of those.
    pub fn asked_recently(&self) -> impl Iterator<Item = &Seen> {
        self.recent.iter().filter(|seen| !PROBES.contains(&seen.handler.as_str()))
    }
}

impl Simulator {
    /// Starts it, or starts it again at the same address with all counters zero.
    pub fn start(&mut self) -> Result<(), Fault> {
        let mut command = Command::new(built("ollama-sim")?);
        command.args(["--listen", &self.address.to_string(), "--name", self.name]);
        command.args(self.options.split_whitespace());
        command.args(["--tokens-per-second", &self.tokens_per_second.to_string(), "--prompt-tokens-per-second", "0"]);
        for model in self.models {
            command.args(["--model", model]);
        }
        let mut process = Process::start(self.name, command, &self.output)?;
        let address = self.address;
        process.wait_until_ready(Duration::from_secs(10), |_| std::net::TcpStream::connect(address).is_ok())?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it: connections are refused from here on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Returns whether it runs.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Sets faults on purpose, in the words of the simulator's README; `[]` clears them.
    pub fn fault(&self, list: &str) -> Result<(), Fault> {
        let request = Request::post("/sim/faults", list).header("Host", "localhost").header("Connection", "close");
        let answer = client::send(self.address, &request)?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{}: {list}: {}", self.name, answer.text())) }
    }

    /// Its counters; all zero while it is stopped.
    pub fn counters(&self) -> Result<Counters, Fault> {
        if !self.runs() {
            return Ok(Counters::default());
        }
        let request = Request::get("/sim/stats").header("Host", "localhost").header("Connection", "close");
        let answer = client::send(self.address, &request)?;
        serde_json::from_slice(&answer.body).map_err(|fault| format!("{}: /sim/stats: {fault}", self.name))
    }
}

/// Three servers: the first two share a model, the third has one that the team's plan does not allow.
#[derive(Debug)]
pub struct Fleet {
    /// In the order of the configuration.
    pub servers: Vec<Simulator>,
}

/// On the first two servers.
pub const SHARED_MODEL: &str = "llama3.2:3b";
/// On the first only.
pub const SINGLE_MODEL: &str = "qwen2.5:0.5b";
/// On the third only, and outside the team's plan.
pub const FOREIGN_MODEL: &str = "mistral:7b";

impl Servers for Fleet {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.servers.iter().map(|server| (server.name, server.address)).collect()
    }
}

impl Fleet {
    /// Starts them. 20 tokens a second are 50 ms apart.
    pub fn start(scratch: &Scratch, tokens_per_second: u32) -> Result<Fleet, Fault> {
        Fleet::start_with(
            scratch,
            tokens_per_second,
            "--num-parallel 64",
            [&[SHARED_MODEL, SINGLE_MODEL], &[SHARED_MODEL], &[FOREIGN_MODEL]],
        )
    }

    /// Three servers with these models and options.
    pub fn start_with(
        scratch: &Scratch,
        tokens_per_second: u32,
        options: &'static str,
        models: [&'static [&'static str]; 3],
    ) -> Result<Fleet, Fault> {
        let mut servers = Vec::new();
        for (name, models) in ["ollama1", "ollama2", "ollama3"].into_iter().zip(models) {
            let output = scratch.join(&format!("{name}.log"));
            let address = port::free()?;
            let mut server = Simulator { name, models, address, tokens_per_second, options, output, process: None };
            server.start()?;
            servers.push(server);
        }
        Ok(Fleet { servers })
    }

    /// Three servers that somebody else runs at these addresses, which never start or stop here.
    pub fn elsewhere(addresses: [SocketAddr; 3]) -> Fleet {
        let models: &'static [&'static str] = &[SHARED_MODEL, SINGLE_MODEL];
        let simulator = |(name, address)| Simulator {
            name,
            models,
            address,
            tokens_per_second: 0,
            options: "",
            output: PathBuf::new(),
            process: None,
        };
        Fleet { servers: ["ollama1", "ollama2", "ollama3"].into_iter().zip(addresses).map(simulator).collect() }
    }

    /// Returns a server by name.
    pub fn server(&mut self, name: &str) -> Result<&mut Simulator, Fault> {
        self.servers.iter_mut().find(|server| server.name == name).ok_or_else(|| format!("no server {name}"))
    }

    /// Returns the counters of all, in order.
    pub fn counters(&self) -> Result<Vec<Counters>, Fault> {
        self.servers.iter().map(Simulator::counters).collect()
    }

    /// Requests of clients that reached any server.
    pub fn asked(&self) -> Result<u64, Fault> {
        Ok(self.counters()?.iter().map(Counters::asked).sum())
    }

    /// Those requests, as far as the servers remember them.
    pub fn seen(&self) -> Result<Vec<Seen>, Fault> {
        Ok(self
            .counters()?
            .iter()
            .flat_map(|counters| counters.asked_recently().cloned().collect::<Vec<_>>())
            .collect())
    }

    /// Clients that left, as the servers saw it.
    pub fn aborts(&self) -> Result<u64, Fault> {
        Ok(self.counters()?.iter().map(|counters| counters.aborts).sum())
    }
}
