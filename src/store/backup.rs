//! A copy of the file as it is at one moment, taken beside the daemon that writes it.

use super::fault::OpenStoreError;
use super::{file, lock};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Copies the ledger at `path` to `copy`, which must not exist. Returns the copy's size in bytes. It has mode 0600 and
/// was checked. It is written under another name until then, so that a copy that is there is a good one.
///
/// # Errors
/// Where one cannot be read or the other not be written.
pub fn backup(path: &Path, copy: &Path) -> Result<u64, OpenStoreError> {
    let cannot = |doing: &str, said: &dyn std::fmt::Display| OpenStoreError::system(copy, doing, said);
    let source = file::readable(path)?;
    match copy.try_exists() {
        Ok(false) => {}
        Ok(true) => return Err(cannot("not copied", &"the file is there already")),
        Err(error) => return Err(cannot("not copied", &error)),
    }
    let part = lock::beside(copy, ".part");
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
    made.map_err(|error| cannot("making it", &error))?;
    let finished = write(&source, &part).map_err(|what| cannot("copying", &what)).and_then(|()| {
        let named = std::fs::rename(&part, copy).and_then(|()| {
            file::sync_folder(copy)?;
            Ok(std::fs::metadata(copy)?.len())
        });
        named.map_err(|error| cannot("naming it", &error))
    });
    if finished.is_err() {
        // It may never have been made.
        let _ = std::fs::remove_file(&part);
    }
    finished
}

fn write(source: &Connection, part: &Path) -> Result<(), String> {
    let copied = || -> rusqlite::Result<(StepResult, Connection)> {
        let mut target = Connection::open(part)?;
        target.pragma_update(None, "synchronous", "full")?;
        // In one step: it reads one moment's state, and does not begin anew whenever something is written.
        let step = Backup::new(source, &mut target)?.step(-1)?;
        // So that the copy is this one file.
        target.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
        Ok((step, target))
    };
    match copied().map_err(|error| error.to_string())? {
        (StepResult::Done, target) => match file::damage(&target) {
            None => Ok(()),
            Some(what) => Err(format!("the copy is damaged: {what}")),
        },
        _ => Err("the ledger is locked by another process".to_owned()),
    }
}
