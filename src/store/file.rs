//! Opens the file: as the one who writes it, or as a reader beside.

use super::fault::OpenStoreError;
use super::schema;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// How long to wait for another process that holds SQLite's lock: a reader that just closes, a person's shell.
const BUSY: Duration = Duration::from_secs(1);

/// Largest that the write-ahead log stays after it was written back, in bytes.
const WAL_KEPT: i64 = 16 << 20;

/// Opens the file for writing. A missing one is made with mode 0600, which SQLite gives its other files too.
pub(super) fn writable(path: &Path, vfs: Option<&str>) -> Result<Connection, OpenStoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // SQLite syncs the folder for the files that it makes itself.
        made => made
            .and_then(|_| sync_folder(path))
            .map_err(|error| OpenStoreError::system(path, "it cannot be made", &error))?,
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    };
    let mut connection = opened.map_err(|error| OpenStoreError::of(path, "opening it", &error))?;
    connection.busy_timeout(BUSY).map_err(|error| OpenStoreError::of(path, "opening it", &error))?;
    schema::check_where_made(&connection, path)?;
    let set = |connection: &Connection| {
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
        // What is deleted is overwritten: who is forgotten must not be found in the file.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        Ok(mode)
    };
    let mode = set(&connection).map_err(|error| OpenStoreError::of(path, "opening it", &error))?;
    if mode != "wal" {
        return Err(OpenStoreError::system(path, "its file system cannot share memory", &"keep it on a local disk"));
    }
    schema::prepare(&mut connection, path)?;
    Ok(connection)
}

/// Makes a file's entry in its folder durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Opens the file for reading, even while a daemon writes it.
pub(super) fn readable(path: &Path) -> Result<Connection, OpenStoreError> {
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(OpenStoreError::Absent(path.to_owned())),
        Err(error) => return Err(OpenStoreError::system(path, "opening it", &error)),
    }
    let fault = |error: rusqlite::Error| OpenStoreError::of(path, "opening it", &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(BUSY).map_err(fault)?;
    if schema::is_empty(&connection).map_err(fault)? {
        // It is just being made.
        return Err(OpenStoreError::Absent(path.to_owned()));
    }
    schema::check(&connection, path).map(|()| connection)
}

/// Largest file that is checked as a whole at the start, in bytes: that takes about 3 ms for each MB.
const CHECKED_WHOLE_MAX: u64 = 256 << 20;

/// Returns what is wrong with a file that is to be written, if anything. Of a large one, only what decisions need is
/// looked at: the daemon must not be away for long, and damage among the rows shows when they are written.
pub(super) fn damage_at_start(connection: &Connection, path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(file) if file.len() > CHECKED_WHOLE_MAX => {
            ["open", "spent"].into_iter().find_map(|part| check(connection, part))
        }
        _ => damage(connection),
    }
}

/// Returns what is wrong with the file, if anything (sqlite.org, "PRAGMA quick_check").
pub(super) fn damage(connection: &Connection) -> Option<String> {
    check(connection, "1")
}

fn check(connection: &Connection, part: &str) -> Option<String> {
    // `part` is a table, or the number of faults to tell of all.
    match connection.query_row(&format!("PRAGMA quick_check({part})"), [], |row| row.get::<_, String>(0)) {
        Ok(said) if said == "ok" => None,
        Ok(said) => Some(said.lines().next().unwrap_or_default().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
