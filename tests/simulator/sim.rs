//! A simulator of a test's own, and what it answers.
#![allow(dead_code)] // each test file takes what it needs

use herdgate::time::clock::Clock;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running simulator; ended by its process id when dropped.
pub struct Sim {
    pub child: Child,
    pub address: String,
}

impl Sim {
    pub fn start(arguments: &str) -> Sim {
        let herdgate = std::path::Path::new(env!("CARGO_BIN_EXE_herdgate"));
        let program = herdgate.parent().unwrap().join("examples/ollama-sim");
        assert!(program.exists(), "{} is missing: cargo build --example ollama-sim", program.display());
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments.split_whitespace()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening ").expect("the line that says where").trim().to_owned();
        Sim { child, address }
    }

    /// Sends a request and reads its answer to the end.
    pub fn ask(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask_as(&self.address, method, target, body)
    }

    pub fn ask_as(&self, host: &str, method: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        Answer::read(self.send(host, method, target, body.as_ref()))
    }

    pub fn send(&self, host: &str, method: &str, target: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    /// Returns the same in the background.
    pub fn ask_aside(&self, target: &str, body: &str) -> JoinHandle<Answer> {
        let stream = self.send(&self.address, "POST", target, body.as_bytes());
        std::thread::spawn(move || Answer::read(stream))
    }

    pub fn stats(&self) -> Value {
        self.ask("GET", "/sim/stats", "").json()
    }

    /// Waits until the counters are as they should be.
    pub fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let (clock, start) = (Clock::new(), Clock::new().now());
        loop {
            let stats = self.stats();
            if holds(&stats) {
                return stats;
            }
            assert!(clock.now().since(start) < 10_000_000_000, "{what}: {stats}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, and when its pieces came.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Nanoseconds between reads that brought something.
    pub gaps: Vec<u64>,
    /// Nanoseconds from the request to the end.
    pub total: u64,
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Answer {
        let clock = Clock::new();
        let start = clock.now();
        let (mut raw, mut piece, mut gaps, mut last) = (Vec::new(), [0; 65536], Vec::new(), None);
        loop {
            let length = stream.read(&mut piece).unwrap();
            if length == 0 {
                break;
            }
            let now = clock.now();
            if let Some(before) = last.replace(now) {
                gaps.push(now.since(before));
            }
            raw.extend_from_slice(&piece[..length]);
        }
        let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head");
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        let rest = &raw[end + 4..];
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunk(rest) } else { rest.to_vec() };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body, gaps, total: clock.now().since(start) }
    }

    pub fn header(&self, name: &str) -> &str {
        let found =
            self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the JSON objects of a stream, NDJSON or SSE.
    pub fn objects(&self) -> Vec<Value> {
        let text = self.text();
        let line = |line: &str| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).ok();
        text.lines().filter_map(line).collect()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}
