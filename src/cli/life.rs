//! One request's life, as the ledger's file has it: what it reserved, and what it was charged.

use crate::config::Config;
use crate::store::{OpenStoreError, Row, StoredLife, find};
use crate::time::date;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Returns what the ledger knows of the request with this id, 32 hex digits; `None` also where there is no file.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn life(config: &Config, id: &str) -> Result<Option<Value>, OpenStoreError> {
    let (Some(path), Ok(id)) = (&config.settings.ledger.path, u128::from_str_radix(id, 16)) else { return Ok(None) };
    let found = match find(path, id) {
        Err(OpenStoreError::Absent(_)) => None,
        found => found?,
    };
    Ok(found.map(|found| match found {
        StoredLife::Open(taken) => json!({
            "state": "open",
            "granted": date::format(taken.opened_unix_ms),
            "reserved": tokens(taken.reserved()),
            "tokens_in": taken.tokens.prompt,
            "tokens_out": taken.tokens.output,
            "caller": taken.caller.as_str(),
            "user": taken.user,
            "team": taken.team,
            "model": taken.model,
            "endpoint": taken.endpoint.as_str(),
        }),
        StoredLife::Settled(row) => settled(&row),
    }))
}

fn settled(row: &Row) -> Value {
    let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    json!({
        "state": "settled",
        "granted": date::format(row.opened_unix_ms),
        "settled": date::format(row.settled_unix_ms),
        "day": date::format_day(row.day.0),
        "reserved": tokens(row.reserved),
        "charge": tokens(row.charge),
        "evidence": row.evidence.as_str(),
        "tokens_in": row.tokens_in,
        "tokens_out": row.tokens_out,
        "caller": row.caller,
        "user": named(&row.user),
        "team": named(&row.team),
        "model": named(&row.model),
        "endpoint": row.endpoint,
        "server": named(&row.server),
        "status": row.status,
        "ms": row.ms,
    })
}

/// Returns thousandths of a token as tokens.
fn tokens(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

/// Prints a line for people.
pub(super) fn print(life: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = |member: &str| match &life[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        other => other.to_string(),
    };
    let who = format!("{} (user {}), {}, model {}", text("caller"), text("user"), text("endpoint"), text("model"));
    writeln!(out, "granted {} for {who}: reserved {} tokens", text("granted"), text("reserved"))?;
    if life["state"] == "open" {
        return writeln!(out, "in flight, or its end was not reported yet");
    }
    writeln!(
        out,
        "settled {}: {} in, {} out, charged {} ({}), in the budgets of {}; by {}, status {}, {} ms",
        text("settled"),
        text("tokens_in"),
        text("tokens_out"),
        text("charge"),
        text("evidence"),
        text("day"),
        text("server"),
        text("status"),
        text("ms")
    )
}
