//! The SPOP listener over real sockets on loopback: one bad peer harms nobody else, and everything is bounded.

use herdgate::decision::moment::Moment;
use herdgate::metrics::Metrics;
use herdgate::net::listen::{Address, Bound, bind};
use herdgate::net::log_throttle::LogThrottle;
use herdgate::spop::ack::{AckAction, AckWriter, Actions, VariableScope};
use herdgate::spop::answerer::Answerer;
use herdgate::spop::budget::FrameBudget;
use herdgate::spop::connection::{ConnectionContext, run};
use herdgate::spop::disconnect::{Disconnect, write_disconnect};
use herdgate::spop::frame::{Flags, FrameHeader, FrameKind, Split, split, write};
use herdgate::spop::hello::HaproxyHello;
use herdgate::spop::limits::Limits;
use herdgate::spop::listener::serve_with;
use herdgate::spop::notify::{Messages, write_notify};
use herdgate::spop::status::DisconnectStatus;
use herdgate::spop::translate::QuestionError;
use herdgate::spop::wire::{TypedValue, WireError};
use herdgate::variable;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest any condition is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_question_is_answered_over_tcp() {
    let server = Server::start(Limits::default());
    let mut client = server.client(16_380).await;
    for stream in [0, 1, 3, u64::MAX] {
        client.ask(stream, b"hello").await;
        client.expect_echo(stream, b"hello").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_hello_sent_one_byte_at_a_time_is_answered() {
    let server = Server::start(Limits::default());
    let mut client = server.connect().await;
    for byte in hello(16_380, false) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.frame().await.map(|frame| frame.0.kind), Some(FrameKind::AgentHello));
    server.stop().await;
}

#[tokio::test]
async fn a_check_is_answered_and_the_connection_closed() {
    let server = Server::start(Limits::default());
    let mut client = server.connect().await;
    client.send(&hello(16_380, true)).await;
    assert_eq!(client.frame().await.map(|frame| frame.0.kind), Some(FrameKind::AgentHello));
    assert!(client.frame().await.is_none());
    server.stop().await;
}

/// haproxy#3478: HAProxy from 3.2 resets an agent whose greeting comes in several writes.
#[tokio::test]
async fn hello_and_every_batch_leave_in_one_write() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(Mutex::new(Vec::new()));
    let stream = Recorder { stream: ours, writes: writes.clone() };
    let shared = shared(Limits::default());
    let served = tokio::spawn(async move { run(stream, "test", &shared, &CancellationToken::new()).await });
    let mut client = Client { stream: theirs, input: Vec::new() };
    client.send(&hello(16_380, false)).await;
    client.frame().await.unwrap();
    let mut batch = Vec::new();
    (0..20).for_each(|stream| batch.extend_from_slice(&question(stream, b"x")));
    client.send(&batch).await;
    for stream in 0..20 {
        client.expect_echo(stream, b"x").await;
    }
    drop(client);
    timeout(PATIENCE, served).await.unwrap().unwrap();
    let writes = writes.lock().unwrap();
    assert_eq!(writes.len(), 2, "{writes:?}");
}

/// haproxy#690: connections are used again only where pipelining is right.
#[tokio::test]
async fn twenty_pipelined_questions_cut_anywhere_are_all_answered() {
    let server = Server::start(Limits::default());
    let mut client = server.client(16_380).await;
    let mut batch = Vec::new();
    (0..20).for_each(|stream| batch.extend_from_slice(&question(stream, &[b'x'; 700])));
    for piece in batch.chunks(997) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    for stream in 0..20 {
        client.expect_echo(stream, &[b'x'; 700]).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_900_kb_fits_where_it_was_agreed_on() {
    let server = Server::start(Limits::default());
    let mut client = server.client(1_048_500).await;
    for stream in [1, 3] {
        let body = vec![b'x'; 900_000];
        client.ask(stream, &body).await;
        client.expect_echo(stream, &body).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_becomes_a_bare_refusal() {
    let server = Server::start(Limits::default());
    let mut client = server.client(256).await;
    // The echo repeats the text, with more around it than the question has.
    client.ask(1, &[b'x'; 230]).await;
    let (header, payload) = client.frame().await.unwrap();
    assert_eq!((header.kind, header.stream), (FrameKind::Ack, 1));
    let first = Actions::new(&payload).next().unwrap().unwrap();
    assert!(first == AckAction::Set(VariableScope::Transaction, b"verdict", TypedValue::String(b"refuse")));
    client.ask(3, b"short").await;
    client.expect_echo(3, b"short").await;
    server.stop().await;
}

#[tokio::test]
async fn a_bad_peer_is_disconnected_and_its_neighbours_notice_nothing() {
    let fragment = {
        let mut out = Vec::new();
        write(&mut out, FrameHeader { kind: FrameKind::Notify, flags: Flags(0), stream: 1, frame: 1 }, |_| {});
        out
    };
    let cases: [(&str, Vec<u8>, DisconnectStatus); 6] = [
        ("zero size", vec![0; 4], DisconnectStatus::Invalid),
        ("oversize", vec![0, 0xff, 0xff, 0xff, 3], DisconnectStatus::TooBig),
        ("garbage", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), DisconnectStatus::TooBig),
        ("truncated header", vec![0, 0, 0, 7, 3, 0, 0, 0, 1, 0xff, 0xff], DisconnectStatus::Invalid),
        ("varint of 11 bytes", [&[0, 0, 0, 17, 3, 0, 0, 0, 1][..], &[0xff; 12]].concat(), DisconnectStatus::Invalid),
        ("fragment", fragment, DisconnectStatus::FragmentationUnsupported),
    ];
    let server = Server::start(Limits::default());
    let mut neighbour = server.client(16_380).await;
    for (number, (name, bytes, status)) in cases.iter().enumerate() {
        let stream = number as u64;
        // The neighbour is in the middle of a frame while the other misbehaves.
        let whole = question(stream, b"still here");
        neighbour.send(&whole[..10]).await;
        let mut bad = server.client(16_380).await;
        bad.ask(7, b"before").await;
        bad.expect_echo(7, b"before").await;
        // More than one read's worth behind the fault: the DISCONNECT must arrive all the same.
        bad.send(&[&bytes[..], &vec![0xee; 100_000]].concat()).await;
        assert_eq!(bad.disconnected().await, Some(u64::from(status.code())), "{name}");
        neighbour.send(&whole[10..]).await;
        neighbour.expect_echo(stream, b"still here").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unreadable_question_is_answered_beside_its_neighbours_on_the_same_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client(16_380).await;
    let mut bytes = Vec::new();
    write(&mut bytes, FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 1, frame: 1 }, |out| {
        out.push(0xff)
    });
    bytes.extend_from_slice(&question(3, b"fine"));
    client.send(&bytes).await;
    client.expect_echo(1, b"unreadable").await;
    client.expect_echo(3, b"fine").await;
    server.stop().await;
}

#[tokio::test]
async fn who_says_goodbye_behind_its_questions_is_not_waited_for() {
    let both = [question(1, b"x"), question(3, b"y")].concat();
    let mut goodbye = both.clone();
    write_disconnect(&mut goodbye, FrameKind::HaproxyDisconnect, DisconnectStatus::Normal);
    // Who waits for nobody has answered before the goodbye is read; who would wait for a store asks it nothing any more.
    for (waits, sent, asked) in [(true, &both, 2), (true, &goodbye, 0), (false, &goodbye, 2)] {
        let answerer = Arc::new(Echo { asked: AtomicU32::new(0), waits });
        let context = ConnectionContext { answerer: answerer.clone(), ..shared(Limits::default()) };
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let mut client = Client { stream: ours, input: Vec::new() };
        client.send(&[hello(16_380, false), sent.clone()].concat()).await;
        client.stream.shutdown().await.unwrap();
        timeout(PATIENCE, run(theirs, "peer", &context, &CancellationToken::new())).await.unwrap();
        assert_eq!(answerer.asked.load(Ordering::Relaxed), asked, "waits {waits}, {} bytes", sent.len());
    }
}

#[tokio::test]
async fn peers_may_leave_at_any_point_in_any_way() {
    let goodbye = {
        let mut out = Vec::new();
        write_disconnect(&mut out, FrameKind::HaproxyDisconnect, DisconnectStatus::Normal);
        out
    };
    // One place: each peer must have given it back before the next one gets it.
    let server = Server::start(Limits { connections: 1, ..Limits::default() });
    for said_hello in [false, true] {
        for begun in [&b""[..], &[0, 0], &question(1, b"x")[..9]] {
            for leave in ["EOF", "RST", "DISCONNECT"] {
                if leave == "DISCONNECT" && !begun.is_empty() {
                    continue;
                }
                let mut client = server.admitted().await;
                if said_hello {
                    client.send(&hello(16_380, false)).await;
                    client.frame().await.unwrap();
                }
                client.send(begun).await;
                match leave {
                    "RST" => client.stream.set_zero_linger().unwrap(),
                    "DISCONNECT" => {
                        client.send(&goodbye).await;
                        assert_eq!(client.disconnected().await, Some(0), "hello {said_hello}");
                    }
                    _ => {}
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_and_places_come_back() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() });
    let mut first = server.client(16_380).await;
    let second = server.client(16_380).await;
    let mut third = server.connect().await;
    assert!(third.frame().await.is_none());
    first.ask(1, b"unmoved").await;
    first.expect_echo(1, b"unmoved").await;
    drop(second);
    server.admitted().await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_say_hello_is_closed_and_an_idle_one_is_not() {
    let hello_due = Duration::from_millis(60);
    let server = Server::start(Limits { hello: hello_due, tick: hello_due / 4, ..Limits::default() });
    let mut idle = server.client(16_380).await;
    for begun in [&b""[..], &hello(16_380, false)[..20]] {
        let mut silent = server.connect().await;
        silent.send(begun).await;
        assert_eq!(silent.disconnected().await, Some(u64::from(DisconnectStatus::Timeout.code())));
    }
    idle.ask(1, b"idle for longer than that").await;
    idle.expect_echo(1, b"idle for longer than that").await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_begun_and_not_finished_ends_the_connection() {
    let quick = Limits {
        hello: Duration::from_millis(500),
        tick: Duration::from_millis(20),
        stalled_ticks: 3,
        ..Limits::default()
    };
    let server = Server::start(quick);
    let mut client = server.client(16_380).await;
    client.send(&question(1, b"x")[..12]).await;
    assert_eq!(client.disconnected().await, Some(u64::from(DisconnectStatus::Timeout.code())));
    server.stop().await;
}

/// Frames that are begun and never ended, on every connection there may be, would hold 16 GiB.
#[tokio::test]
async fn begun_frames_of_all_peers_together_hold_no_more_than_they_may() {
    let server = Server::start(Limits { begun_bytes: 300_000, ..Limits::default() });
    let begun = question(1, &[b'x'; 200_000]);
    let mut first = server.client(262_140).await;
    first.send(&begun[..150_000]).await;
    let mut second = server.client(262_140).await;
    // Not awaited to the end: it is told while it still sends.
    let _ = second.stream.write_all(&begun[..190_000]).await;
    assert_eq!(second.disconnected().await, Some(u64::from(DisconnectStatus::Resources.code())));
    // Its neighbour ends its frame and is answered, and then there is room again.
    first.send(&begun[150_000..]).await;
    first.expect_echo(1, &[b'x'; 200_000]).await;
    drop(first);
    let mut third = server.client(262_140).await;
    third.ask(1, &[b'y'; 200_000]).await;
    third.expect_echo(1, &[b'y'; 200_000]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_is_let_go() {
    // Room for 4 KiB between the two, and nobody reading.
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let shared = shared(Limits { write: Duration::from_millis(50), ..Limits::default() });
    let served = tokio::spawn(async move { run(ours, "test", &shared, &CancellationToken::new()).await });
    let sender = tokio::spawn(async move {
        theirs.write_all(&hello(16_380, false)).await?;
        loop {
            theirs.write_all(&question(1, &[b'x'; 2000])).await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), io::Error>(())
    });
    timeout(PATIENCE, served).await.expect("let go").unwrap();
    assert!(timeout(PATIENCE, sender).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn stopping_answers_what_arrived_then_says_goodbye_and_closes() {
    let server = Server::start(Limits::default());
    let mut busy = server.client(16_380).await;
    let mut idle = server.client(16_380).await;
    let mut silent = server.connect().await;
    silent.send(b"\0").await;
    busy.ask(1, b"last").await;
    let address = server.address;
    let stopped = tokio::spawn(server.stop());
    busy.expect_echo(1, b"last").await;
    assert_eq!(busy.disconnected().await, Some(0));
    assert_eq!(idle.disconnected().await, Some(0));
    assert!(silent.frame().await.is_none());
    drop((busy, idle, silent));
    timeout(PATIENCE, stopped).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_replaces_only_a_stale_file_and_goes_at_the_end() {
    let folder = Folder::new("herdgate-spop-unix");
    let path = folder.0.join("spop.sock");
    for mode in [0o660, 0o600] {
        // Somebody died here without removing it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = bind(&Address::Unix(path.clone()), mode).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let taken = bind(&Address::Unix(path.clone()), mode).map(drop).map_err(|error| error.kind());
        assert_eq!(taken, Err(io::ErrorKind::AddrInUse));
        let server = Server::serve(listener, Limits::default());
        let mut client = Client { stream: UnixStream::connect(&path).await.unwrap(), input: Vec::new() };
        client.send(&hello(16_380, false)).await;
        client.frame().await.unwrap();
        client.ask(0, b"unix").await;
        client.expect_echo(0, b"unix").await;
        server.stop().await;
        assert!(!path.exists());
    }
    std::fs::write(&path, b"a file of somebody's").unwrap();
    let taken = bind(&Address::Unix(path.clone()), 0o660).map(drop).map_err(|error| error.kind());
    assert_eq!(taken, Err(io::ErrorKind::AlreadyExists));
    assert!(path.exists());
}

/// Answers with the text it was asked.
struct Echo {
    asked: AtomicU32,
    /// Whether it claims to wait for somebody, as a gate with a shared store does.
    waits: bool,
}

impl Answerer for Echo {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn waits(&self) -> bool {
        self.waits
    }

    async fn answer(
        &self,
        messages: Result<Messages<'_>, WireError>,
        _received: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> Option<QuestionError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let text = match messages.map(|mut messages| messages.next().and_then(|request| request.arguments().next())) {
            Ok(Some((_, text))) => text,
            Ok(None) => TypedValue::Null,
            Err(_) => TypedValue::String(b"unreadable"),
        };
        write(&mut |ack| {
            ack.set(VariableScope::Transaction, variable!("verdict"), TypedValue::String(b"allow"));
            ack.set(VariableScope::Transaction, variable!("text"), text);
        });
        None
    }
}

fn shared(limits: Limits) -> ConnectionContext<Echo> {
    let answerer = Arc::new(Echo { asked: AtomicU32::new(0), waits: false });
    let budget = FrameBudget::new(limits.begun_bytes);
    ConnectionContext { answerer, metrics: Arc::new(Metrics::new()), limits, throttle: LogThrottle::default(), budget }
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

impl Server {
    fn start(limits: Limits) -> Server {
        Server::serve(bind(&Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), 0o660).unwrap(), limits)
    }

    fn serve(listener: Bound, limits: Limits) -> Server {
        let address = match listener.address().unwrap() {
            Address::Tcp(address) => address,
            Address::Unix(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let shutdown = CancellationToken::new();
        let answerer = Arc::new(Echo { asked: AtomicU32::new(0), waits: false });
        let metrics = Arc::new(Metrics::new());
        let served = tokio::spawn(serve_with(listener, answerer, metrics, shutdown.clone(), limits));
        Server { address, shutdown, served }
    }

    async fn connect(&self) -> Client<TcpStream> {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), input: Vec::new() }
    }

    /// Returns a connection after HELLO.
    async fn client(&self, size: u32) -> Client<TcpStream> {
        let mut client = self.connect().await;
        client.send(&hello(size, false)).await;
        assert_eq!(client.frame().await.map(|frame| frame.0.kind), Some(FrameKind::AgentHello));
        client
    }

    /// Returns a connection that was given a place, tried for until there is one.
    async fn admitted(&self) -> Client<TcpStream> {
        let admitted = async {
            loop {
                let mut client = self.connect().await;
                // A connection above the cap is closed at once; one that stays open for this long has a place.
                match timeout(Duration::from_millis(20), client.stream.read_u8()).await {
                    Err(_) => return client,
                    Ok(_) => tokio::task::yield_now().await,
                }
            }
        };
        timeout(PATIENCE, admitted).await.expect("a place")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.served).await.expect("stops").unwrap();
    }
}

/// HAProxy's side of a connection.
struct Client<S> {
    stream: S,
    input: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: &[u8]) {
        // The agent may have closed; what it says then is what is looked at.
        let _ = self.stream.write_all(bytes).await;
    }

    async fn ask(&mut self, stream: u64, text: &[u8]) {
        self.send(&question(stream, text)).await;
    }

    /// Returns the next frame, or none where the connection ends.
    async fn frame(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            match split(&self.input, u32::MAX) {
                Ok(Split::Whole { frame, consumed }) => {
                    let found = (frame.header, frame.payload.to_vec());
                    self.input.drain(..consumed);
                    return Some(found);
                }
                Ok(Split::Incomplete { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                assert!(self.input.is_empty(), "the agent sent half a frame");
                return None;
            }
        }
    }

    async fn expect_echo(&mut self, stream: u64, text: &[u8]) {
        let (header, payload) = self.frame().await.expect("an answer");
        assert_eq!(header, FrameHeader { kind: FrameKind::Ack, flags: Flags::FIN, stream, frame: 1 });
        let actions: Vec<_> = Actions::new(&payload).map(Result::unwrap).collect();
        let Some(AckAction::Set(_, b"text", TypedValue::String(found))) = actions.get(1) else { panic!("no text") };
        assert!(*found == text, "{} bytes, not {}", found.len(), text.len());
    }

    /// Returns the status of a DISCONNECT, after which the connection must end, and not by RST: HAProxy may look at
    /// that first.
    async fn disconnected(&mut self) -> Option<u64> {
        let (header, payload) = self.frame().await?;
        assert_eq!(header, FrameHeader::of_connection(FrameKind::AgentDisconnect));
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("an end in time");
        assert_eq!(read.map_err(|error| error.kind()), Ok(0));
        Disconnect::parse(&payload).unwrap().status
    }
}

/// Notes the length of every write.
struct Recorder<S> {
    stream: S,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorder<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorder<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.lock().unwrap().push(bytes.len());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new(&self.0));
    }
}

fn hello(size: u32, healthcheck: bool) -> Vec<u8> {
    let mut out = Vec::new();
    HaproxyHello {
        versions: b"2.0",
        max_frame_size: size,
        capabilities: b"pipelining,async",
        engine_id: Some(b"E1"),
        healthcheck,
    }
    .write(&mut out);
    out
}

fn question(stream: u64, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream, frame: 1 };
    write_notify(&mut out, header, b"request", &[(b"text", TypedValue::String(text))]);
    out
}
