//! One request's life, as the ledger's file has it: what it held, and what it came to.

use crate::config::Config;
use crate::date;
use crate::store::{Found, Row, find};
use serde_json::{Value, json};
use std::io::{self, Write};

/// What the ledger knows of the request with this id, 32 hex digits; `None` also where there is no file that can be read:
/// what else is known of the request is worth telling then.
pub(super) fn life(config: &Config, id: &str) -> Option<Value> {
    let path = config.settings.ledger.path.as_ref()?;
    Some(match find(path, u128::from_str_radix(id, 16).ok()?).ok()?? {
        Found::Open(taken) => json!({
            "state": "open",
            "granted": date::format(taken.opened_unix_ms),
            "reserved": tokens(taken.held()),
            "caller": taken.caller.as_str(),
            "user": taken.user,
            "team": taken.team,
            "model": taken.model,
            "endpoint": taken.endpoint.as_str(),
        }),
        Found::Settled(row) => settled(&row),
    })
}

fn settled(row: &Row) -> Value {
    let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    json!({
        "state": "settled",
        "granted": date::format(row.opened_unix_ms),
        "settled": date::format(row.settled_unix_ms),
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

/// Thousandths of a token as tokens.
fn tokens(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

/// A line for people.
pub(super) fn print(life: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = |member: &str| match &life[member] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        other => other.to_string(),
    };
    let who = format!("{} (user {}), {}, model {}", text("caller"), text("user"), text("endpoint"), text("model"));
    writeln!(out, "granted {} for {who}: held {} tokens", text("granted"), text("reserved"))?;
    if life["state"] == "open" {
        return writeln!(out, "on its way, or its end was not reported yet");
    }
    writeln!(
        out,
        "settled {}: {} in, {} out, charged {} ({}); by {}, status {}, {} ms",
        text("settled"),
        text("tokens_in"),
        text("tokens_out"),
        text("charge"),
        text("evidence"),
        text("server"),
        text("status"),
        text("ms")
    )
}
