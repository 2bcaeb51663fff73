//! Changes `keys.toml`: one writer at a time, and a reader sees the old file or the new one, never a part.
//!
//! Scheme. The writer holds a lock on `keys.toml.lock` beside the file (never removed: a lock on a removed file excludes
//! nobody). It reads the file, refuses to touch one with problems, edits the text so that comments and order stay, writes
//! the result to a new file of the same mode (0600 at first) in the same folder, syncs it, renames it over the old one, and syncs the folder.

use super::file::{self, KeyEntry, Raise};
use super::source::KeyFile;
use crate::decision::caller::keyset::Digest;
use crate::files::problem::Problems;
use crate::time::date;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyWriteError {
    /// The file as it is has problems.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The system refused.
    #[error("{}: {_1}", _0.display())]
    Io(PathBuf, #[source] io::Error),
    /// The change makes no sense on this file.
    #[error("{0}")]
    Refused(String),
}

/// Adds keys at the end of the file, all or none.
///
/// # Errors
/// Also where a name or digest is there already.
pub fn append(key_file: &KeyFile, new: &[KeyEntry]) -> Result<(), KeyWriteError> {
    change(key_file, |text, entries| {
        let mut names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let mut digests: HashSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
        for entry in new {
            if !names.insert(&entry.name) {
                return Err(KeyWriteError::Refused(format!("there is already a key named \"{}\"", entry.name)));
            }
            if !digests.insert(entry.digest) {
                return Err(KeyWriteError::Refused(format!("the secret of \"{}\" is there already", entry.name)));
            }
        }
        let mut text = text.to_owned();
        for entry in new {
            if !text.is_empty() {
                text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
            }
            text.push_str(&block(entry));
        }
        Ok(Some(text))
    })
}

/// Marks every key of this name revoked. Returns how many were not before.
///
/// # Errors
/// Also where there is no key of this name.
pub fn revoke(key_file: &KeyFile, name: &str, now_unix_ms: i64) -> Result<usize, KeyWriteError> {
    let mut revoked = 0;
    change(key_file, |text, entries| {
        if !entries.iter().any(|entry| entry.name == name) {
            return Err(KeyWriteError::Refused(format!("there is no key named \"{}\"", name.escape_debug())));
        }
        let live = entries.iter().filter(|entry| entry.name == name && entry.revoked_unix_ms.is_none());
        let after: Vec<usize> = live.map(|entry| entry.line).collect();
        revoked = after.len();
        if after.is_empty() {
            return Ok(None);
        }
        let line = format!("revoked = {}\n", date::format(now_unix_ms));
        let edited = edit(text, |number| if after.contains(&number) { Edit::After(&line) } else { Edit::Keep });
        Ok(Some(edited))
    })?;
    Ok(revoked)
}

/// Gives a key another secret: those before end after `grace_ms` at the latest (0: now, for good), and the entry that
/// `make` makes after the newest of them is added.
///
/// # Errors
/// Also where the key has no secret that is not revoked.
pub fn rotate(
    key_file: &KeyFile,
    name: &str,
    now_unix_ms: i64,
    grace_ms: i64,
    make: impl FnOnce(&KeyEntry) -> KeyEntry,
) -> Result<(), KeyWriteError> {
    change(key_file, |text, entries| {
        // One that has expired may be given new life; one that was revoked may not.
        let of_name = |entry: &&KeyEntry| entry.name == name && entry.revoked_unix_ms.is_none();
        let live: Vec<&KeyEntry> = entries.iter().filter(of_name).collect();
        let Some(newest) = live.iter().max_by_key(|entry| entry.created_unix_ms) else {
            return Err(no_live_key(name));
        };
        let new = make(newest);
        if entries.iter().any(|entry| entry.digest == new.digest) {
            return Err(KeyWriteError::Refused("the new secret is there already".to_owned()));
        }
        let until = now_unix_ms.saturating_add(grace_ms);
        let ending: Vec<&&KeyEntry> =
            live.iter().filter(|entry| entry.ends_unix_ms().is_none_or(|ends| ends > until)).collect();
        let line = match grace_ms {
            0 => format!("revoked = {}\n", date::format(now_unix_ms)),
            _ => format!("retires = {}\n", date::format(until)),
        };
        let mut text = edit(text, |number| {
            if grace_ms > 0 && ending.iter().any(|entry| entry.retires_line == number) {
                Edit::Instead(&line)
            } else if ending.iter().any(|entry| entry.line == number && (grace_ms == 0 || entry.retires_line == 0)) {
                Edit::After(&line)
            } else {
                Edit::Keep
            }
        });
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        text.push_str(&block(&new));
        Ok(Some(text))
    })
}

/// Lifts a key to the limits of another plan for a time, or puts it back to its own. Returns whether it was raised before.
///
/// # Errors
/// Also where the key has no secret that is not revoked, or is on that plan itself.
pub fn raise(key_file: &KeyFile, name: &str, to: Option<&Raise>) -> Result<bool, KeyWriteError> {
    let mut was_raised = false;
    change(key_file, |text, entries| {
        let live: Vec<&KeyEntry> =
            entries.iter().filter(|entry| entry.name == name && entry.revoked_unix_ms.is_none()).collect();
        let Some(first) = live.first() else { return Err(no_live_key(name)) };
        if to.is_some_and(|to| to.plan == first.terms.plan) {
            let plan = &first.terms.plan;
            return Err(KeyWriteError::Refused(format!("the key \"{name}\" is on plan \"{plan}\" itself")));
        }
        was_raised = live.iter().any(|entry| entry.raised.is_some());
        if to.is_none() && !was_raised {
            return Ok(None);
        }
        let lines = to.map_or(String::new(), raise_lines);
        // The members of a table may stand in any order: the old ones go, the new ones come first.
        let edited = edit(text, |number| {
            if live.iter().any(|entry| entry.line == number) {
                Edit::After(&lines)
            } else if live.iter().any(|entry| entry.raised_lines.contains(&number)) {
                Edit::Instead("")
            } else {
                Edit::Keep
            }
        });
        Ok(Some(edited))
    })?;
    Ok(was_raised)
}

fn raise_lines(raise: &Raise) -> String {
    format!("raised_plan = \"{}\"\nraised_until = {}\n", raise.plan, date::format(raise.until_unix_ms))
}

fn no_live_key(name: &str) -> KeyWriteError {
    KeyWriteError::Refused(format!("there is no key named \"{}\" that is not revoked", name.escape_debug()))
}

/// What becomes of a line.
enum Edit<'e> {
    Keep,
    /// Followed by this one.
    After(&'e str),
    /// Replaced by this one.
    Instead(&'e str),
}

fn edit<'e>(text: &str, mut edit: impl FnMut(usize) -> Edit<'e>) -> String {
    let mut edited = String::with_capacity(text.len().saturating_add(64));
    for (number, line) in (1_usize..).zip(text.split_inclusive('\n')) {
        match edit(number) {
            Edit::Keep => edited.push_str(line),
            Edit::Instead(other) => edited.push_str(other),
            Edit::After(next) => {
                edited.push_str(line);
                if !line.ends_with('\n') {
                    edited.push('\n');
                }
                edited.push_str(next);
            }
        }
    }
    edited
}

/// Writes a `[[key]]` table as it stands in the file.
fn block(entry: &KeyEntry) -> String {
    let mut text = format!("[[key]]\nname = \"{}\"\nplan = \"{}\"\n", entry.name, entry.terms.plan);
    let file::KeyTerms { plan: _, team, on_behalf_of, user_plan } = &entry.terms;
    for (member, value) in [("team", team), ("on_behalf_of", on_behalf_of), ("user_plan", user_plan)] {
        if let Some(value) = value {
            text.push_str(&format!("{member} = \"{value}\"\n"));
        }
    }
    let digest = hex::encode(entry.digest.0);
    let form = if entry.peppered { "hmac_sha256" } else { "sha256" };
    text.push_str(&format!("{form} = \"{digest}\"\ncreated = {}\n", date::format(entry.created_unix_ms)));
    if entry.weak {
        text.push_str("weak = true\n");
    }
    for (member, at) in [("not_before", entry.not_before_unix_ms), ("expires", entry.expires_unix_ms)] {
        if let Some(at) = at {
            text.push_str(&format!("{member} = {}\n", date::format(at)));
        }
    }
    text + &entry.raised.as_ref().map_or(String::new(), raise_lines)
}

/// Runs `change` on the file's text and entries and puts what it answers in the file's place.
fn change(
    key_file: &KeyFile,
    change: impl FnOnce(&str, &[KeyEntry]) -> Result<Option<String>, KeyWriteError>,
) -> Result<(), KeyWriteError> {
    // Through a symbolic link the file it points at is replaced, not the link.
    let path = std::fs::canonicalize(&key_file.path).unwrap_or_else(|_| key_file.path.clone());
    let io_fault = |at: &Path| {
        let at = at.to_owned();
        move |fault| KeyWriteError::Io(at, fault)
    };
    let lock_path = beside(&path, "lock");
    let lock = owner_only().create(true).write(true).truncate(false).open(&lock_path).map_err(io_fault(&lock_path))?;
    lock.lock().map_err(io_fault(&lock_path))?;
    let entries = file::entries(key_file)?;
    let mut text = String::new();
    let mut owner = None;
    match File::open(&path) {
        Ok(mut old) => {
            let metadata = old.metadata().map_err(io_fault(&path))?;
            owner = Some((metadata.uid(), metadata.gid(), metadata.mode()));
            old.read_to_string(&mut text).map_err(io_fault(&path))?;
        }
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {}
        Err(fault) => return Err(io_fault(&path)(fault)),
    }
    let Some(edited) = change(&text, &entries)? else { return Ok(()) };
    // What is written must be what is meant, whatever the file looked like.
    file::read(edited.as_bytes(), &path.display().to_string(), |_| Ok(()))?;
    let new_path = beside(&path, "new");
    replace(&path, &new_path, edited.as_bytes(), owner).map_err(|fault| {
        let _ = std::fs::remove_file(&new_path);
        KeyWriteError::Io(path.clone(), fault)
    })
}

fn replace(path: &Path, new_path: &Path, bytes: &[u8], owner: Option<(u32, u32, u32)>) -> io::Result<()> {
    // Left over from a writer that died; the lock says that none is at work.
    match std::fs::remove_file(new_path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        _ => {}
    }
    let mut new = owner_only().create_new(true).write(true).open(new_path)?;
    if let Some((uid, gid, mode)) = owner {
        // Where others may read the file by `allow_readable`, they may still.
        new.set_permissions(std::fs::Permissions::from_mode(mode & 0o777))?;
        let mine = new.metadata()?;
        // Where root edits the daemon's file, the daemon must still be able to read it.
        if (mine.uid(), mine.gid()) != (uid, gid) {
            fchown(&new, Some(uid), Some(gid))?;
        }
    }
    new.write_all(bytes)?;
    new.sync_all()?;
    std::fs::rename(new_path, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
