//! Accepts connections on a TCP or unix address, at most so many at once, until told to stop.

use crate::metrics::{Metrics, Port};
use crate::net::log_throttle::LogThrottle;
use crate::time::clock::Clock;
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections the kernel may hold before they are accepted: a proxy with many threads opens all of its own at once.
const BACKLOG: u32 = 4096;

/// Open files that all ports at their limits take (16,384 SPOP, 4,096 HTTP and 4,096 agent-check connections), with the
/// fleet's probes and a reserve.
pub const FILES_WANTED: u64 = 32_768;

/// Those of them that connections do not take: probes, files, listeners, and the small ports.
const FILES_RESERVED: u64 = 8_000;

/// Ports with no more connections than this keep their limit whatever files there are: they are the operator's own.
const SMALL_PORT: usize = 64;

/// How long connections may go on after the stop before they are cut.
const GRACE: Duration = Duration::from_secs(5);

/// Keep-alive probes: a peer that vanished without FIN is noticed after 60 + 4 x 15 s. Idle connections of a proxy's pool stay
/// open.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// Pause after a failed accept. Such failures (out of file descriptors) last, and the loop must not spin on them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Mode of unix sockets that a proxy or an operator connects to: owner and group.
pub const SOCKET_MODE: u32 = 0o660;

/// Where a port listens: `127.0.0.1:9902`, `[::1]:9902` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `unix:` without a path.
    #[error("a path must follow `unix:`")]
    NoPath,
    /// Neither of the two forms.
    #[error("expected `IP:PORT` or `unix:/path`")]
    Unreadable,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(written: &str) -> Result<Address, AddressError> {
        match written.strip_prefix("unix:") {
            Some("") => Err(AddressError::NoPath),
            Some(path) => Ok(Address::Unix(path.into())),
            None => written.parse().map(Address::Tcp).map_err(|_| AddressError::Unreadable),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound address, not yet accepting. A unix socket's file is removed when this is dropped.
pub struct Bound {
    socket: ListenSocket,
    file: Option<SocketFile>,
}

enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds an address; `mode` is the permission of a unix socket's file. Must be called within a tokio runtime.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AddrInUse`] also where another process answers on the unix socket.
pub fn bind(address: &Address, mode: u32) -> io::Result<Bound> {
    match address {
        Address::Tcp(address) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            Ok(Bound { socket: ListenSocket::Tcp(socket.listen(BACKLOG)?), file: None })
        }
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, mode)?;
            Ok(Bound { socket: ListenSocket::Unix(listener), file: Some(file) })
        }
    }
}

impl Bound {
    /// Returns the address bound, with the port the system chose where 0 was asked for.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn address(&self) -> io::Result<Address> {
        match (&self.socket, &self.file) {
            (ListenSocket::Tcp(listener), _) => listener.local_addr().map(Address::Tcp),
            (ListenSocket::Unix(_), Some(file)) => Ok(Address::Unix(file.path.clone())),
            (ListenSocket::Unix(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            ListenSocket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are written whole; waiting to fill a segment would only delay them. A socket that refuses
                // either option is already closed, which the first read will tell.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
                Ok((Either::Left(stream), Peer(Some(address))))
            }
            ListenSocket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), Peer(None)))
            }
        }
    }
}

/// Binds beside the path, sets the mode and only then moves the socket into place: it is never open to more users than
/// `mode` says, and one left behind by a killed process is replaced in one step.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let (listener, file) = place_unix_socket(path, mode, |beside| std::os::unix::net::UnixListener::bind(beside))?;
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, file))
}

/// Puts a unix socket of any type in place; as [`bind`] does.
///
/// # Errors
/// What the operating system says.
pub fn place_unix_socket<S>(
    path: &Path,
    mode: u32,
    bind: impl FnOnce(&Path) -> io::Result<S>,
) -> io::Result<(S, SocketFile)> {
    refuse_occupied(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::symlink_metadata(&beside) {
        Ok(left) if left.file_type().is_socket() => std::fs::remove_file(&beside)?,
        _ => {}
    }
    let socket = bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&beside, path)?;
    let made = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) };
    Ok((socket, file))
}

/// Refuses a path that holds anything but a socket nobody answers on.
fn refuse_occupied(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"))
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on this socket")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// The file of a unix socket of ours; removed when this is dropped.
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a successor's socket under the same path is left alone.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // Nobody is left to tell; the next start replaces the file anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A peer's address, for the log.
#[derive(Debug, Clone, Copy)]
pub struct Peer(Option<SocketAddr>);

impl Peer {
    /// Returns a peer on a unix socket, which has no address.
    pub fn unix() -> Peer {
        Peer(None)
    }

    /// Returns whether the peer came over a unix socket.
    pub fn is_local(&self) -> bool {
        self.0.is_none()
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// How many connections one port takes at once, and where they are counted.
#[derive(Clone)]
pub struct ConnectionLimit {
    /// Which port it is, for the metrics.
    pub port: Port,
    /// Most connections at once; one more is closed when it is accepted.
    pub connections_max: usize,
    /// Where connections are counted.
    pub metrics: Arc<Metrics>,
}

/// Accepts connections until `stop`, and runs `handle` for each in a task of its own. Then gives the connections a short time to
/// end (they watch `stop` themselves) and cuts the rest.
pub async fn serve<H, F>(bound: Bound, limit: ConnectionLimit, stop: CancellationToken, handle: H)
where
    H: Fn(Stream, Peer) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let connections_max = places_now(limit.connections_max);
    let places = Arc::new(Semaphore::new(connections_max));
    let (clock, turned_away, failed) = (Clock::new(), LogThrottle::default(), LogThrottle::default());
    let inside = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = bound.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(passed_over) = failed.admit(clock.now()) {
                    tracing::warn!(port = limit.port.as_str(), %error, passed_over, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            limit.metrics.connection_rejected(limit.port);
            if let Some(passed_over) = turned_away.admit(clock.now()) {
                let port = limit.port.as_str();
                tracing::warn!(port, connections_max, %peer, passed_over, "full: connections are turned away");
            }
            continue;
        };
        let counted = Counted::new(&limit);
        let connection = handle(stream, peer);
        let cut = cut.clone();
        inside.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection => {}
            }
            drop((place, counted));
        });
    }
    drop(bound);
    inside.close();
    if tokio::time::timeout(GRACE, inside.wait()).await.is_err() {
        cut.cancel();
        inside.wait().await;
    }
}

/// Returns [`places`] for the files that this process may open now.
pub fn places_now(connections_max: usize) -> usize {
    places(connections_max, rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX))
}

/// Returns how many connections a port that wants `connections_max` may take where the process may open `files`. Ports are cut
/// in proportion, so that a client that fills one cannot take the files that the others and the probes need: with none left,
/// all servers would seem down.
pub fn places(connections_max: usize, files: u64) -> usize {
    if files >= FILES_WANTED || connections_max <= SMALL_PORT {
        return connections_max;
    }
    // What is reserved shrinks as well, but not below what a small fleet needs.
    let reserved = (FILES_RESERVED.saturating_mul(files) / FILES_WANTED).max(256);
    let left = usize::try_from(files.saturating_sub(reserved)).unwrap_or(usize::MAX);
    let wanted = usize::try_from(FILES_WANTED.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX);
    (connections_max.saturating_mul(left) / wanted).max(16)
}

/// Counts a connection until it is dropped, however its task ends.
struct Counted {
    metrics: Arc<Metrics>,
    port: Port,
}

impl Counted {
    fn new(limit: &ConnectionLimit) -> Counted {
        limit.metrics.connection_opened(limit.port);
        Counted { metrics: limit.metrics.clone(), port: limit.port }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.port);
    }
}

/// An accepted connection, over TCP or over a unix socket.
pub type Stream = Either<TcpStream, UnixStream>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_all_full_leave_files_for_the_rest() {
        let cases = [
            (1 << 20, [16_384, 4_096, 64]),
            (32_768, [16_384, 4_096, 64]),
            (20_000, [10_000, 2_500, 64]),
            (4_096, [2_040, 510, 64]),
            (1_024, [507, 126, 64]),
            (256, [16, 16, 64]),
        ];
        for (files, expected) in cases {
            let most = [16_384, 4_096, 64].map(|wanted| places(wanted, files));
            for (places, expected) in most.iter().zip(expected) {
                assert!(places.abs_diff(expected) <= expected / 50, "{files} files: {most:?}");
            }
            // SPOP, HTTP, agent-check, metrics and control.
            let taken = most[0] + 2 * most[1] + 2 * most[2];
            assert!(files < 1_024 || taken + 100 <= files as usize, "{files} files, {taken} connections");
        }
    }
}
