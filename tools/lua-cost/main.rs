//! What usage.lua costs: HAProxy on the shipped file with and without it, in turns, before an agent that allows everything.

#[path = "../../tests/harness/mod.rs"]
mod harness;
#[path = "../bench/load.rs"]
#[allow(dead_code)] // a part is used
mod load;
#[path = "../bench/usage.rs"]
#[allow(dead_code)] // a part is used
mod usage;

use harness::client::{self, Request};
use harness::deadline::wait_until;
use harness::fleet::{Fleet, SHARED_MODEL};
use harness::haproxy::{HaProxy, Version};
use harness::herdgate::Ports;
use harness::process::{Process, built};
use harness::scratch::{Scratch, edit};
use harness::{Fault, port, root};
use load::Run;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(1500);

/// One round of streams: so many at once, of so many tokens, in which each token is a piece of its own.
const STREAMS: usize = 32;
const TOKENS: usize = 200;
const TOKENS_PER_SECOND: u32 = 200;

fn main() -> ExitCode {
    let version = if std::env::args().any(|word| word == "--newer") { Version::Newer } else { Version::Debian };
    match run(version) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// HAProxy before one model server, with and without Lua.
struct Pair {
    with: HaProxy,
    without: HaProxy,
    _agent: Process,
}

impl Pair {
    fn start(version: Version, scratch: &Scratch, server: SocketAddr) -> Result<Pair, Fault> {
        let fleet = Fleet::elsewhere([server, port::free()?, port::free()?]);
        let ports = Ports::free()?;
        let mut agent = Command::new(built("constant-agent")?);
        agent.arg(ports.spop.to_string()).arg("ollama1");
        let agent = process(scratch, "constant-agent", agent, ports.spop)?;
        let start = |name: &str, edits: &[(&str, &str)]| -> Result<HaProxy, Fault> {
            scratch.copy(&root().join("haproxy"), name)?;
            let change = |file: &str, edits: &[(&str, &str)]| -> Result<PathBuf, Fault> {
                let file = format!("{name}/{file}");
                let text = std::fs::read_to_string(scratch.join(&file)).map_err(|fault| format!("{file}: {fault}"))?;
                scratch.write(&file, &edits.iter().try_fold(text, |text, (from, to)| edit(&text, from, to))?)
            };
            // Neither queueing for a server nor late verdicts of a busy machine are what is measured.
            change("spoe-herdgate.conf", &[("timeout processing 100ms", "timeout processing 5s")])?;
            HaProxy::start_on(&change("haproxy.cfg", edits)?, version, scratch, &ports, &fleet)
        };
        let wide = (" maxconn 8 ", " maxconn 64 ");
        let with = start("with", &[wide])?;
        let without = start("without", &[wide, ("feature(LUA)", "feature(NO_SUCH_FEATURE)")])?;
        Ok(Pair { with, without, _agent: agent })
    }

    /// Returns the two in the order of a round: forth and back.
    fn turns(&self, round: usize) -> [(usize, &HaProxy); 2] {
        let mut turns = [(0, &self.with), (1, &self.without)];
        if round % 2 == 1 {
            turns.reverse();
        }
        turns
    }
}

fn run(version: Version) -> Result<(), Fault> {
    println!("{}", version.line()?);
    small_answers(version)?;
    streams(version)
}

/// Whole answers of 320 bytes as fast as they come.
fn small_answers(version: Version) -> Result<(), Fault> {
    let scratch = Scratch::new()?;
    let server = port::free()?;
    let _backend = constant_server(&scratch, server)?;
    let pair = Pair::start(version, &scratch, server)?;
    let body = format!(r#"{{"model":"{SHARED_MODEL}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: proxy.test\r\nAuthorization: Bearer x\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for (_, proxy) in pair.turns(0) {
        let mut last = String::new();
        let short = Duration::from_millis(5);
        wait_until("HAProxy serves", PATIENCE, || {
            load::run(proxy.address, request.as_bytes(), 1, short).map_err(|fault| last = fault).is_ok()
        })
        .map_err(|fault| format!("{fault}; last: {last}"))?;
    }
    let mut ratios = Vec::new();
    let mut cpu = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let mut runs = [Run::default(), Run::default()];
        for (side, proxy) in pair.turns(round) {
            let before_ns = usage::cpu_ns(proxy.process.pid())?;
            runs[side] = load::run(proxy.address, request.as_bytes(), CONNECTIONS, SLICE)?;
            let spent_ns = usage::cpu_ns(proxy.process.pid())?.saturating_sub(before_ns);
            if round > 0 {
                cpu[side].push(spent_ns as f64 / 1e3 / runs[side].took_ns.len().max(1) as f64);
            }
            proxy.log_lines();
        }
        // The first round warms up.
        if round > 0 {
            ratios.push(runs[0].rate() / runs[1].rate());
            println!("  round {round}: {:.0} with, {:.0} without, requests/s", runs[0].rate(), runs[1].rate());
        }
    }
    let [with, without] = cpu.map(median);
    println!("small answers: requests/s with / without {:.2}", median(ratios));
    println!("small answers: HAProxy's CPU {with:.1} us a request with, {without:.1} without");
    Ok(())
}

/// Streams at the pace of a fast model.
fn streams(version: Version) -> Result<(), Fault> {
    let scratch = Scratch::new()?;
    let server = port::free()?;
    let mut simulator = Command::new(built("ollama-sim")?);
    simulator.args(["--listen", &server.to_string(), "--model", SHARED_MODEL, "--num-parallel", "64"]);
    simulator.args(["--tokens-per-second", &TOKENS_PER_SECOND.to_string(), "--prompt-tokens-per-second", "0"]);
    let _simulator = process(&scratch, "ollama-sim", simulator, server)?;
    let pair = Pair::start(version, &scratch, server)?;
    for path in ["/api/chat", "/v1/chat/completions"] {
        let body = serde_json::json!({
            "model": SHARED_MODEL, "stream": true, "messages": [{ "role": "user", "content": "hello" }],
            "options": { "num_predict": TOKENS }, "max_tokens": TOKENS,
        });
        let request = Request::post(path, body.to_string()).key("any").header("Connection", "close");
        let mut cpu = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (side, proxy) in pair.turns(round) {
                let spent_ns = all_at_once(proxy, &request)?;
                if round > 0 {
                    cpu[side].push(spent_ns as f64 / 1e3 / (STREAMS * TOKENS) as f64);
                }
                proxy.log_lines();
            }
        }
        let [with, without] = cpu.map(median);
        println!("streams of {path}: HAProxy's CPU {with:.1} us a token with, {without:.1} without");
    }
    Ok(())
}

/// Reads `STREAMS` streams at once; the CPU time it cost HAProxy, in nanoseconds.
fn all_at_once(proxy: &HaProxy, request: &Request) -> Result<u64, Fault> {
    let before_ns = usage::cpu_ns(proxy.process.pid())?;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| client::send(proxy.address, request))).collect();
        all.into_iter().try_for_each(|one| match one.join() {
            Ok(Ok(answer)) if answer.status == 200 => Ok(()),
            Ok(Ok(answer)) => Err(format!("{} {}", answer.status, answer.text())),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err("a client panicked".to_owned()),
        })
    })?;
    Ok(usage::cpu_ns(proxy.process.pid())?.saturating_sub(before_ns))
}

/// Returns the model server of `make bench`.
fn constant_server(scratch: &Scratch, address: SocketAddr) -> Result<Process, Fault> {
    let path = root().join("tools/bench/backend.conf");
    let mut text = std::fs::read_to_string(&path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    text = edit(&text, "SERVER1;", &format!("{address};"))?;
    for server in ["SERVER2;", "SERVER3;"] {
        text = edit(&text, server, &format!("{};", port::free()?))?;
    }
    let written = scratch.write("backend.conf", &edit(&text, "MODEL", SHARED_MODEL)?)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg(scratch.join("backend.error.log")).arg("-c").arg(written);
    command.args(["-g", &format!("daemon off; pid {};", scratch.join("backend.pid").display())]);
    process(scratch, "backend", command, address)
}

fn process(scratch: &Scratch, name: &str, command: Command, ready: SocketAddr) -> Result<Process, Fault> {
    let mut process = Process::start(name, command, &scratch.join(&format!("{name}.log")))?;
    process.wait_until_ready(PATIENCE, |_| TcpStream::connect(ready).is_ok())?;
    Ok(process)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
