//! Where keys come from: the key file, and the pepper its newer digests are keyed with.

use crate::decision::caller::keyset::{Digest, Pepper};
use crate::files::problem::Problems;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Shortest pepper, in bytes.
pub const PEPPER_MIN: usize = 32;

/// Longest pepper, in bytes.
pub const PEPPER_MAX: usize = 1024;

/// The key file and how it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The file, `keys.toml`.
    pub path: PathBuf,
    /// Whether group and others may read it. Nobody but its owner may ever write it.
    pub allow_readable: bool,
    /// The file that holds the pepper.
    pub pepper_file: Option<PathBuf>,
}

impl KeyFile {
    /// Makes a key file for its owner alone, without a pepper.
    pub fn new(path: &Path) -> KeyFile {
        KeyFile { path: path.to_owned(), allow_readable: false, pepper_file: None }
    }

    /// Opens the file and makes sure that others have no more than they may. `None` where there is no file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(&self) -> Result<Option<File>, Problems> {
        // Digests of imported secrets could be guessed at by whoever reads them, and whoever writes them is a caller.
        let forbidden = if self.allow_readable { 0o033 } else { 0o077 };
        open(&self.path, forbidden)
    }

    /// Reads the pepper; `None` where none is configured. It is read anew each time, so that it is not kept for long.
    ///
    /// # Errors
    /// What is wrong with its file; that there is none is wrong too.
    pub fn pepper(&self) -> Result<Option<Pepper>, Problems> {
        let Some(path) = &self.pepper_file else { return Ok(None) };
        let fail = |what: String, hint| Problems::whole_file(&path.display().to_string(), what, hint);
        let make = "make it with: head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE";
        let Some(file) = open(path, 0o077)? else { return Err(fail("there is no such file".to_owned(), Some(make))) };
        // With room for all of it, so that it is not moved and left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(PEPPER_MAX + 1));
        let read = file.take(PEPPER_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|fault| fail(format!("cannot be read: {fault}"), None))?;
        let pepper = bytes.trim_ascii_end();
        if !(PEPPER_MIN..=PEPPER_MAX).contains(&pepper.len()) {
            let what = format!("holds {} bytes; a pepper has {PEPPER_MIN} to {PEPPER_MAX}", pepper.len());
            return Err(fail(what, Some(make)));
        }
        Ok(Some(Pepper::new(pepper)))
    }

    /// Returns what is kept of a new secret, and whether it is keyed with the pepper.
    ///
    /// # Errors
    /// What is wrong with the pepper's file.
    pub fn digest(&self, secret: &[u8]) -> Result<(Digest, bool), Problems> {
        Ok(match self.pepper()? {
            Some(pepper) => (pepper.digest(secret), true),
            None => (Digest::of(secret), false),
        })
    }
}

/// Opens a file of which group and others have none of the `forbidden` permissions.
fn open(path: &Path, forbidden: u32) -> Result<Option<File>, Problems> {
    let fail = |what: String, hint| Problems::whole_file(&path.display().to_string(), what, hint);
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => {
            let hint = "it must belong to the user herdgate runs as";
            return Err(fail(format!("cannot be read: {fault}"), Some(hint)));
        }
    };
    if !metadata.is_file() {
        return Err(fail("is not a file".to_owned(), None));
    }
    if metadata.mode() & forbidden != 0 {
        let what = format!("is open to group or others (mode {:04o})", metadata.mode() & 0o7777);
        return Err(fail(what, Some("chmod 600 on it, owned by the user herdgate runs as")));
    }
    Ok(Some(file))
}
