//! `herdgate status`: asks the running daemon how it is, over the control socket.

use super::CommandError;
use super::check::count;
use super::control::Control;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Prints the daemon's state; with `watch`, again every second.
pub(super) fn run(config: &Path, json: bool, watch: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let control = Control::of(config)?;
    loop {
        let answer = control.ask("GET", "/status", String::new())?.well()?;
        if json {
            writeln!(out, "{}", answer.trim_end())?;
        } else {
            let status: Value = serde_json::from_str(&answer).map_err(|error| {
                CommandError::Finding(format!("what answers on {} is no herdgate: {error}", control.address()))
            })?;
            print(&status, out)?;
        }
        out.flush()?;
        if !watch {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Prints a page for people: one line a fact, one line a server.
fn print(status: &Value, out: &mut dyn Write) -> Result<(), CommandError> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(
        out,
        "herdgate {}, up {} s, {}, {}",
        text(&status["version"]),
        text(&status["uptime_s"]),
        count(usize::try_from(status["keys"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX), "key"),
        count(status["plans"].as_array().map_or(0, Vec::len), "plan")
    )?;
    for server in status["servers"].as_array().into_iter().flatten() {
        let models = server["models"].as_array().map_or(0, Vec::len);
        let loaded = server["loaded"].as_array().map_or(0, Vec::len);
        let (name, state) = (text(&server["name"]), text(&server["state"]));
        write!(out, "  {name:<20} {state:<9} {}, {loaded} loaded", count(models, "model"))?;
        match &server["failure"] {
            Value::Null => writeln!(out)?,
            failure => writeln!(out, "  {}", text(&failure["kind"]))?,
        }
    }
    for block in status["blocks"].as_array().into_iter().flatten() {
        let (kind, name, until) = (text(&block["kind"]), text(&block["name"]), text(&block["until"]));
        writeln!(out, "  blocked: {kind} {name}, until {until}")?;
    }
    for issuer in status["issuers"].as_array().into_iter().flatten() {
        let keys = count(usize::try_from(issuer["keys"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX), "key");
        write!(out, "  {:<29} {keys}", text(&issuer["issuer"]))?;
        if let Some(age) = issuer["age_s"].as_u64() {
            write!(out, ", {age} s old")?;
        }
        match &issuer["failure"] {
            Value::Null => writeln!(out)?,
            failure => writeln!(out, "  {}", text(failure))?,
        }
    }
    Ok(())
}
