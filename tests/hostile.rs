//! A hostile peer on each port of the real daemon: what it sends harms nobody else, and memory and log stay bounded.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::client::{Request, send};
use harness::deadline::{Stopwatch, wait_until};
use harness::fleet::{Fleet, SHARED_MODEL};
use harness::herdgate::Herdgate;
use harness::process::resident_kib;
use harness::scratch::Scratch;
use harness::spop::{Spop, hello, question};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Resident memory an attack of this file may add, in KiB: what its connections may hold, and the allocator's slack.
const MEMORY_MAX_KIB: u64 = 150 * 1024;

/// Log an attack may cause, in bytes: every port warns at most once a second of a kind.
const LOG_MAX: usize = 8 * 1024;

/// Longest a neighbour waits for its answer on a busy test machine; an attack that blocks the process takes longer.
const NEIGHBOUR_MAX: Duration = Duration::from_secs(3);

/// Stands in what is sent and must not come back in the log.
const SECRET: &str = "hg_this-is-the-secret-of-somebody-else-0123456789";

/// The daemon under attack, and a HAProxy that goes on asking meanwhile.
struct Siege {
    name: &'static str,
    herdgate: Herdgate,
    pid: u32,
    before_kib: u64,
    log_before: usize,
    over: Arc<AtomicBool>,
    neighbour: Option<JoinHandle<(usize, Duration)>>,
    _fleet: Fleet,
    scratch: Scratch,
}

impl Siege {
    fn start(name: &'static str) -> Siege {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::start(&scratch, 20).unwrap();
        let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
        // At "info", as operators run it.
        herdgate.start_at("info").unwrap();
        let pid = herdgate.process().unwrap().pid();
        let over = Arc::new(AtomicBool::new(false));
        let neighbour = Some(neighbour(herdgate.ports.spop, herdgate.keys.team.clone(), over.clone()));
        let log_before = herdgate.output().len();
        let before_kib = resident_kib(pid).unwrap();
        Siege { name, herdgate, pid, before_kib, log_before, over, neighbour, _fleet: fleet, scratch }
    }

    /// Ends the siege: `injected` things were sent, and nothing must have come of it.
    fn end(mut self, injected: usize) {
        let during_kib = resident_kib(self.pid).unwrap();
        self.over.store(true, Ordering::Relaxed);
        let (answered, slowest) = self.neighbour.take().unwrap().join().expect("the neighbour is served");
        let after_kib = resident_kib(self.pid).unwrap();
        let log = self.herdgate.output();
        println!(
            "{}: {injected} injected; neighbour: {answered} answers, slowest {slowest:?}; resident {} KiB before, \
             {during_kib} during, {after_kib} after; log {} bytes",
            self.name,
            self.before_kib,
            log.len() - self.log_before
        );
        assert!(injected > 0, "nothing was injected");
        assert!(answered > 0 && slowest < NEIGHBOUR_MAX, "{answered} answers, slowest {slowest:?}");
        let grown = during_kib.max(after_kib).saturating_sub(self.before_kib);
        assert!(grown < MEMORY_MAX_KIB, "{grown} KiB more");
        assert!(log.len() - self.log_before < LOG_MAX, "{} bytes of log", log.len() - self.log_before);
        for word in [SECRET, "panicked", &self.herdgate.keys.team] {
            assert!(!log.contains(word), "the log holds {word:?}");
        }
        assert!(self.herdgate.process().unwrap().ended().is_none());
        // Every place is free again.
        let metrics = self.herdgate.ports.metrics;
        wait_until("the metrics port answers", Duration::from_secs(15), || {
            send(metrics, &Request::get("/readyz").header("Connection", "close"))
                .is_ok_and(|answer| answer.status == 200)
        })
        .unwrap();
    }
}

/// Asks until it is over; every answer must be the right one. How many, and the slowest.
fn neighbour(spop: SocketAddr, secret: String, over: Arc<AtomicBool>) -> JoinHandle<(usize, Duration)> {
    std::thread::spawn(move || {
        let mut connection = Spop::connect(spop).unwrap();
        let (mut answered, mut slowest) = (0, Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let watch = Stopwatch::new();
            let verdict = connection.ask(&secret, SHARED_MODEL).unwrap();
            assert!(verdict.starts_with("allow:ollama"), "{verdict}");
            slowest = slowest.max(watch.elapsed());
            answered += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
        (answered, slowest)
    })
}

/// Bytes of no protocol, the same in each run (xorshift).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length).map(|_| next().to_le_bytes()[3]).collect()
}

/// Connects and sends; the peer may hang up at any point, and is right to.
fn throw(to: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).ok()?;
    let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
    let _ = stream.write_all(bytes);
    Some(stream)
}

/// Noise, and each of `begun` cut at several places: left with a reset, with an end of stream, or open. What stays open is
/// returned.
fn pelt(to: SocketAddr, begun: &[Vec<u8>], injected: &mut usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    let noises = (1..100).map(|seed| noise(seed, 1 << (seed % 17)));
    let cuts =
        begun.iter().flat_map(|bytes| (1..bytes.len()).step_by(bytes.len() / 20 + 1).map(|end| bytes[..end].to_vec()));
    for (number, bytes) in noises.chain(cuts).enumerate() {
        let Some(stream) = throw(to, &bytes) else { continue };
        *injected += 1;
        match number % 3 {
            0 => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            1 => {}
            _ => open.push(stream),
        }
    }
    open
}

/// Connections opened one after another and reset at once.
fn reset_storm(to: SocketAddr, count: usize, injected: &mut usize) {
    for _ in 0..count {
        if let Ok(stream) = TcpStream::connect(to) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            *injected += 1;
        }
    }
}

/// Sends without ever reading until no more is taken; the connection, still open.
fn never_reads(to: SocketAddr, head: &[u8], piece: &[u8], most: usize) -> TcpStream {
    let mut stream = throw(to, head).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while sent < most && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    stream
}

/// haproxy#2868 among them: after a reload HAProxy opens its connections all at once.
#[test]
fn the_spop_port() {
    let siege = Siege::start("SPOP");
    let to = siege.herdgate.ports.spop;
    let mut injected = 0;
    let asked = question(1, SECRET, SHARED_MODEL);
    let begun = [hello(), [hello(), asked.clone()].concat(), [hello(), vec![0, 4, 0, 0], noise(7, 100_000)].concat()];
    let open = pelt(to, &begun, &mut injected);
    reset_storm(to, 2_000, &mut injected);
    // Idle after HELLO, as a proxy's pool is.
    let idle: Vec<_> = (0..1_000).map(|_| throw(to, &hello()).unwrap()).collect();
    // Half of the largest question: memory follows bytes, and these are dropped again.
    let mut half = hello();
    half.extend_from_slice(&[0, 3, 0, 0, 3, 0, 0, 0, 1]);
    half.resize(half.len() + 150_000, b'x');
    let halves: Vec<_> = (0..200).map(|_| throw(to, &half).unwrap()).collect();
    // Questions without the message `request` are answered and fill no log, whoever reads the answers.
    let nothing = question(1, "", "").iter().map(|byte| if *byte == b'q' { b'\0' } else { *byte }).collect::<Vec<_>>();
    let deaf = never_reads(to, &hello(), &nothing.repeat(50), 4 << 20);
    injected += idle.len() + halves.len() + 1;
    // Bytes that come one at a time.
    let mut slow = TcpStream::connect(to).unwrap();
    for byte in hello() {
        slow.write_all(&[byte]).unwrap();
        injected += 1;
    }
    siege.end(injected);
    drop((open, idle, halves, deaf, slow));
}

#[test]
fn the_http_port() {
    let siege = Siege::start("HTTP");
    let to = siege.herdgate.ports.http;
    let mut injected = 0;
    let head = format!(
        "POST /handoff HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {SECRET}\r\nX-Herdgate-Method: POST\r\n\
         X-Herdgate-Uri: /api/chat\r\nX-Herdgate-Source: 127.0.0.1\r\nX-Herdgate-Uid: u\r\n"
    );
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let begun = [
        format!("{head}Content-Length: 20\r\n\r\n{{\"model\":").into_bytes(),
        format!("{chunked}5\r\n{{\"mod\r\nffffffffffffffffff\r\n").into_bytes(),
        [head.clone().into_bytes(), b"X: ".to_vec(), vec![b'y'; 200_000]].concat(),
        [head.clone().into_bytes(), b"X: y\r\n".repeat(5_000)].concat(),
    ];
    let open = pelt(to, &begun, &mut injected);
    reset_storm(to, 2_000, &mut injected);
    // Bodies of deep nesting and without end, which are read and kept nowhere.
    let endless: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let head = chunked.clone();
                move || {
                    let piece = [b"10000\r\n".to_vec(), vec![b'['; 65_536], b"\r\n".to_vec()].concat();
                    never_reads(to, head.as_bytes(), &piece, 64 << 20)
                }
            })
        })
        .collect();
    injected += endless.len();
    // As many half headers as there are places, and more.
    let full: Vec<_> = (0..4_500).filter_map(|_| throw(to, b"POST /handoff HTTP/1.1\r\nHost: ")).collect();
    injected += full.len();
    let endless: Vec<_> = endless.into_iter().map(|thread| thread.join().unwrap()).collect();
    siege.end(injected);
    drop((open, endless, full));
}

#[test]
fn the_agent_check_port() {
    let siege = Siege::start("agent-check");
    let to = siege.herdgate.ports.agent_check;
    let mut injected = 0;
    let begun = [b"ollama1\n".to_vec(), vec![b'o'; 100_000], format!("{SECRET}\n").repeat(300).into_bytes()];
    let open = pelt(to, &begun, &mut injected);
    reset_storm(to, 2_000, &mut injected);
    let silent: Vec<_> = (0..4_500).filter_map(|_| throw(to, b"")).collect();
    injected += silent.len();
    // Checks are answered again as soon as the crowd has been answered.
    wait_until("a check is answered", Duration::from_secs(15), || {
        let mut said = String::new();
        throw(to, b"ollama1\n").is_some_and(|mut stream| stream.read_to_string(&mut said).is_ok())
            && said.starts_with("up ")
    })
    .unwrap();
    siege.end(injected);
    drop((open, silent));
}

#[test]
fn the_metrics_port() {
    let siege = Siege::start("metrics");
    let to = siege.herdgate.ports.metrics;
    let mut injected = 0;
    let begun = [
        format!("GET /{SECRET} HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\n\r\n").into_bytes(),
        [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'y'; 200_000]].concat(),
        b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1_000),
    ];
    drop(pelt(to, &begun, &mut injected));
    reset_storm(to, 1_000, &mut injected);
    // Asks for ever and never reads: the answers stay in the peer's window and in one buffer of ours.
    let deaf: Vec<_> = (0..20)
        .map(|_| never_reads(to, b"", &b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100), 2 << 20))
        .collect();
    injected += deaf.len();
    drop(deaf);
    // More than the port takes.
    let full: Vec<_> = (0..500).filter_map(|_| throw(to, b"GET ")).collect();
    injected += full.len();
    drop(full);
    siege.end(injected);
}

#[test]
fn the_control_socket() {
    let siege = Siege::start("control");
    let path: PathBuf = siege.scratch.join("herdgate.sock");
    let mut open = Vec::new();
    let mut injected = 0;
    for seed in 1..300 {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(&noise(seed, 1 << (seed % 15)));
        injected += 1;
        if seed % 5 == 0 {
            open.push(stream);
        }
    }
    let full: Vec<_> = (0..300).filter_map(|_| UnixStream::connect(&path).ok()).collect();
    injected += full.len();
    drop((open, full));
    let mut status = std::process::Command::new(harness::process::built("herdgate").unwrap());
    status.args(["status", "--json", "--config"]).arg(siege.herdgate.config());
    wait_until("`herdgate status` is answered", Duration::from_secs(10), || {
        status.output().is_ok_and(|said| said.status.success())
    })
    .unwrap();
    siege.end(injected);
}
