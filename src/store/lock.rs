//! One writer for one file: a lock on a file beside it, held while the store is open, released by the system whatever
//! ends the process. The file stays: a lock on a removed file excludes nobody.

use super::fault::OpenStoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Takes the lock of the database at `path`.
pub(super) fn take(path: &Path) -> Result<File, OpenStoreError> {
    let beside = beside(path, ".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&beside);
    let file = file.map_err(|error| OpenStoreError::system(path, &format!("opening {}", beside.display()), &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenStoreError::InUse(path.to_owned())),
        Err(error) => Err(OpenStoreError::system(path, &format!("locking {}", beside.display()), &error)),
    }
}

/// Returns a file beside this one: its name with an addition.
pub(super) fn beside(path: &Path, addition: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(addition);
    PathBuf::from(name)
}
