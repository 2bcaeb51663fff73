//! The probes against a small server that misbehaves as told; each fault must have struck.

use crate::wire;
use herdgate::decision::fleet::{FleetView, ServerState};
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::gate::state::State;
use herdgate::mailbox::calibrations::Calibrations;
use herdgate::mailbox::drains::Drains;
use herdgate::mailbox::traffic::Traffic;
use herdgate::probe::{Client, Schedule, Senses, run};
use herdgate::time::clock::Clock;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the server does to the next requests.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Status(u16),
    Redirect,
    Hang,
    HangInBody,
    Reset,
    Html,
    Truncated,
    HalfJson,
    Huge,
    Endless,
    Garbage,
}

/// A scripted model server on loopback.
struct Scripted {
    address: SocketAddr,
    fault: Mutex<Fault>,
    strikes: AtomicUsize,
    probes: AtomicUsize,
    connections: AtomicUsize,
    /// Requests to where the redirect points.
    lured: AtomicUsize,
    stop: CancellationToken,
}

impl Scripted {
    async fn start() -> Arc<Scripted> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scripted = Arc::new(Scripted {
            address: listener.local_addr().unwrap(),
            fault: Mutex::new(Fault::None),
            strikes: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            lured: AtomicUsize::new(0),
            stop: CancellationToken::new(),
        });
        let server = scripted.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    () = server.stop.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                server.connections.fetch_add(1, Ordering::SeqCst);
                let server = server.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = server.stop.cancelled() => {}
                        _ = server.serve(stream) => {}
                    }
                });
            }
        });
        scripted
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
        self.strikes.store(0, Ordering::SeqCst);
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let fault = *self.fault.lock().unwrap();
            if path == "/lure" {
                self.lured.fetch_add(1, Ordering::SeqCst);
            }
            if path == "/api/tags" || path == "/v1/models" {
                self.probes.fetch_add(1, Ordering::SeqCst);
            }
            if fault != Fault::None {
                self.strikes.fetch_add(1, Ordering::SeqCst);
            }
            let socket = stream.get_mut();
            let body = match path.as_str() {
                "/api/ps" => r#"{"models":[{"name":"llama3:8b","size_vram":5,"context_length":4096}]}"#,
                "/api/version" => r#"{"version":"0.30.1"}"#,
                "/v1/models" => r#"{"data":[{"id":"vllm/m","created":1}]}"#,
                _ => r#"{"models":[{"name":"llama3:8b","digest":"ab"},{"bad":1}]}"#,
            };
            let ok = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            match fault {
                Fault::None => socket.write_all(ok.as_bytes()).await?,
                Fault::Status(status) => {
                    let answer = format!("HTTP/1.1 {status} Odd\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(answer.as_bytes()).await?;
                }
                Fault::Redirect => {
                    socket.write_all(b"HTTP/1.1 302 Found\r\nlocation: /lure\r\ncontent-length: 0\r\n\r\n").await?;
                }
                Fault::Hang => std::future::pending().await,
                Fault::HangInBody => {
                    socket.write_all(&ok.as_bytes()[..ok.len() - 5]).await?;
                    std::future::pending().await
                }
                Fault::Reset => {
                    socket.set_zero_linger()?;
                    return Ok(());
                }
                Fault::Html => {
                    let html = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>";
                    socket.write_all(html.as_bytes()).await?;
                }
                Fault::Truncated => {
                    socket.write_all(&ok.as_bytes()[..ok.len() - 5]).await?;
                    return Ok(());
                }
                Fault::HalfJson => {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"models\":[").await?;
                }
                Fault::Huge | Fault::Endless => {
                    let length = if fault == Fault::Huge { "content-length: 20000000" } else { "x-endless: 1" };
                    socket.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").as_bytes()).await?;
                    let megabyte = vec![b' '; 1 << 20];
                    // As long as the prober takes it.
                    loop {
                        socket.write_all(&megabyte).await?;
                    }
                }
                Fault::Garbage => {
                    socket.write_all(b"\xff\x00 not http at all\r\n\r\n").await?;
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn schedule() -> Schedule {
    let (interval, fast_interval) = (Duration::from_millis(600), Duration::from_millis(20));
    Schedule { interval, fast_interval, rise: 1, fall: 2, ..Schedule::default() }
}

fn senses() -> Senses {
    Senses {
        client: Client::new().unwrap(),
        clock: Clock::new(),
        traffic: Traffic::default(),
        calibrations: Calibrations::default(),
        drained: Drains::default().follow(),
    }
}

/// Probes these servers until the guard is dropped.
fn start(servers: Vec<Server>, schedule: Schedule) -> (Arc<State>, watch::Sender<Schedule>, DropGuard) {
    let state = Arc::new(State::new());
    state.publish_policy(Arc::new(wire::policy(servers)));
    let (sender, receiver) = watch::channel(schedule);
    let stop = CancellationToken::new();
    tokio::spawn(run(state.clone(), senses(), receiver, stop.clone()));
    (state, sender, stop.drop_guard())
}

fn fleet(state: &State) -> Arc<FleetView> {
    state.view().fleet.clone()
}

fn state_of(state: &State, name: &str) -> Option<ServerState> {
    fleet(state).servers.get(name).map(|server| server.state)
}

async fn until_state(state: &State, name: &str, expected: ServerState) {
    wire::until(&format!("{name} is {expected:?}"), || state_of(state, name) == Some(expected)).await;
}

/// A fault brings a server down with this kind, and its end brings it back.
async fn check(kind: ServerKind, fault: Fault, expected: &str) {
    let scripted = Scripted::start().await;
    let server = Server { kind, ..wire::server("s", &scripted.url()) };
    let (state, _schedule, _running) = start(vec![server], schedule());
    until_state(&state, "s", ServerState::Up).await;
    scripted.set(fault);
    until_state(&state, "s", ServerState::Down).await;
    let seen = fleet(&state).servers["s"].clone();
    let failure = seen.failure.expect("a server that is down has a failure");
    assert_eq!(failure.kind, expected, "{fault:?} on {kind:?}: {failure:?}");
    assert!(!failure.detail.contains("127.0.0.1"), "{fault:?}: an address in {failure:?}");
    assert_eq!(seen.inventory.models.len(), 1, "{fault:?}: what a server had is forgotten");
    assert!(scripted.strikes.load(Ordering::SeqCst) >= 2, "{fault:?} did not strike");
    assert_eq!(scripted.lured.load(Ordering::SeqCst), 0, "a redirect was followed");
    scripted.set(Fault::None);
    until_state(&state, "s", ServerState::Up).await;
    assert!(fleet(&state).servers["s"].failure.is_none());
}

#[tokio::test]
async fn each_fault_of_a_server_has_its_kind_and_passes() {
    let faults = [
        (Fault::Status(500), "status"),
        (Fault::Status(404), "status"),
        (Fault::Status(401), "status"),
        (Fault::Status(204), "status"),
        (Fault::Redirect, "status"),
        (Fault::Hang, "timeout"),
        (Fault::HangInBody, "timeout"),
        (Fault::Reset, "body"),
        (Fault::Html, "body"),
        (Fault::Truncated, "body"),
        (Fault::HalfJson, "body"),
        (Fault::Huge, "too_large"),
        (Fault::Endless, "too_large"),
        (Fault::Garbage, "body"),
    ];
    for (fault, expected) in faults {
        for kind in [ServerKind::Ollama, ServerKind::OpenAi] {
            check(kind, fault, expected).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_connections_is_down_and_comes_back_on_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (state, _schedule, _running) = start(vec![wire::server("s", &format!("http://{free}"))], schedule());
    until_state(&state, "s", ServerState::Down).await;
    assert_eq!(fleet(&state).servers["s"].failure.as_ref().unwrap().kind, "connect");
}

#[tokio::test]
async fn what_servers_list_is_their_inventory() {
    let scripted = Scripted::start().await;
    let openai = Server { kind: ServerKind::OpenAi, ..wire::server("v", &scripted.url()) };
    let (state, _schedule, _running) = start(vec![wire::server("o", &scripted.url()), openai], schedule());
    until_state(&state, "o", ServerState::Up).await;
    until_state(&state, "v", ServerState::Up).await;
    let seen = fleet(&state);
    let (ollama, openai) = (&seen.servers["o"].inventory, &seen.servers["v"].inventory);
    assert_eq!((ollama.models.len(), ollama.loaded.len(), ollama.version.as_deref()), (1, 1, Some("0.30.1")));
    assert_eq!(ollama.models[0].name.as_str(), "llama3:8b");
    assert_eq!((openai.models[0].name.as_str(), openai.loaded.len()), ("vllm/m:latest", 0));
    assert!(state.view().roster.get("llama3:8b").is_some());
}

#[tokio::test]
async fn configured_models_stand_where_the_server_cannot_list_them() {
    let scripted = Scripted::start().await;
    scripted.set(Fault::Status(401));
    let server = Server {
        kind: ServerKind::OpenAi,
        models: vec!["llama3.1:8b".into(), "Qwen".into()],
        ..wire::server("s", &scripted.url())
    };
    let (state, _schedule, _running) = start(vec![server], schedule());
    until_state(&state, "s", ServerState::Up).await;
    let names: Vec<_> = fleet(&state).servers["s"].inventory.models.iter().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["llama3.1:8b", "qwen:latest"]);
    scripted.set(Fault::Status(502));
    until_state(&state, "s", ServerState::Down).await;
}

#[tokio::test]
async fn nothing_is_published_while_nothing_changes_and_connections_are_reused() {
    let scripted = Scripted::start().await;
    let fast = Schedule { interval: Duration::from_millis(50), ..schedule() };
    // One probe may take as long as the interval, so the server must answer at once; it does.
    let (state, _schedule, _running) = start(vec![wire::server("s", &scripted.url())], fast);
    until_state(&state, "s", ServerState::Up).await;
    let before = fleet(&state);
    let probes = scripted.probes.load(Ordering::SeqCst);
    wire::until("five more probes", || scripted.probes.load(Ordering::SeqCst) >= probes + 5).await;
    if before.servers["s"].failure.is_none() && fleet(&state).servers["s"].failure.is_none() {
        assert!(Arc::ptr_eq(&before, &fleet(&state)), "published without a change");
        assert!(scripted.connections.load(Ordering::SeqCst) <= 2, "a connection for every probe");
    }
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_of_servers_that_stayed() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    let (state, reload, _running) =
        start(vec![wire::server("a", &a.url()), wire::server("gone", &b.url())], schedule());
    until_state(&state, "a", ServerState::Up).await;
    until_state(&state, "gone", ServerState::Up).await;
    // From here on no probe of `a` ends: only what was known before can say that it is up.
    a.set(Fault::Hang);
    state.publish_policy(Arc::new(wire::policy(vec![
        Server { weight: 7, ..wire::server("a", &a.url()) },
        wire::server("new", &b.url()),
    ])));
    reload.send_replace(Schedule { fall: 1_000, ..schedule() });
    wire::until("`gone` is gone", || state_of(&state, "gone").is_none()).await;
    assert_eq!(state_of(&state, "a"), Some(ServerState::Up));
    until_state(&state, "new", ServerState::Up).await;
    // Another URL is another server.
    state.publish_policy(Arc::new(wire::policy(vec![wire::server("a", &b.url().replace("127.0.0.1", "localhost"))])));
    b.set(Fault::Hang);
    reload.send_replace(schedule());
    wire::until("`a` starts anew", || state_of(&state, "a") != Some(ServerState::Up)).await;
}

#[tokio::test]
async fn probes_end_with_the_token() {
    let scripted = Scripted::start().await;
    let state = Arc::new(State::new());
    state.publish_policy(Arc::new(wire::policy(vec![wire::server("s", &scripted.url())])));
    let (_sender, receiver) = watch::channel(schedule());
    let stop = CancellationToken::new();
    let probes = tokio::spawn(run(state.clone(), senses(), receiver, stop.clone()));
    until_state(&state, "s", ServerState::Up).await;
    stop.cancel();
    tokio::time::timeout(wire::DEADLINE, probes).await.expect("the probes end").unwrap();
}
