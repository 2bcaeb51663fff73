//! Removes what is too old, in small parts, so that writing never waits long for it.

use crate::ledger::calendar::Day;
use rusqlite::{Connection, params};

/// Days that the charges of each day are kept: a month and the one before.
pub const SPENT_DAYS: u32 = 62;

/// Most rows removed at once.
const PART: i64 = 2_000;

/// How far the removal has come.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// The day for which nothing is left to remove.
    done_for: Option<Day>,
}

impl Retention {
    /// Removes a part of what is older than `keep_days` (records), or [`SPENT_DAYS`].
    pub(super) fn step(&mut self, connection: &Connection, today: Day, keep_days: u32) -> rusqlite::Result<()> {
        if self.done_for == Some(today) {
            return Ok(());
        }
        // Rows follow a clock that is doubted when it jumps; this one is not, and what it removes is gone.
        let written: Option<i32> =
            connection.prepare_cached("SELECT max(day) FROM record")?.query_row([], |row| row.get(0))?;
        let Some(written) = written else { return Ok(()) };
        let today = today.min(Day(written));
        let first_kept = today.before(keep_days);
        let removed = connection
            .prepare_cached("DELETE FROM record WHERE rowid IN (SELECT rowid FROM record WHERE day < ?1 LIMIT ?2)")?
            .execute(params![first_kept.0, PART])?;
        let last_gone = today.before(SPENT_DAYS);
        let spent = connection
            .prepare_cached(
                "DELETE FROM spent WHERE (scope, day) IN (SELECT scope, day FROM spent WHERE day <= ?1 LIMIT ?2)",
            )?
            .execute(params![last_gone.0, PART])?;
        if removed == 0 && spent == 0 {
            self.done_for = Some(today);
        }
        Ok(())
    }
}
