//! The tables, and which version of them a file has.

use super::fault::OpenStoreError;
use rusqlite::Connection;
use std::path::Path;

/// Says in the file's header that it is ours: "herd".
const APPLICATION: i64 = 0x6865_7264;

/// Version of the tables, kept in `user_version`.
pub(super) const VERSION: i64 = 1;

/// Charges are thousandths of a token, scopes and ids 16 bytes, `day` days since 1970 in the ledger's time zone, `at`
/// and `opened` milliseconds since 1970. `record.id` is no primary key: random keys belong into an index of their own,
/// which is small, and not among the rows.
const TABLES: &str = "
CREATE TABLE open (id BLOB PRIMARY KEY, opened INTEGER NOT NULL, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE record (
    id BLOB NOT NULL UNIQUE, at INTEGER NOT NULL, day INTEGER NOT NULL, opened INTEGER NOT NULL,
    caller TEXT NOT NULL, user TEXT NOT NULL, team TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL, server TEXT NOT NULL, evidence INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL, charge INTEGER NOT NULL, reserved INTEGER NOT NULL, status INTEGER, ms INTEGER,
    scopes BLOB NOT NULL
) STRICT;
CREATE INDEX record_by_day ON record (day);
CREATE TABLE spent (
    scope BLOB NOT NULL, day INTEGER NOT NULL, charge INTEGER NOT NULL, PRIMARY KEY (scope, day)
) STRICT, WITHOUT ROWID;
";

/// Makes the tables where there are none; refuses a file that is not ours, or newer than this version.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenStoreError> {
    let fault = |error: rusqlite::Error| OpenStoreError::of(path, "reading its header", &error);
    // Two that make it at once: one waits, and finds it made.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault)?;
    if is_empty(&transaction).map_err(fault)? {
        transaction.execute_batch(TABLES).map_err(fault)?;
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(fault)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(fault)?;
        return transaction.commit().map_err(|error| OpenStoreError::of(path, "making its tables", &error));
    }
    check(&transaction, path)
}

/// Refuses a file that has tables which are not ours. Changes nothing: it may be somebody else's.
pub(super) fn check_where_made(connection: &Connection, path: &Path) -> Result<(), OpenStoreError> {
    let empty = is_empty(connection).map_err(|error| OpenStoreError::of(path, "reading its header", &error))?;
    if empty { Ok(()) } else { check(connection, path) }
}

/// Refuses a file that is not ours, or newer than this version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), OpenStoreError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let fault = |error: rusqlite::Error| OpenStoreError::of(path, "reading its header", &error);
    if number("application_id").map_err(fault)? != APPLICATION {
        return Err(OpenStoreError::Foreign(path.to_owned()));
    }
    match number("user_version").map_err(fault)? {
        VERSION => Ok(()),
        newer if newer > VERSION => Err(OpenStoreError::Newer(path.to_owned(), newer)),
        other => Err(OpenStoreError::Damaged(path.to_owned(), format!("its schema has version {other}"))),
    }
}

/// Returns whether it has no tables at all.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}
