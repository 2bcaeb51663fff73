//! Receives usage lines on datagram sockets. Datagrams, because a stream that is cut when HAProxy reloads loses the lines of
//! requests that outlive it (HAProxy #3436).

use super::line;
use super::served::served;
use crate::gate::Gate;
use crate::mailbox::traffic::Traffic;
use crate::metrics::SettleLabel;
use crate::net::listen::{Address, place_unix_socket};
use std::io;
use std::sync::Arc;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio_util::sync::CancellationToken;

/// Largest line, in bytes: the proxies' own limit is below (HAProxy `log … len`). A longer one arrives cut, is no JSON then,
/// and is counted as malformed.
const LINE_MAX: usize = 16 * 1024;

/// Bytes of lines the kernel may hold for us: at 1 KiB a line, what comes in while a decision-heavy second passes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A bound datagram socket.
pub enum UsageSocket {
    /// UDP.
    Udp(UdpSocket),
    /// A unix datagram socket, and its file.
    Unix(UnixDatagram, crate::net::listen::SocketFile),
}

/// Binds a datagram socket; `mode` is the permission of a unix socket's file.
///
/// # Errors
/// What the operating system says.
pub fn bind(address: &Address, mode: u32) -> io::Result<UsageSocket> {
    match address {
        Address::Tcp(address) => {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            // The system may grant less; then lines are lost a little earlier, and their slots end by time.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
            Ok(UsageSocket::Udp(UdpSocket::from_std(socket)?))
        }
        Address::Unix(path) => {
            let (socket, file) =
                place_unix_socket(path, mode, |beside| std::os::unix::net::UnixDatagram::bind(beside))?;
            socket.set_nonblocking(true)?;
            Ok(UsageSocket::Unix(UnixDatagram::from_std(socket)?, file))
        }
    }
}

/// Receives usage lines until `stop`.
pub async fn serve(socket: UsageSocket, gate: Arc<Gate>, traffic: Traffic, stop: CancellationToken) {
    let mut buffer = vec![0; LINE_MAX];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = receive(&socket, &mut buffer) => received,
        };
        match received {
            Ok(length) => settle(&gate, &traffic, buffer.get(..length).unwrap_or_default()),
            Err(error) => {
                // A socket error lasts; it must not make this loop spin.
                tracing::warn!(%error, "usage lines cannot be received");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn receive(socket: &UsageSocket, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        UsageSocket::Udp(socket) => socket.recv(buffer).await,
        UsageSocket::Unix(socket, _) => socket.recv(buffer).await,
    }
}

fn settle(gate: &Gate, traffic: &Traffic, datagram: &[u8]) {
    let settled = match line::parse(datagram) {
        Ok(line) => {
            let settled = gate.settle(&line.receipt, line.uid.as_bytes(), &line.observed());
            // Once for each request that took a slot, so that a repeated line proves nothing twice.
            if settled == SettleLabel::Released
                && let Some(served) = served(&line)
            {
                traffic.note(&line.server, served, gate.clock.now());
            }
            settled
        }
        Err(error) => {
            gate.metrics.usage_line(SettleLabel::Malformed);
            if let Some(passed_over) = gate.warning_due() {
                tracing::warn!(fault = %error, bytes = datagram.len(), passed_over, "a usage line that cannot be read");
            }
            return;
        }
    };
    if settled == SettleLabel::Forged
        && let Some(passed_over) = gate.warning_due()
    {
        tracing::warn!(passed_over, "a usage line with a receipt that no herdgate wrote");
    }
}
