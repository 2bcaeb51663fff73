//! llama-server (llama.cpp) with a small real model, through the loader of the tree that `tests/tools/llama.sh` made.

use crate::harness::fleet::Servers;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::{Fault, client, port, root};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the server calls its model, as Ollama would.
pub const MODEL: &str = "smollm2:135m";

/// The name of a server in the shipped proxy files.
pub const NAME: &str = "ollama1";

/// Longest wait for the model to be loaded.
const LOADING: Duration = Duration::from_secs(30);

/// One llama-server.
#[derive(Debug)]
pub struct Llama {
    /// Where it listens, also while it is stopped.
    pub address: SocketAddr,
    output: PathBuf,
    process: Option<Process>,
}

impl Llama {
    /// Starts it on a free port.
    pub fn new(scratch: &Scratch) -> Result<Llama, Fault> {
        let mut llama = Llama { address: port::free()?, output: scratch.join("llama.log"), process: None };
        llama.start()?;
        Ok(llama)
    }

    /// Starts it, or starts it again at the same address, and waits until it says that the model is loaded.
    pub fn start(&mut self) -> Result<(), Fault> {
        let mut command = command()?;
        command.arg("--model").arg(model());
        command.args(["--alias", MODEL, "--host", &self.address.ip().to_string()]);
        command.args(["--port", &self.address.port().to_string()]);
        // Four requests at once, 1,024 tokens each. One thread: with as many as there are cores they wait for each other
        // whenever another process has a core, and the proxies need one.
        command.args(["--parallel", "4", "--ctx-size", "4096", "--threads", "1", "--cache-ram", "0"]);
        command.args(["--metrics", "--offline"]);
        let mut process = Process::start("llama-server", command, &self.output)?;
        let health = client::Request::get("/health").header("Connection", "close");
        let address = self.address;
        process
            .wait_until_ready(LOADING, |_| client::send(address, &health).is_ok_and(|answer| answer.status == 200))?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it: connections are refused from here on.
    pub fn stop(&mut self) {
        self.process = None;
    }
}

impl Servers for Llama {
    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        vec![(NAME, self.address)]
    }
}

/// Returns the version line.
pub fn version() -> Result<String, Fault> {
    let said = command()?.arg("--version").output().map_err(|fault| format!("llama-server --version: {fault}"))?;
    // It prints this on standard error.
    let printed = [said.stdout, said.stderr].concat();
    Ok(String::from_utf8_lossy(&printed).lines().find(|line| line.contains("version")).unwrap_or_default().to_owned())
}

fn model() -> PathBuf {
    root().join("target/tools/model.gguf")
}

fn command() -> Result<Command, Fault> {
    let tree = root().join("target/tools/llama");
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let program = tree.join("usr/bin/llama-server");
    for file in [&program, &model()] {
        if !file.exists() {
            return Err(format!("{} is missing: run `make demo-real`", file.display()));
        }
    }
    let mut command = Command::new(tree.join("lib64/ld-linux-x86-64.so.2"));
    let mut search = libraries.clone().into_os_string();
    search.push(":");
    search.push(libraries.join("llama"));
    command.arg("--library-path").arg(search).arg(program);
    command.env("GGML_BACKEND_PATH", backend(&libraries));
    Ok(command)
}

/// Returns the arithmetic for this processor. llama.cpp looks for it below `/usr`, where there is none.
fn backend(libraries: &Path) -> PathBuf {
    let haswell = std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("f16c")
        && std::is_x86_feature_detected!("bmi2");
    let name = if haswell { "haswell" } else { "x64" };
    libraries.join(format!("ggml/backends0/libggml-cpu-{name}.so"))
}
