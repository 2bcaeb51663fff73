//! When secrets were last used, in a file of its own beside the key file: `keys.toml.used`, one `FINGERPRINT TIME` a line.
//!
//! The key file is never written for this. What is lost with a crash is a minute of uses; a file that is damaged counts as
//! none, because nothing is decided by it.

use crate::time::date;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is written, at most.
pub const WRITE_EVERY: Duration = Duration::from_secs(60);

/// Most bytes read of it: a million lines.
const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// Returns the file beside a key file.
pub fn path(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".used");
    name.into()
}

/// Reads the file: fingerprint → seconds since 1970. Lines that are none are passed over.
pub fn read(path: &Path) -> HashMap<u64, i64> {
    let Ok(file) = File::open(path) else { return HashMap::new() };
    let line = |line: String| {
        let (fingerprint, time) = line.split_once(' ')?;
        Some((u64::from_str_radix(fingerprint, 16).ok()?, date::parse(time)?.div_euclid(1_000)))
    };
    BufReader::new(file.take(SIZE_MAX)).lines().map_while(Result::ok).filter_map(line).collect()
}

/// Puts these uses in the file's place: a reader sees the old file or the new one.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, uses: &[(u64, i64)]) -> io::Result<()> {
    let new_path = path.with_extension("used.new");
    let _left_over = fs::remove_file(&new_path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new_path)?;
    let mut writer = BufWriter::new(file);
    for (fingerprint, unix_s) in uses {
        writeln!(writer, "{fingerprint:016x} {}", date::format(unix_s.saturating_mul(1_000)))?;
    }
    writer.flush()?;
    fs::rename(&new_path, path)
}
