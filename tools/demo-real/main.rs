//! `make demo-real`: a real model on llama.cpp behind real HAProxy and real nginx, used through the stock openai client.

#[path = "../../tests/harness/mod.rs"]
mod harness;
mod llama;
mod scene;

use harness::Fault;
use harness::haproxy::{HaProxy, Version};
use harness::herdgate::{Herdgate, Ports};
use harness::nginx::{self, Mode, Nginx};
use harness::scratch::Scratch;
use harness::stack::Proxy;
use llama::{Llama, MODEL, NAME};
use scene::Stage;
use std::process::ExitCode;

/// The shipped file asks every server for `/`, which Ollama answers; llama.cpp is asked for `/health`, as haproxy/README.md
/// says.
const HEALTH: (&str, &str) = (
    "backend ollama1 from model_server\n",
    "backend ollama1 from model_server\n    http-check send meth GET uri /health ver HTTP/1.1 hdr host localhost\n    http-check expect status 200\n",
);

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("\n{failed} of the steps did not go as they should.");
            ExitCode::FAILURE
        }
        Err(fault) => {
            println!("\nThe demo could not go on: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Plays all scenes; answers how many went wrong.
fn run() -> Result<usize, Fault> {
    let scratch = Scratch::new()?;
    println!("Starting llama-server with a real model, herdgate, HAProxy and nginx on loopback.\n");
    let llama = Llama::new(&scratch)?;
    println!("  {:<9} {:<22} {MODEL} on llama.cpp {}", NAME, llama.address.to_string(), llama::version()?);
    let ports = Ports::free()?;
    let mut herdgate = Herdgate::with(&scratch, ports, &configuration(&ports, &llama))?;
    herdgate.start()?;
    println!("  {:<9} {:<22} SPOP; {} HTTP", "herdgate", ports.spop.to_string(), ports.http);
    let haproxy = HaProxy::start_edited(&[HEALTH], Version::Debian, &scratch, &ports, &llama)?;
    let nginx = Nginx::start(nginx::Version::Debian, Mode::Handoff, &scratch, &ports, &llama)?;
    println!("  {:<9} {:<22} {}", "haproxy", haproxy.address.to_string(), Version::Debian.line()?);
    println!("  {:<9} {:<22} {}", "nginx", nginx.address.to_string(), nginx::Version::Debian.line()?);
    println!("\nKeys: one on plan `team` ({MODEL}), one on plan `other`, which does not list that model.");

    let mut stage = Stage::new(llama, herdgate)?;
    stage.found()?;
    stage.deep_checks()?;
    for (name, proxy) in [("HAProxy", Proxy::HaProxy(haproxy)), ("nginx", Proxy::Nginx(nginx))] {
        println!("\n━━━━ through {name}, with the openai client ━━━━");
        stage.play(&proxy)?;
    }
    println!("\n{} steps, {} as they should be.", stage.played, stage.played - stage.failed);
    Ok(stage.failed)
}

fn configuration(ports: &Ports, llama: &Llama) -> String {
    let Ports { spop, http, agent_check, metrics, usage } = ports;
    format!(
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
deep_interval = "1s"

[plans.team]
models = ["{MODEL}"]

[plans.other]
models = ["llama3.*"]

[[server]]
name = "{NAME}"
url = "http://{}"
kind = "openai"
maxconn = 4
"#,
        llama.address
    )
}
