//! What a store remembers when it is opened: requests in flight, what budgets have spent, what was settled lately.

use super::fault::OpenStoreError;
use super::{Options, file, lock, retention};
use crate::decision::plan::limits::Scope;
use crate::ledger::calendar::Day;
use crate::ledger::reservation::{Evidence, Reservation};
use crate::time::date;
use rusqlite::{Connection, params};
use std::io;
use std::path::{Path, PathBuf};

/// Most requests in flight that are remembered, the newest: as many as the books hold.
pub const OPEN_MAX: usize = crate::ledger::slots::SLOTS_MAX;

/// How long ago a request was settled "lately", in milliseconds: its line may come again for so long.
pub const LATELY_MS: i64 = 2 * 3_600_000;

/// Most of them that are remembered, the newest.
pub const LATELY_MAX: usize = 65_536;

/// What was known when herdgate ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Requests that were in flight, oldest first.
    pub open: Vec<Reservation>,
    /// What each identity was charged on each of the last [`super::SPENT_DAYS`] days: this month and the one before.
    pub spent: Vec<DayCharge>,
    /// Requests settled within [`LATELY_MS`], and how that is known.
    pub settled_lately: Vec<(u128, Evidence)>,
    /// Entries that could not be read and are gone.
    pub unreadable: usize,
    /// Where a damaged file was moved to; it is begun anew then.
    pub moved_to: Option<PathBuf>,
}

/// What one identity was charged on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCharge {
    /// Whose books.
    pub scope: Scope,
    /// The day.
    pub day: Day,
    /// Thousandths of a token.
    pub charge: u64,
}

/// Opens the file and reads it; a damaged one is moved aside where that is wanted.
pub(super) fn open(path: &Path, options: &Options) -> Result<(Connection, Restored), OpenStoreError> {
    match look(path, options) {
        Err(OpenStoreError::Damaged(_, what)) if options.fresh_on_damage => {
            let aside = move_aside(path, options.clock.now().unix_ms)
                .map_err(|error| OpenStoreError::system(path, "moving the damaged file aside", &error))?;
            tracing::error!(file = %path.display(), what, moved_to = %aside.display(), "the ledger was damaged; a fresh one is begun");
            let (connection, restored) = look(path, options)?;
            Ok((connection, Restored { moved_to: Some(aside), ..restored }))
        }
        looked => looked,
    }
}

fn look(path: &Path, options: &Options) -> Result<(Connection, Restored), OpenStoreError> {
    let connection = file::writable(path, options.vfs)?;
    if let Some(what) = file::damage_at_start(&connection, path) {
        return Err(OpenStoreError::Damaged(path.to_owned(), what));
    }
    let restored = read(&connection, options).map_err(|error| OpenStoreError::of(path, "reading it", &error))?;
    Ok((connection, restored))
}

fn read(connection: &Connection, options: &Options) -> rusqlite::Result<Restored> {
    let now_unix_ms = options.clock.now().unix_ms;
    let today = Day(date::day(now_unix_ms, &options.zone));
    let mut restored = Restored::default();
    let mut newest = connection.prepare("SELECT body FROM open ORDER BY opened DESC LIMIT ?1")?;
    let mut rows = newest.query([OPEN_MAX as i64])?;
    while let Some(row) = rows.next()? {
        // One that an older version wrote otherwise. Its slot would end by time; so it is only counted.
        match serde_json::from_str(row.get_ref(0)?.as_str()?) {
            Ok(reservation) => restored.open.push(reservation),
            Err(_) => restored.unreadable = restored.unreadable.saturating_add(1),
        }
    }
    restored.open.reverse();
    let since = today.before(retention::SPENT_DAYS);
    let mut spent = connection.prepare("SELECT scope, day, charge FROM spent WHERE day > ?1 AND charge > 0")?;
    let mut rows = spent.query([since.0])?;
    while let Some(row) = rows.next()? {
        let (scope, charge): ([u8; 16], i64) = (row.get(0)?, row.get(2)?);
        let charge = u64::try_from(charge).unwrap_or(0);
        restored.spent.push(DayCharge { scope: Scope(u128::from_be_bytes(scope)), day: Day(row.get(1)?), charge });
    }
    // By day first, because that has an index.
    let mut lately =
        connection.prepare("SELECT id, evidence FROM record WHERE day >= ?1 AND at >= ?2 ORDER BY at DESC LIMIT ?3")?;
    let since_ms = now_unix_ms.saturating_sub(LATELY_MS);
    let mut rows = lately.query(params![today.before(1).0, since_ms, LATELY_MAX as i64])?;
    while let Some(row) = rows.next()? {
        let id: [u8; 16] = row.get(0)?;
        restored.settled_lately.push((u128::from_be_bytes(id), evidence(row.get(1)?)));
    }
    // The oldest first: so they are forgotten first.
    restored.settled_lately.reverse();
    Ok(restored)
}

/// Returns a class by its number; one that this version does not know is the weakest.
pub(super) fn evidence(number: i64) -> Evidence {
    Evidence::ALL.into_iter().find(|evidence| *evidence as i64 == number).unwrap_or(Evidence::Reserved)
}

/// Moves the file and what belongs to it. Returns its new name.
fn move_aside(path: &Path, now_unix_ms: i64) -> io::Result<PathBuf> {
    let stamp: String = date::format(now_unix_ms).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let mut aside = lock::beside(path, &format!(".damaged-{stamp}"));
    for number in 1_u32.. {
        if !aside.try_exists()? {
            break;
        }
        aside = lock::beside(path, &format!(".damaged-{stamp}-{number}"));
    }
    for part in ["-wal", "-shm", ""] {
        match std::fs::rename(lock::beside(path, part), lock::beside(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
