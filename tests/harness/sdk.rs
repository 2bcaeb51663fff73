//! The stock Python clients, in the environment that `make tools` made.

use super::{Fault, root};
use std::net::SocketAddr;
use std::process::Command;

/// Runs `tests/sdk/SCRIPT URL KEY MODEL` and returns the JSON object it prints.
pub fn run(script: &str, proxy: SocketAddr, key: &str, model: &str) -> Result<serde_json::Value, Fault> {
    call(script, &[&format!("http://{proxy}"), key, model])
}

/// Runs `tests/sdk/SCRIPT ARGUMENTS` and returns the JSON object it prints.
pub fn call(script: &str, arguments: &[&str]) -> Result<serde_json::Value, Fault> {
    let python = root().join("target/tools/venv/bin/python");
    if !python.exists() {
        return Err(format!("{} is missing: run `make tools`", python.display()));
    }
    let mut command = Command::new(python);
    command.arg(root().join("tests/sdk").join(script)).args(arguments);
    let said = command.output().map_err(|fault| format!("{script}: {fault}"))?;
    if !said.status.success() {
        return Err(format!("{script}: {}\n{}", said.status, String::from_utf8_lossy(&said.stderr)));
    }
    serde_json::from_slice(&said.stdout)
        .map_err(|fault| format!("{script} printed {:?}: {fault}", String::from_utf8_lossy(&said.stdout)))
}
