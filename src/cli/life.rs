//! What became of a request, as the ledger's file has it: on its way with what it holds, or settled.

use super::Failure;
use crate::config::settings::LedgerSettings;
use crate::date;
use crate::ledger::reservation::Reservation;
use crate::store::{Found, Row, StoreFault, find};
use serde_json::{Value, json};
use std::io::Write;

/// Looks a request up. `None` where the file has nothing of it, or there is no file.
pub(super) fn of(ledger: &LedgerSettings, id: u128) -> Result<Option<Found>, StoreFault> {
    let Some(path) = &ledger.path else { return Ok(None) };
    match find(path, id) {
        Err(StoreFault::Absent(_)) => Ok(None),
        found => found,
    }
}

/// For scripts. Amounts are tokens, weighted by the model's cost; times are RFC 3339, and `day` is one of the ledger's time
/// zone.
pub(super) fn as_json(found: &Found) -> Value {
    let or_null = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match found {
        Found::Open(held) => json!({
            "state": "open", "opened": date::format(held.opened_unix_ms), "reserved": tokens(held.held()),
            "tokens_in": held.tokens_in, "tokens_out": held.tokens_out, "caller": held.caller.as_str(),
            "user": held.user.as_deref(), "team": held.team.as_deref(),
            "model": held.model.as_ref().map(|model| model.as_str()), "endpoint": held.endpoint.as_str(),
            "stream": held.stream,
        }),
        Found::Settled(row) => json!({
            "state": "settled", "opened": date::format(row.opened_unix_ms), "settled": date::format(row.settled_unix_ms),
            "day": date::format_day(row.day), "evidence": row.evidence.as_str(), "tokens_in": row.tokens_in,
            "tokens_out": row.tokens_out, "charge": tokens(row.charge), "reserved": tokens(row.reserved),
            "server": or_null(&row.server), "status": row.status, "ms": row.ms, "caller": row.caller,
            "user": or_null(&row.user), "team": or_null(&row.team), "model": or_null(&row.model),
            "endpoint": row.endpoint, "stream": row.stream,
        }),
    }
}

/// For people. `whole` where nothing else is told of the request.
pub(super) fn print(found: &Found, whole: bool, out: &mut dyn Write) -> Result<(), Failure> {
    match found {
        Found::Open(held) => {
            let Reservation { tokens_in, tokens_out, .. } = **held;
            if whole {
                let model = held.model.as_ref().map_or("", |model| model.as_str());
                let asked = (held.endpoint.as_str(), model, held.stream);
                print_whose(held.caller.as_str(), held.user.as_deref(), held.team.as_deref(), asked, out)?;
            }
            writeln!(
                out,
                "not settled: granted at {}, it holds {} tokens ({tokens_in} of its prompt, {tokens_out} of output)",
                date::format(held.opened_unix_ms),
                tokens(held.held())
            )?;
        }
        Found::Settled(row) => {
            let Row { tokens_in, tokens_out, evidence, .. } = **row;
            if whole {
                let asked = (row.endpoint.as_str(), row.model.as_str(), row.stream);
                print_whose(&row.caller, Some(&row.user), Some(&row.team), asked, out)?;
            }
            let server =
                if row.server.is_empty() { "no server".to_owned() } else { row.server.escape_debug().to_string() };
            let status = row.status.map_or("no status".to_owned(), |status| format!("status {status}"));
            let ms = row.ms.map_or(String::new(), |ms| format!(", {ms} ms"));
            writeln!(out, "served by {server}: {status}{ms}")?;
            writeln!(
                out,
                "settled at {} ({}): {tokens_in} tokens in, {tokens_out} out",
                date::format(row.settled_unix_ms),
                evidence.as_str(),
            )?;
            writeln!(
                out,
                "charged {} tokens of the {} it held, in the budgets of {}",
                tokens(row.charge),
                tokens(row.reserved),
                date::format_day(row.day)
            )?;
        }
    }
    Ok(())
}

/// Who asked for what. Names of users are written by clients.
fn print_whose(
    caller: &str,
    user: Option<&str>,
    team: Option<&str>,
    (endpoint, model, stream): (&str, &str, bool),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let named = |what: &str, name: Option<&str>| {
        name.filter(|name| !name.is_empty())
            .map_or(String::new(), |name| format!(", {what} \"{}\"", name.escape_debug()))
    };
    let model = if model.is_empty() { String::new() } else { format!(" of {}", model.escape_debug()) };
    let stream = if stream { ", streamed" } else { "" };
    let (caller, user, team) = (caller.escape_debug(), named("user", user), named("team", team));
    Ok(writeln!(out, "\"{caller}\"{user}{team}: endpoint {endpoint}{model}{stream}")?)
}

/// Thousandths of a token as tokens.
fn tokens(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}
