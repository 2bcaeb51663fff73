//! `herdgate block` and `unblock`: shuts a key or a user out of the running daemon for a time.

use super::control::Control;
use super::{Failure, Whom};
use crate::config::quantity;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

pub(super) fn block(config: &Path, whom: &Whom, lasting: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let written = lasting.unwrap_or_default();
    let fault = || Failure::Usage(format!("--for {} is not a duration: write 1h", written.escape_debug()));
    let seconds = quantity::duration(written).ok_or_else(fault)?.as_secs();
    let asked = json!({ "kind": whom.kind, "name": whom.name, "seconds": seconds });
    let said = Control::of(config)?.ask("POST", "/block", asked.to_string())?.well()?;
    write!(out, "{said}")?;
    Ok(())
}

pub(super) fn unblock(config: &Path, whom: &Whom, out: &mut dyn Write) -> Result<(), Failure> {
    let asked = json!({ "kind": whom.kind, "name": whom.name });
    let said = Control::of(config)?.ask("POST", "/unblock", asked.to_string())?.well()?;
    write!(out, "{said}")?;
    Ok(())
}

pub(super) fn list(config: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let control = Control::of(config)?;
    let answer = control.ask("GET", "/status", String::new())?.well()?;
    let not_ours = |error| Failure::Finding(format!("what answers on {} is no herdgate: {error}", control.address()));
    let status: Value = serde_json::from_str(&answer).map_err(not_ours)?;
    if json {
        writeln!(out, "{}", status["blocks"])?;
        return Ok(());
    }
    for block in status["blocks"].as_array().into_iter().flatten() {
        let text = |member: &str| block[member].as_str().unwrap_or_default();
        writeln!(out, "{} {} until {}", text("kind"), text("name"), text("until"))?;
    }
    Ok(())
}
