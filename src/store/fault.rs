//! What can be wrong with the file: when it is opened, and while it is written.

use crate::metrics::ledger_file::LedgerFileError;
use rusqlite::ErrorCode;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a file was not opened. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process has it.
    #[error("the ledger {} is in use by another herdgate; stop it, or give each its own [ledger] path", .0.display())]
    InUse(PathBuf),
    /// It is no file of ours.
    #[error("{} is a database, but not herdgate's ledger; name another file in [ledger] path", .0.display())]
    Foreign(PathBuf),
    /// It was written by a version that knows more than this one.
    #[error("the ledger {} was written by a newer herdgate (schema {}); run that one, or restore a backup of before", .0.display(), .1)]
    Newer(PathBuf, i64),
    /// It does not hold together.
    #[error("the ledger {} is damaged ({}); restore a backup, or set [ledger] on_damage = \"fresh\", which moves it aside and \
        begins anew", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// It is not there.
    #[error("there is no ledger {}; the daemon makes it", .0.display())]
    Absent(PathBuf),
    /// The system, or SQLite, refused something.
    #[error("the ledger {}: {what}", .path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was being done, and what was said.
        what: String,
    },
}

impl OpenStoreError {
    pub(super) fn system(path: &Path, doing: &str, said: &dyn fmt::Display) -> OpenStoreError {
        OpenStoreError::System { path: path.to_owned(), what: format!("{doing}: {said}") }
    }

    /// Returns what SQLite said while the file was opened or read.
    pub(super) fn of(path: &Path, doing: &str, error: &rusqlite::Error) -> OpenStoreError {
        // Our statements are sound: one that SQLite takes for wrong does not fit what the file says of itself.
        let does_not_fit = error.sqlite_error_code() == Some(ErrorCode::Unknown);
        match LedgerFileError::of(error) {
            _ if does_not_fit => OpenStoreError::Damaged(path.to_owned(), format!("{doing}: {error}")),
            LedgerFileError::Damaged => OpenStoreError::Damaged(path.to_owned(), format!("{doing}: {error}")),
            _ => OpenStoreError::system(path, doing, error),
        }
    }
}

impl LedgerFileError {
    /// Returns SQLite's result code (sqlite.org/rescode.html) as one of these.
    pub(super) fn of(error: &rusqlite::Error) -> LedgerFileError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerFileError::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => LedgerFileError::Io,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                LedgerFileError::Busy
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerFileError::Damaged,
            _ => LedgerFileError::Other,
        }
    }
}
