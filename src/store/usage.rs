//! Who used what: sums over the rows of the file, read beside the daemon that writes it.

use super::fault::OpenStoreError;
use super::file;
use super::find::positive;
use crate::ledger::calendar::Day;
use crate::ledger::reservation::Evidence;
use rusqlite::{Connection, params_from_iter, types::Value};
use std::path::Path;

/// Most lines of a report; the largest ones are told.
pub const LINES_MAX: usize = 100_000;

/// What the lines of a report are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Keys, issuers of tokens, `anonymous`.
    Key,
    /// The users behind them.
    User,
    /// Teams.
    Team,
    /// Models.
    Model,
    /// Days of the ledger's time zone.
    Day,
    /// Endpoints.
    Endpoint,
    /// Servers.
    Server,
}

impl By {
    fn column(self) -> &'static str {
        match self {
            By::Key => "caller",
            By::User => "user",
            By::Team => "team",
            By::Model => "model",
            By::Day => "day",
            By::Endpoint => "endpoint",
            By::Server => "server",
        }
    }
}

/// Which requests are counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// First day.
    pub since: Option<Day>,
    /// Last day.
    pub until: Option<Day>,
    /// Of this key alone.
    pub key: Option<String>,
    /// Of this user alone.
    pub user: Option<String>,
    /// Of this team alone.
    pub team: Option<String>,
    /// Of this model alone, in canonical form.
    pub model: Option<String>,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRow {
    /// Whose line it is; empty for requests that have none. A day is a number, days since 1970.
    pub of: String,
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
    /// What was charged, in thousandths of a token.
    pub charge: u64,
    /// The same by evidence, in the order of [`Evidence::ALL`].
    pub charge_by: [u64; Evidence::ALL.len()],
}

/// Sums requests by `by`: days in their order, all else by charge, the largest first.
///
/// # Errors
/// Where the file cannot be read.
pub fn report(path: &Path, by: By, of: &Selection) -> Result<Vec<UsageRow>, OpenStoreError> {
    let connection = file::readable(path)?;
    sums(&connection, by, of).map_err(|error| OpenStoreError::of(path, "reading it", &error))
}

fn sums(connection: &Connection, by: By, of: &Selection) -> rusqlite::Result<Vec<UsageRow>> {
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    let day = |day: Option<Day>| day.map(|day| Value::Integer(day.0.into()));
    let conditions = [
        ("day >= ?", day(of.since)),
        ("day <= ?", day(of.until)),
        ("caller = ?", text(&of.key)),
        ("user = ?", text(&of.user)),
        ("team = ?", text(&of.team)),
        ("model = ?", text(&of.model)),
    ];
    let (conditions, values): (Vec<&str>, Vec<Value>) =
        conditions.into_iter().filter_map(|(condition, value)| Some((condition, value?))).unzip();
    let conditions = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let by_evidence: String = Evidence::ALL
        .map(|evidence| format!(", sum(CASE evidence WHEN {} THEN charge ELSE 0 END)", evidence as u8))
        .concat();
    let (column, order) = (by.column(), if by == By::Day { "1" } else { "5 DESC, 2 DESC, 1" });
    let mut query = connection.prepare(&format!(
        "SELECT {column}, count(*), sum(tokens_in), sum(tokens_out), sum(charge){by_evidence}
         FROM record WHERE {conditions} GROUP BY {column} ORDER BY {order} LIMIT {LINES_MAX}"
    ))?;
    let lines = query.query_map(params_from_iter(values), |row| {
        let number = |column| row.get::<_, i64>(column).map(positive);
        let mut charge_by = [0; Evidence::ALL.len()];
        for (position, charge) in charge_by.iter_mut().enumerate() {
            *charge = number(5 + position)?;
        }
        let of = match row.get(0)? {
            Value::Text(text) => text,
            Value::Integer(day) => day.to_string(),
            _ => String::new(),
        };
        let (tokens_in, tokens_out) = (number(2)?, number(3)?);
        Ok(UsageRow { of, requests: number(1)?, tokens_in, tokens_out, charge: number(4)?, charge_by })
    })?;
    lines.collect()
}
