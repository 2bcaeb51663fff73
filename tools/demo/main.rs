//! `make demo`: the main job on real HAProxy and real nginx, each step shown as what was asked, what came back, and why.

#[path = "../../tests/harness/mod.rs"]
mod harness;
mod scene;

use harness::Fault;
use harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL, SINGLE_MODEL};
use harness::haproxy::{self, HaProxy};
use harness::herdgate::Herdgate;
use harness::nginx::{self, Mode, Nginx};
use harness::scratch::Scratch;
use harness::stack::{Proxy, TOKENS_PER_SECOND};
use scene::Stage;
use std::process::ExitCode;

fn main() -> ExitCode {
    let stay = std::env::args().any(|argument| argument == "--stay");
    match run(stay) {
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
fn run(stay: bool) -> Result<usize, Fault> {
    let scratch = Scratch::new()?;
    println!("Starting three simulated model servers, herdgate, HAProxy and nginx on loopback.\n");
    let fleet = Fleet::start(&scratch, TOKENS_PER_SECOND)?;
    for server in &fleet.servers {
        println!("  {:<9} {:<22} {}", server.name, server.address.to_string(), server.models.join(", "));
    }
    let frugal = format!("\n[plans.frugal]\nmodels = [\"{SHARED_MODEL}\"]\nbudget = [\"60/day\"]\n");
    let mut herdgate = Herdgate::new_with(&scratch, &fleet, &frugal)?;
    herdgate.start()?;
    println!("  {:<9} {:<22} SPOP; {} HTTP", "herdgate", herdgate.ports.spop.to_string(), herdgate.ports.http);
    let haproxy = HaProxy::start(haproxy::Version::Debian, &scratch, &herdgate.ports, &fleet)?;
    let nginx = Nginx::start(nginx::Version::Debian, Mode::Handoff, &scratch, &herdgate.ports, &fleet)?;
    println!("  {:<9} {:<22} {}", "haproxy", haproxy.address.to_string(), haproxy::Version::Debian.line()?);
    println!("  {:<9} {:<22} {}", "nginx", nginx.address.to_string(), nginx::Version::Debian.line()?);
    println!("\nKeys: one on plan `team` ({SHARED_MODEL}, {SINGLE_MODEL}), one on plan `slow` (the same models,");
    println!(
        "60/min with a burst of {}). The fleet also has {FOREIGN_MODEL}, which neither may use.",
        harness::herdgate::SLOW_BURST
    );

    let mut stage = Stage::new(fleet, herdgate);
    for (name, proxy) in [("HAProxy", Proxy::HaProxy(haproxy)), ("nginx", Proxy::Nginx(nginx))] {
        println!("\n━━━━ through {name} ━━━━");
        stage.play(name, &proxy)?;
        if name == "HAProxy" {
            stage.keep(proxy);
        } else {
            println!("\n{} steps, {} as they should be.", stage.played, stage.played - stage.failed);
            if stay {
                wait_for_interrupt(&stage, &proxy)?;
            }
        }
    }
    Ok(stage.failed)
}

fn wait_for_interrupt(stage: &Stage, nginx: &Proxy) -> Result<(), Fault> {
    println!("\nEverything stays up until Ctrl-C.");
    if let Some(haproxy) = stage.kept() {
        println!("  HAProxy  http://{}", haproxy.address());
    }
    println!("  nginx    http://{}", nginx.address());
    println!("  metrics  http://{}/metrics, /status", stage.herdgate.ports.metrics);
    println!("  key      {}", stage.herdgate.keys.team);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|fault| fault.to_string())?;
    runtime.block_on(tokio::signal::ctrl_c()).map_err(|fault| fault.to_string())
}
