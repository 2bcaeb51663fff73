//! A directory for one run: generated files and logs, printed where a test fails, removed afterwards.

use super::Fault;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of each file that are printed, from its end.
const PRINTED_MAX: usize = 6_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one. The name is short, because unix sockets in it may have 107 bytes.
    pub fn new() -> Result<Scratch, Fault> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("herdgate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|fault| format!("{}: {fault}", path.display()))?;
        Ok(Scratch { path })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Fault> {
        let path = self.join(name);
        std::fs::write(&path, text).map_err(|fault| format!("{}: {fault}", path.display()))?;
        Ok(path)
    }

    /// Copies the files of a folder of the source tree into a folder of the same name, folders in it included.
    pub fn copy(&self, from: &Path, name: &str) -> Result<PathBuf, Fault> {
        let to = self.join(name);
        let fault = |fault: std::io::Error| format!("copying {}: {fault}", from.display());
        std::fs::create_dir_all(&to).map_err(fault)?;
        for entry in std::fs::read_dir(from).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let inner = Path::new(name).join(entry.file_name());
            if entry.path().is_dir() {
                self.copy(&entry.path(), &inner.to_string_lossy())?;
            } else {
                std::fs::copy(entry.path(), self.path.join(inner)).map_err(fault)?;
            }
        }
        Ok(to)
    }

    fn print(&self, folder: &Path) {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self.print(&path);
            } else if path.is_file() && path.extension().is_none_or(|extension| extension != "http") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let end = &bytes[bytes.len().saturating_sub(PRINTED_MAX)..];
                let name = path.strip_prefix(&self.path).unwrap_or(&path);
                eprintln!("----- {} ({} bytes)\n{}", name.display(), bytes.len(), String::from_utf8_lossy(end));
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print(&self.path);
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Replaces every `from` in `text`. A fault where there is none: the shipped file has changed, and the edit with it.
pub fn edit(text: &str, from: &str, to: &str) -> Result<String, Fault> {
    if text.contains(from) { Ok(text.replace(from, to)) } else { Err(format!("the shipped file has no `{from}`")) }
}
