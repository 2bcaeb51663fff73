//! `herdgate block` and `unblock`: shuts a key or a user out of the running daemon for a time.

use super::CommandError;
use super::control::Control;
use crate::config::quantity;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Shuts a key or a user out. `asked` is key or user, its name, and how long.
pub(super) fn block(config: &Path, asked: &[String; 3], out: &mut dyn Write) -> Result<(), CommandError> {
    let [kind, name, lasting] = asked;
    let fault = || CommandError::Usage(format!("--for {} is not a duration: write 1h", lasting.escape_debug()));
    let seconds = quantity::duration(lasting).ok_or_else(fault)?.as_secs();
    let command = json!({ "kind": kind, "name": name, "seconds": seconds });
    let said = Control::of(config)?.ask("POST", "/block", command.to_string())?.well()?;
    write!(out, "{said}")?;
    Ok(())
}

pub(super) fn unblock(config: &Path, kind: &str, name: &str, out: &mut dyn Write) -> Result<(), CommandError> {
    let command = json!({ "kind": kind, "name": name });
    let said = Control::of(config)?.ask("POST", "/unblock", command.to_string())?.well()?;
    write!(out, "{said}")?;
    Ok(())
}

pub(super) fn list(config: &Path, json: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let control = Control::of(config)?;
    let answer = control.ask("GET", "/status", String::new())?.well()?;
    let not_ours =
        |error| CommandError::Finding(format!("what answers on {} is no herdgate: {error}", control.address()));
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
