//! Sockets and HTTP as every port uses them, and warnings that cannot fill a disk.

pub mod accept;
pub mod http;
pub mod listen;
pub mod log_throttle;
