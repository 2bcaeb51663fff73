//! The key of receipts: 256 random bits in a file of their own, made at first start and shared by replicas.

use rand::TryRng as _;
use secrecy::{ExposeSecret, SecretBox};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// A key of 256 bits, which is wiped from memory when it is dropped and is never shown.
pub type ReceiptKey = SecretBox<[u8; 32]>;

/// Returns the key in the file, or makes the file where there is none.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::InvalidData`] where the file holds something else, or others may read
/// it. Never shows the content.
pub fn load_or_make(path: &Path) -> io::Result<ReceiptKey> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => {
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(invalid("may be read by others; chmod 600"));
            }
            let mut read = Ok(());
            let key = ReceiptKey::init_with_mut(|key| read = hex::decode_to_slice(text.trim_end(), key));
            read.map_err(|_| invalid("does not hold 64 hexadecimal digits")).map(|()| key)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(error),
    }
}

fn make(path: &Path) -> io::Result<ReceiptKey> {
    let mut filled = Ok(());
    let key = ReceiptKey::init_with_mut(|key| filled = rand::rngs::SysRng.try_fill_bytes(key));
    filled.map_err(io::Error::other)?;
    let text = Zeroizing::new(hex::encode(key.expose_secret()));
    // Not there a moment ago: whoever made it since is another replica, whose key is read at the next start.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(key)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
