//! A model server that sends what it is told to, in the pieces it is told to, each when the client has the one before.

use super::Fault;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait for the client.
const SILENCE: Duration = Duration::from_secs(20);

/// An answer to the next request.
#[derive(Debug)]
struct Script {
    head: String,
    /// Sent as one chunk each; without any, the head alone is the answer.
    pieces: Vec<Vec<u8>>,
    go_on: Receiver<()>,
}

/// The server. Its threads end with the process.
#[derive(Debug)]
pub struct Replay {
    /// Where it listens.
    pub address: SocketAddr,
    next: Arc<Mutex<Option<Script>>>,
}

impl Replay {
    /// Starts it. `GET` is answered with 200 and nothing, for health checks.
    pub fn start() -> Result<Replay, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|fault| format!("replay: {fault}"))?;
        let address = listener.local_addr().map_err(|fault| format!("replay: {fault}"))?;
        let next: Arc<Mutex<Option<Script>>> = Arc::default();
        let scripts = next.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let scripts = scripts.clone();
                std::thread::spawn(move || serve(stream, &scripts));
            }
        });
        Ok(Replay { address, next })
    }

    /// Returns what the next request that is no `GET` is answered with: a head without the framing, and a body in
    /// pieces. After each but the last it waits for a word on the sender.
    pub fn answer(&self, head: &str, pieces: Vec<Vec<u8>>) -> Sender<()> {
        let (sender, go_on) = channel();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Script { head: head.to_owned(), pieces, go_on });
        sender
    }
}

fn serve(mut stream: TcpStream, scripts: &Mutex<Option<Script>>) -> Option<()> {
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut received = Vec::new();
    loop {
        let (whole, probe) = loop {
            if let Some(found) = request(&received) {
                break found;
            }
            let mut buffer = [0; 16 * 1024];
            match stream.read(&mut buffer).ok()? {
                0 => return None,
                read => received.extend_from_slice(&buffer[..read]),
            }
        };
        received.drain(..whole);
        if probe {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
            continue;
        }
        let script = scripts.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        if script.pieces.is_empty() {
            stream.write_all(format!("{}\r\n", script.head).as_bytes()).ok()?;
            continue;
        }
        let mut chunk = format!("{}Transfer-Encoding: chunked\r\n\r\n", script.head).into_bytes();
        for (index, piece) in script.pieces.iter().enumerate() {
            if index > 0 {
                script.go_on.recv_timeout(SILENCE).ok()?;
            }
            chunk.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            stream.write_all(&chunk).ok()?;
            chunk.clear();
        }
        stream.write_all(b"0\r\n\r\n").ok()?;
    }
}

/// Returns the length of the request at the start, and whether it is a `GET`.
fn request(received: &[u8]) -> Option<(usize, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = head.parse(received) else { return None };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok()).unwrap_or(0);
    let whole = end.checked_add(length)?;
    (received.len() >= whole).then_some((whole, head.method == Some("GET")))
}
