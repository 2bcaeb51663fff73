//! Free loopback ports.

use super::Fault;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range the kernel takes the ports of outgoing connections from (`ip_local_port_range`, 32768 and up), so that
/// a port found free stays free until its process listens on it.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Returns a loopback address nothing listens on. Two processes begin at different places; within one, none is given
/// twice.
pub fn free() -> Result<SocketAddr, Fault> {
    let start = std::process::id().wrapping_mul(97) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + (start + step) % COUNT).unwrap_or(20_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port".to_owned())
}
