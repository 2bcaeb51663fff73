//! What is known of one request: that it is in flight, or what it used.

use super::apply::key;
use super::fault::OpenStoreError;
use super::{file, restore};
use crate::ledger::calendar::Day;
use crate::ledger::reservation::{Evidence, Reservation};
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use std::path::Path;

/// A request, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredLife {
    /// The request is in flight, or its line was lost.
    Open(Box<Reservation>),
    /// The request has ended.
    Settled(Box<Row>),
}

/// What a request used and was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// When it was granted, in milliseconds since 1970.
    pub opened_unix_ms: i64,
    /// When it was first settled, in milliseconds since 1970.
    pub settled_unix_ms: i64,
    /// The day in whose budget it counts.
    pub day: Day,
    /// The key's name, the issuer, or `anonymous`.
    pub caller: String,
    /// The user behind it; empty where there is none, or it was forgotten.
    pub user: String,
    /// The team; empty where there is none.
    pub team: String,
    /// The model; empty where the body is hidden.
    pub model: String,
    /// The endpoint.
    pub endpoint: String,
    /// Whether the answer streamed.
    pub stream: bool,
    /// The server that was really used; empty where none was.
    pub server: String,
    /// How the figures are known.
    pub evidence: Evidence,
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
    /// What it was charged, in thousandths of a token.
    pub charge: u64,
    /// What was reserved for it, in thousandths of a token.
    pub reserved: u64,
    /// The answer's status.
    pub status: Option<u16>,
    /// Milliseconds it took.
    pub ms: Option<u64>,
}

/// Returns what is known of a request, from a file that a daemon may be writing. Reads the disk, so not for where
/// decisions are taken.
///
/// # Errors
/// Where the file cannot be read.
pub fn find(path: &Path, id: u128) -> Result<Option<StoredLife>, OpenStoreError> {
    let connection = file::readable(path)?;
    look(&connection, id).map_err(|error| OpenStoreError::of(path, "looking for a request", &error))
}

fn look(connection: &Connection, id: u128) -> rusqlite::Result<Option<StoredLife>> {
    let row = connection.query_row(
        "SELECT opened, at, day, caller, user, team, model, endpoint, stream, server, evidence, tokens_in, tokens_out,
         charge, reserved, status, ms FROM record WHERE id = ?1",
        [key(id)],
        |row| {
            Ok(Row {
                opened_unix_ms: row.get(0)?,
                settled_unix_ms: row.get(1)?,
                day: Day(row.get(2)?),
                caller: row.get(3)?,
                user: row.get(4)?,
                team: row.get(5)?,
                model: row.get(6)?,
                endpoint: row.get(7)?,
                stream: row.get(8)?,
                server: row.get(9)?,
                evidence: restore::evidence(row.get(10)?),
                tokens_in: positive(row.get(11)?),
                tokens_out: positive(row.get(12)?),
                charge: positive(row.get(13)?),
                reserved: positive(row.get(14)?),
                status: row.get(15)?,
                ms: row.get::<_, Option<i64>>(16)?.map(positive),
            })
        },
    );
    if let Some(row) = row.optional()? {
        return Ok(Some(StoredLife::Settled(Box::new(row))));
    }
    let body: Option<String> =
        connection.query_row("SELECT body FROM open WHERE id = ?1", [key(id)], |row| row.get(0)).optional()?;
    Ok(body
        .and_then(|body| serde_json::from_str(&body).ok())
        .map(|reservation| StoredLife::Open(Box::new(reservation))))
}

pub(super) fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
