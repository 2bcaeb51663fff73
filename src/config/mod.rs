//! The configuration: from the file as written to settings and policy, with every problem named.

pub mod access;
pub mod allowance;
pub mod compile;
pub mod document;
pub mod file;
pub mod issuer;
pub mod key_of;
pub mod ledger;
pub mod quantity;
pub mod queue;
pub mod reload;
pub mod schema;
pub mod sections;
pub mod server;
pub mod settings;
mod terms;
pub mod value;

pub use crate::files::problem::{Problem, Problems};
pub use compile::Config;
pub use settings::Settings;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest configuration file, in bytes.
pub const FILE_MAX: u64 = 8 * 1024 * 1024;

/// Reads and compiles the file at `path`; `-` is standard input. Paths in it are relative to its folder.
///
/// # Errors
/// Every problem of the file.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let name = if is_stdin(path) { "<stdin>".to_owned() } else { path.display().to_string() };
    let bytes = read(path).map_err(|fault| {
        let hint = (fault.kind() == io::ErrorKind::NotFound).then_some("name another file with --config");
        Problems::whole_file(&name, format!("cannot be read: {fault}"), hint)
    })?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Problems::whole_file(&name, "is larger than 8 MiB".to_owned(), None));
    }
    let source = String::from_utf8(bytes).map_err(|fault| {
        let (good, _) = fault.as_bytes().split_at(fault.utf8_error().valid_up_to());
        let line = good.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        Problems::whole_file(&name, format!("is not UTF-8 (line {line})"), None)
    })?;
    compile::compile(&source, &name, path.parent().unwrap_or(Path::new("")))
}

/// Returns whether `path` means standard input.
pub fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = FILE_MAX.saturating_add(1);
    if is_stdin(path) {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
