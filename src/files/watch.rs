//! Notices that a file changed, by looking.
//!
//! inotify would be quicker and less certain: it sees nothing on network file systems and in some container mounts, and
//! watches the file that was there rather than the one renamed into its place.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is looked at again and again.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    seen: Option<Stamp>,
    acted: Option<Stamp>,
}

/// Properties by which two states of a file differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    mode: u32,
}

impl FileWatch {
    /// Returns a watch on the file as it is now. To be called before the file is first read, so that a change in between shows.
    pub fn new(path: &Path) -> FileWatch {
        let now = Stamp::of(path);
        FileWatch { path: path.to_owned(), seen: now, acted: now }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file once. Returns true when it changed (or appeared, or vanished) and has not changed since the look before,
    /// so that a writer that writes in place has time to finish.
    pub fn look(&mut self) -> bool {
        let now = Stamp::of(&self.path);
        let due = now == self.seen && now != self.acted;
        self.seen = now;
        if due {
            self.acted = now;
        }
        due
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
        })
    }
}
