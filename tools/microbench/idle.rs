//! What herdgate's process holds: 100,000 keys, and 10,000 open SPOP connections on which nothing happens.

use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::fleet::Fleet;
use crate::harness::herdgate::Herdgate;
use crate::harness::scratch::Scratch;
use crate::harness::{Fault, port};
use crate::usage;
use herdgate::spop::frame::{LENGTH_BYTES, Split, split};
use herdgate::spop::hello::HaproxyHello;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::Digest as _;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const KEYS: u64 = 100_000;
const CONNECTIONS: usize = 10_000;

/// Longest wait for herdgate to come to rest.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Milliseconds from starting the process to its answer that it is ready.
    pub start_ms: f64,
    /// Resident MiB with 100,000 keys.
    pub keys_mib: f64,
    /// Resident KiB of one idle connection.
    pub connection_kib: f64,
    /// Connections that were open.
    pub connections: usize,
}

/// Starts herdgate on 100,000 keys, then opens the connections.
pub fn measure() -> Result<Held, Fault> {
    let scratch = Scratch::new()?;
    // Nobody listens there: herdgate is ready all the same, and has less to do.
    let fleet = Fleet::elsewhere([port::free()?, port::free()?, port::free()?]);
    let mut herdgate = Herdgate::new(&scratch, &fleet)?;
    let file = scratch.join("keys.toml");
    let mut keys = std::fs::read_to_string(&file).map_err(|fault| format!("{}: {fault}", file.display()))?;
    for number in 0..KEYS {
        let digest = sha2::Sha256::digest(number.to_le_bytes());
        let _ = write!(keys, "\n[[key]]\nname = \"user-{number:06}\"\nplan = \"team\"\nsha256 = \"");
        digest.iter().for_each(|byte| {
            let _ = write!(keys, "{byte:02x}");
        });
        keys.push_str("\"\ncreated = 2026-01-01T00:00:00Z\n");
    }
    std::fs::write(&file, keys).map_err(|fault| format!("{}: {fault}", file.display()))?;

    let watch = Stopwatch::new();
    herdgate.start_at("info")?;
    let start_ms = watch.elapsed().as_secs_f64() * 1e3;
    let pid = herdgate.process()?.pid();
    let before_kib = at_rest(pid)?;
    let open = connect(&herdgate)?;
    let after_kib = at_rest(pid)?;
    Ok(Held {
        start_ms,
        keys_mib: before_kib as f64 / 1024.0,
        connection_kib: after_kib.saturating_sub(before_kib) as f64 / open.len().max(1) as f64,
        connections: open.len(),
    })
}

/// Resident KiB, once the process has used no CPU to speak of for a while.
fn at_rest(pid: u32) -> Result<u64, Fault> {
    let mut before_ns = 0;
    wait_until("herdgate at rest", PATIENCE, || {
        let now_ns = usage::cpu_ns(pid).unwrap_or(0);
        let quiet = now_ns.saturating_sub(before_ns) < 1_000_000;
        before_ns = now_ns;
        if !quiet {
            std::thread::sleep(Duration::from_millis(200));
        }
        quiet
    })?;
    usage::resident_kib(pid)
}

/// Opens as many connections as the system lets this process have, and says HELLO on each.
fn connect(herdgate: &Herdgate) -> Result<Vec<TcpStream>, Fault> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (CONNECTIONS as u64 + 100).min(limit.maximum.unwrap_or(u64::MAX));
    // Where it may not be raised, fewer are opened; the figure is of one connection.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(100);
    let count = CONNECTIONS.min(usize::try_from(allowed).unwrap_or(CONNECTIONS));

    let mut hello = Vec::new();
    HaproxyHello {
        versions: b"2.0",
        max_frame_size: 262_140,
        capabilities: b"pipelining",
        engine_id: Some(b"8f1e0000-0000-0000-0000-000000000000"),
        healthcheck: false,
    }
    .write(&mut hello);
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let fault = |fault: std::io::Error| format!("connection {}: {fault}", open.len());
        let mut stream = TcpStream::connect(herdgate.ports.spop).map_err(fault)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
        stream.write_all(&hello).map_err(fault)?;
        let mut answer = [0; 512];
        let mut filled = 0;
        while !matches!(split(&answer[..filled], 512), Ok(Split::Whole { .. })) {
            let read = stream.read(&mut answer[filled..]).map_err(fault)?;
            if read == 0 || filled + read < LENGTH_BYTES {
                return Err(format!("connection {}: no HELLO", open.len()));
            }
            filled += read;
        }
        open.push(stream);
    }
    Ok(open)
}
