//! What one SPOP listener allows its peers, in connections, bytes and time.

use super::session::FRAME_SIZE_CAP;
use std::time::Duration;

/// Bounds of a listener. The defaults are what `herdgate serve` runs with; tests shorten the times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; further ones are closed at once.
    pub connections: usize,
    /// Largest frame agreed to, in bytes.
    pub frame_size: u32,
    /// Bytes that all connections together may hold in begun frames, beyond 4 KiB each.
    pub begun_bytes: usize,
    /// From accept to HAPROXY-HELLO.
    pub hello: Duration,
    /// How often a connection that has begun a frame or holds large buffers is looked at.
    pub tick: Duration,
    /// Ticks after which a frame that was begun and not finished ends the connection.
    pub stalled_ticks: u32,
    /// For one batch of answers to be taken by the peer.
    pub write: Duration,
    /// Silence after which, once we stop, everything the peer has sent is taken to have arrived.
    pub quiet: Duration,
    /// For the peer to take our last frame and close.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // HAProxy opens threads x (1 + in-flight / 20) connections, and a burst of them after a reload.
            connections: 16_384,
            frame_size: FRAME_SIZE_CAP,
            // A thousand of the largest at once; HAProxy begins a frame only when it has it whole.
            begun_bytes: 1 << 30,
            hello: Duration::from_secs(2),
            tick: Duration::from_secs(1),
            stalled_ticks: 10,
            write: Duration::from_secs(5),
            quiet: Duration::from_millis(20),
            linger: Duration::from_millis(250),
        }
    }
}
