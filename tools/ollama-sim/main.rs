//! A simulated Ollama server with counters of its own; see README.md beside this file.
// A refusal is a whole answer, made once a request and handed straight out; boxing it would only hide that.
#![allow(clippy::result_large_err)]

mod admin;
mod anthropic_script;
mod catalog;
mod control;
mod duration;
mod embedding;
mod faults;
mod fields;
mod generation;
mod hosts;
mod inference;
mod json;
mod name;
mod native_script;
mod openai_script;
mod origins;
mod reply;
mod responses_script;
mod router;
mod scheduler;
mod server;
mod settings;
mod shapes;
mod sim;
mod stats;
mod store;
mod timestamp;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let settings = settings::Settings::parse();
    let sim = match sim::Sim::new(settings) {
        Ok(sim) => Arc::new(sim),
        Err(error) => {
            eprintln!("ollama-sim: {error}");
            return ExitCode::from(2);
        }
    };
    // JSON may nest 10,000 deep, and dropping such a value recurses.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(16 << 20).build();
    match runtime.map(|runtime| runtime.block_on(async { tokio::spawn(run(sim)).await })) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(error))) | Err(error) => {
            eprintln!("ollama-sim: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(error)) => {
            eprintln!("ollama-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
async fn run(sim: Arc<sim::Sim>) -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = tokio::net::TcpListener::bind(sim.settings.listen).await?;
    let mut out = std::io::stdout();
    writeln!(out, "listening {}", listener.local_addr()?)?;
    out.flush()?;
    tokio::select! {
        () = server::serve(sim, listener) => {}
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
