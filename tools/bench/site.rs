//! What is measured: a constant model server, the agents, and the same proxies before each agent.

use crate::harness::deadline::wait_until;
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::{Herdgate, Ports};
use crate::harness::nginx::{Mode, Nginx, Version as NginxVersion};
use crate::harness::process::{Process, built};
use crate::harness::scratch::{Scratch, edit};
use crate::harness::{Fault, port, root};
use crate::load;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Five limits that are taken from and never used up.
const LIMITS: &str = r#"requests = ["10M/s", "500M/min", "1000M/h", "1000M/day", "900M/day"]"#;

/// Who stands behind the proxy's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nobody: the proxy does not ask.
    Bare,
    /// An agent that answers a constant.
    Constant,
    /// herdgate with API key, five request limits, three servers.
    Herdgate,
}

/// All sides, in the order of the table.
pub const SIDES: [Side; 3] = [Side::Bare, Side::Constant, Side::Herdgate];

impl Side {
    /// Its name in the table and in `latest.json`.
    pub fn name(self) -> &'static str {
        match self {
            Side::Bare => "bare",
            Side::Constant => "constant",
            Side::Herdgate => "herdgate",
        }
    }
}

/// How the site is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Which HAProxy.
    pub version: Version,
    /// Whether the constant agent sets every variable herdgate sets.
    pub whole: bool,
}

/// Everything, ended when dropped: proxies first.
pub struct Site {
    haproxy: [HaProxy; 3],
    nginx: [SocketAddr; 3],
    _nginx: (Process, Nginx, Nginx),
    _agents: [Process; 2],
    /// herdgate, in front of both proxies.
    pub herdgate: Herdgate,
    _backend: Process,
    request: Vec<u8>,
    _scratch: Scratch,
}

impl Site {
    /// Starts everything, and checks that each cell answers as it should.
    pub fn start(setup: Setup) -> Result<Site, Fault> {
        let scratch = Scratch::new()?;
        let fleet = Fleet::elsewhere([port::free()?, port::free()?, port::free()?]);
        let files = Files { scratch: &scratch, fleet: &fleet };
        let backend = files.nginx("backend.conf", fleet.servers[0].address, &[("MODEL", SHARED_MODEL)])?;

        let mut herdgate = Herdgate::new(&scratch, &fleet)?;
        let config = std::fs::read_to_string(herdgate.config()).map_err(|fault| fault.to_string())?;
        scratch.write("herdgate.toml", &edit(&config, "[plans.team]", &format!("[plans.team]\n{LIMITS}"))?)?;
        herdgate.start_at("info")?;

        let constant = Ports::free()?;
        let mut agent = Command::new(built("constant-agent")?);
        agent.arg(constant.spop.to_string()).arg(fleet.servers[0].name);
        if setup.whole {
            agent.arg("--whole");
        }
        let agent = files.process("constant-agent", agent, constant.spop)?;
        let stub = files.nginx("stub.conf", constant.http, &[("STUB", &constant.http.to_string())])?;

        // Queueing for a server is not what is measured, and the constant agent sends everything to one.
        let shipped = scratch.copy(&root().join("haproxy"), "haproxy")?.join("haproxy.cfg");
        let text = std::fs::read_to_string(&shipped).map_err(|fault| fault.to_string())?;
        scratch.write("haproxy/haproxy.cfg", &edit(&text, " maxconn 8 ", " maxconn 64 ")?)?;
        let bare = root().join("tools/bench/bare_haproxy.cfg");
        let haproxy = |file: &Path, ports| HaProxy::start_on(file, setup.version, &scratch, ports, &fleet);
        let haproxy = [haproxy(&bare, &constant)?, haproxy(&shipped, &constant)?, haproxy(&shipped, &herdgate.ports)?];

        let bare_address = port::free()?;
        let log = scratch.join("bare-access.log").display().to_string();
        let bare =
            files.nginx("bare_nginx.conf", bare_address, &[("BIND", &bare_address.to_string()), ("LOG", &log)])?;
        let asking = |ports| Nginx::start(NginxVersion::Debian, Mode::Handoff, &scratch, ports, &fleet);
        let (to_stub, to_herdgate) = (asking(&constant)?, asking(&herdgate.ports)?);

        let site = Site {
            haproxy,
            nginx: [bare_address, to_stub.address, to_herdgate.address],
            _nginx: (bare, to_stub, to_herdgate),
            _agents: [agent, stub],
            request: request(&herdgate.keys.team),
            herdgate,
            _backend: backend,
            _scratch: scratch,
        };
        site.check()?;
        Ok(site)
    }

    /// Returns where a side's HAProxy and nginx listen.
    pub fn addresses(&self, side: Side) -> [SocketAddr; 2] {
        let position = side as usize;
        [self.haproxy[position].address, self.nginx[position]]
    }

    /// Returns the request that is sent: 1 KiB of chat, with a key.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Waits until every cell serves.
    fn check(&self) -> Result<(), Fault> {
        for side in SIDES {
            for address in self.addresses(side) {
                let mut last = String::new();
                let served = wait_until("every proxy serves", PATIENCE, || {
                    load::run(address, &self.request, 1, Duration::from_millis(5))
                        .map_err(|fault| last = fault)
                        .is_ok_and(|run| !run.took_ns.is_empty())
                });
                served.map_err(|fault| format!("{}: {fault}; last: {last}", side.name()))?;
            }
        }
        Ok(())
    }
}

/// Starts processes on files of this example.
struct Files<'s> {
    scratch: &'s Scratch,
    fleet: &'s Fleet,
}

impl Files<'_> {
    /// nginx on a file beside this one, in which words are replaced by addresses.
    fn nginx(&self, file: &str, ready: SocketAddr, words: &[(&str, &str)]) -> Result<Process, Fault> {
        let path = root().join("tools/bench").join(file);
        let mut text = std::fs::read_to_string(&path).map_err(|fault| format!("{}: {fault}", path.display()))?;
        for (word, server) in ["SERVER1;", "SERVER2;", "SERVER3;"].iter().zip(&self.fleet.servers) {
            text = text.replace(word, &format!("{};", server.address));
        }
        for (word, value) in words {
            text = edit(&text, word, value)?;
        }
        let written = self.scratch.write(file, &text)?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-e").arg(self.scratch.join(&format!("{file}.error.log"))).arg("-c").arg(written);
        let pid = self.scratch.join(&format!("{file}.pid"));
        command.args(["-g", &format!("daemon off; pid {};", pid.display())]);
        self.process(file, command, ready)
    }

    fn process(&self, name: &str, command: Command, ready: SocketAddr) -> Result<Process, Fault> {
        let mut process = Process::start(name, command, &self.scratch.join(&format!("{name}.log")))?;
        process.wait_until_ready(PATIENCE, |_| TcpStream::connect(ready).is_ok())?;
        Ok(process)
    }
}

/// Returns a chat of a few turns; the body has 1,024 bytes.
fn request(key: &str) -> Vec<u8> {
    let start = format!(
        r#"{{"model":"{SHARED_MODEL}","stream":false,"max_tokens":64,"messages":[{{"role":"system","content":"You answer briefly."}},{{"role":"user","content":""#
    );
    let end = r#""}]}"#;
    let filler = "Which of the two servers answered first, and how do you know?\\n"
        .chars()
        .cycle()
        .take(1024_usize.saturating_sub(start.len() + end.len()).saturating_sub(1))
        .collect::<String>();
    // An escape must not be cut in two.
    let filler = format!("{} ", filler.trim_end_matches('\\'));
    let body = format!("{start}{filler}{end}");
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: proxy.test\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: OpenAI/Python 1.109\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
