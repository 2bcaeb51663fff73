//! Accepts SPOP connections over TCP and unix sockets, and bounds how many there are.

use super::answerer::Answerer;
use super::complaint::Complaints;
use super::connection::{Shared, run};
use super::limits::Limits;
use super::socket_file::SocketFile;
use crate::gate::Gate;
use crate::metrics::{Metrics, Port};
use socket2::{SockRef, TcpKeepalive};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections the kernel completes before we accept them; capped by `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// After an accept that failed for want of file descriptors or memory; the connection waits in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A peer that vanished without FIN is noticed after 60 + 4 x 15 s; until then idle connections stay open.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A bound socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, and its file, which goes when the listener does.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens on a TCP address.
    pub fn tcp(address: SocketAddr) -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the connections of the last run to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Listener::Tcp(socket.listen(BACKLOG)?))
    }

    /// Listens on a unix socket at `path` with permission bits `mode`. A socket file that nobody answers on is replaced; one
    /// that somebody does is [`io::ErrorKind::AddrInUse`], and any other file [`io::ErrorKind::AlreadyExists`].
    pub async fn unix(path: &Path, mode: u32) -> io::Result<Listener> {
        let (listener, file) = SocketFile::bind(path, mode).await?;
        Ok(Listener::Unix(listener, file))
    }

    /// The TCP address, with the port the system chose where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }
}

/// Serves HAProxy from `gate` until `shutdown`; then answers what has arrived, says goodbye on every connection and
/// returns when all are closed.
pub async fn serve(listener: Listener, gate: Arc<Gate>, shutdown: CancellationToken, limits: Limits) {
    let metrics = gate.metrics.clone();
    serve_with(listener, gate, metrics, shutdown, limits).await;
}

/// As [`serve`], with any answerer.
pub async fn serve_with<A: Answerer>(
    listener: Listener,
    answerer: Arc<A>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    limits: Limits,
) {
    let shared = Arc::new(Shared { answerer, metrics, limits, complaints: Complaints::default() });
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(passed_over) = shared.complaints.admit(shared.answerer.now()) {
                    tracing::warn!(%error, passed_over, "SPOP: accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            shared.metrics.connection_rejected(Port::Spop);
            if let Some(passed_over) = shared.complaints.admit(shared.answerer.now()) {
                tracing::warn!(%peer, passed_over, "SPOP: too many connections");
            }
            continue;
        };
        let open = Open::new(shared.metrics.clone(), place);
        let shared = shared.clone();
        // A token of its own: waiting on one that thousands share would take its lock on every read.
        let shutdown = shutdown.child_token();
        tasks.spawn(async move {
            let _open = open;
            match stream {
                Stream::Tcp(stream) => run(stream, peer, &shared, &shutdown).await,
                Stream::Unix(stream) => run(stream, peer, &shared, &shutdown).await,
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// A connection that counts as open until this is dropped, however its task ends.
struct Open {
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(metrics: Arc<Metrics>, place: OwnedSemaphorePermit) -> Open {
        metrics.connection_opened(Port::Spop);
        Open { metrics, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connection_closed(Port::Spop);
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(tokio::net::UnixStream),
}

/// Who is at the other end, for the log.
#[derive(Clone, Copy)]
enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                prepare(&stream);
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Answers must not wait for one another in the kernel, and a dead peer must be found. A socket that refuses either is
/// already closed, which the first read will tell.
fn prepare(stream: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
