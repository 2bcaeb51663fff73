//! The file of a unix socket: made with its permissions, replaced only when stale, removed at the end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// For somebody on an existing socket to accept; a full backlog also means that somebody is there.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A socket file of ours. Removed when this is dropped, unless another process has put its own in place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds at `path`. The socket is made beside it and moved in place with its permissions set, so that it is never there
    /// with others, and a stale one is replaced in one step.
    pub async fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
        refuse_if_in_use(path).await?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        let placed = fs::set_permissions(&beside, Permissions::from_mode(mode))
            .and_then(|()| fs::symlink_metadata(&beside))
            .and_then(|found| fs::rename(&beside, path).map(|()| found));
        match placed {
            Ok(found) => {
                let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
                Ok((listener, file))
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}

async fn refuse_if_in_use(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not a socket", path.display())));
    }
    match timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is in use", path.display()))),
    }
}
