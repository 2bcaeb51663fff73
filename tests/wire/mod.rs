//! A raw HTTP/1.1 client that sends what it is told, byte for byte.
#![allow(dead_code, reason = "each test file uses its own part")]

use herdgate::decision::plan::policy::Policy;
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::net::listen::{Address, Bound, bind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longest wait for anything a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// An answer as it came.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Said {
    /// Returns a header's value; fails where it stands twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice: {self:?}");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        Client(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends bytes; false where the peer has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        tokio::time::timeout(DEADLINE, self.0.get_mut().write_all(bytes)).await.expect("the peer takes bytes").is_ok()
    }

    /// Returns the next answer, `None` where the peer closed instead.
    pub async fn answer(&mut self, to_head: bool) -> Option<Said> {
        tokio::time::timeout(DEADLINE, self.read(to_head)).await.expect("an answer in time")
    }

    /// Returns whether nothing at all comes for a while.
    pub async fn is_silent(&mut self, span: Duration) -> bool {
        tokio::time::timeout(span, self.0.fill_buf()).await.is_err()
    }

    async fn read(&mut self, to_head: bool) -> Option<Said> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut said = Said { status, headers, body: Vec::new() };
        let len = said.header("content-length").map_or(0, |len| len.parse().unwrap());
        if !to_head {
            said.body = vec![0; len];
            self.0.read_exact(&mut said.body).await.ok()?;
        }
        Some(said)
    }
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Option<Said> {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    client.answer(request.starts_with(b"HEAD ")).await
}

/// Returns a port of the system's choice on loopback.
pub fn loopback() -> (Bound, SocketAddr) {
    let bound = bind(&"127.0.0.1:0".parse().unwrap(), 0o660).unwrap();
    match bound.address().unwrap() {
        Address::Tcp(address) => (bound, address),
        Address::Unix(path) => panic!("{path:?}"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

pub fn server(name: &str, url: &str) -> Server {
    let kind = ServerKind::Ollama;
    Server { name: name.into(), url: url.into(), kind, maxconn: None, slots: None, weight: 100, models: Vec::new() }
}

pub fn policy(servers: Vec<Server>) -> Policy {
    Policy { servers, ..Policy::default() }
}

/// Bytes that are no request of any protocol here.
pub fn garbage() -> Vec<Vec<u8>> {
    vec![
        b"\x00\x00\x00\x00".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\xff".repeat(100_000),
        b"GET".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nhost: a\r\nhost : b\r\n\r\n".to_vec(),
        b"POST /handoff HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"POST /handoff HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\nx: ".as_slice(), &b"y".repeat(200_000), b"\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(5_000), b"\r\n"].concat(),
        b"\r\n".repeat(50_000),
    ]
}

/// Throws each piece of garbage at a port and leaves, while the connections stay open and while they close.
pub async fn pelt(address: SocketAddr) {
    let mut left_open = Vec::new();
    for bytes in garbage() {
        for close in [true, false] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The peer may hang up first, and is right to.
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&bytes)).await;
            if !close {
                left_open.push(stream);
            }
        }
    }
}
