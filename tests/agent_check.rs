//! agent-check: the reply to each line, and the port over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod wire;

use herdgate::agent_check::{reply, serve};
use herdgate::decision::fleet::{Failure, FleetView, Inventory, LoadedModel, Preference, ServerState, ServerView};
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::decision::request::name::ModelName;
use herdgate::decision::view::View;
use herdgate::gate::state::State;
use herdgate::metrics::Metrics;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

fn seen(state: ServerState, kind: Option<&'static str>) -> ServerView {
    let failure = kind.map(|kind| Arc::new(Failure { kind, detail: "secret detail".into() }));
    ServerView { state, preference: Preference::Sound, inventory: Arc::new(Inventory::default()), failure }
}

/// Up, with so many models in memory.
fn loaded(count: usize) -> ServerView {
    let model = LoadedModel {
        name: ModelName::canonical("m"),
        listed: "m".into(),
        digest: "".into(),
        size: 1,
        size_vram: 1,
        details: "".into(),
        expires_at: "".into(),
        context_length: 0,
    };
    let inventory = Inventory { loaded: vec![model; count], ..Inventory::default() };
    ServerView { inventory: Arc::new(inventory), ..seen(ServerState::Up, None) }
}

fn servers() -> Vec<Server> {
    let plain = |name| wire::server(name, "http://127.0.0.1:1");
    vec![
        plain("up"),
        Server { maxconn: Some(8), ..plain("limited") },
        Server { maxconn: Some(1), ..plain("narrow") },
        plain("down"),
        plain("hung"),
        plain("unknown"),
        plain("absent"),
        Server { weight: 0, maxconn: Some(8), ..plain("drained") },
        Server { weight: 0, ..plain("drained-down") },
        plain("shaky"),
        plain("busy"),
        Server { maxconn: Some(8), ..plain("degraded") },
        plain("dead"),
        Server { slots: Some(4), ..plain("slotted") },
        Server { slots: Some(4), maxconn: Some(3), ..plain("both") },
        Server { slots: Some(4), kind: ServerKind::OpenAi, ..plain("vllm") },
        plain("cooling"),
        plain("trial"),
        Server { maxconn: Some(8), ..plain("draining") },
    ]
}

fn fleet() -> FleetView {
    let servers = [
        ("up", seen(ServerState::Up, None)),
        ("limited", seen(ServerState::Up, None)),
        ("narrow", seen(ServerState::Up, None)),
        ("down", seen(ServerState::Down, Some("connect"))),
        ("hung", seen(ServerState::Down, Some("timeout"))),
        ("unknown", seen(ServerState::Unknown, Some("connect"))),
        ("drained", seen(ServerState::Up, None)),
        ("drained-down", seen(ServerState::Down, Some("status"))),
        ("shaky", seen(ServerState::Up, Some("body"))),
        ("busy", seen(ServerState::Busy, None)),
        ("degraded", seen(ServerState::Degraded, Some("generation"))),
        ("dead", seen(ServerState::Down, Some("generation"))),
        ("slotted", loaded(2)),
        ("both", loaded(2)),
        ("vllm", loaded(0)),
        ("cooling", seen(ServerState::Cooldown, Some("traffic"))),
        ("trial", seen(ServerState::Trial, Some("traffic"))),
        ("draining", seen(ServerState::Draining, None)),
    ];
    FleetView { servers: servers.into_iter().map(|(name, server)| (name.into(), server)).collect() }
}

fn view(servers: Vec<Server>) -> View {
    View::compose(Arc::new(wire::policy(servers)), Arc::default(), Arc::new(fleet()))
}

#[test]
fn each_server_has_its_whole_state_in_one_line() {
    let view = view(servers());
    let cases = [
        ("up", 1, "up 100%\n"),
        (" up ", 1, "up 100%\n"),
        ("limited", 1, "up 100% maxconn:8\n"),
        ("limited", 3, "up 100% maxconn:2\n"),
        ("limited", 0, "up 100% maxconn:8\n"),
        ("narrow", 4, "up 100% maxconn:1\n"), // 0 would mean unlimited
        ("down", 1, "down #connect\n"),
        ("hung", 1, "down #timeout\n"),
        ("unknown", 1, "up 100%\n"), // not proven down
        ("absent", 1, "up 100%\n"),
        ("drained", 2, "up 0% maxconn:4\n"),
        ("drained-down", 1, "down #status\n"),
        ("shaky", 1, "up 100%\n"), // a failure that has not taken it down
        ("busy", 1, "up 100%\n"),
        ("degraded", 1, "up 50% maxconn:8\n"),  // one failure is no proof
        ("slotted", 1, "up 100% maxconn:12\n"), // two models in memory, and one more
        ("slotted", 5, "up 100% maxconn:2\n"),
        ("both", 1, "up 100% maxconn:3\n"),
        ("vllm", 1, "up 100% maxconn:4\n"),
        ("cooling", 1, "up 1%\n"), // still the last choice
        ("trial", 1, "up 1%\n"),
        ("draining", 1, "up 0% maxconn:8\n"),
        ("dead", 1, "down #generation\n"),
        ("UP", 1, "down #unknown-server\n"),
        ("up\0", 1, "down #unknown-server\n"),
        ("nobody", 1, "down #unknown-server\n"),
        ("", 1, "up\n"),
    ];
    for (name, proxies, expected) in cases {
        let said = reply(&view, name.as_bytes(), proxies);
        assert_eq!(said, expected, "{name:?} with {proxies} proxies");
        for word in ["ready", "drain", "maint"] {
            assert!(!said.contains(word), "{said} fights the operator");
        }
    }
}

#[test]
fn an_empty_line_means_the_only_server() {
    for (server, expected) in servers().into_iter().zip(["up 100%\n", "up 100% maxconn:8\n"]) {
        assert_eq!(reply(&view(vec![server]), b"", 1), expected);
    }
    assert_eq!(reply(&View::default(), b"", 1), "down #unknown-server\n");
}

fn start() -> (SocketAddr, DropGuard) {
    let state = Arc::new(State::new());
    state.publish_policy(Arc::new(wire::policy(servers())));
    state.publish_fleet(Arc::new(fleet()));
    let (bound, address) = wire::loopback();
    let stop = CancellationToken::new();
    tokio::spawn(serve(bound, state, Arc::new(Metrics::new()), tokio::sync::watch::channel(1).1, stop.clone()));
    (address, stop.drop_guard())
}

async fn ask(address: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for part in parts {
        // A line that is too long is answered before its end.
        let _ = stream.write_all(part).await;
    }
    let mut said = String::new();
    let read = tokio::time::timeout(wire::DEADLINE, stream.read_to_string(&mut said)).await.expect("an end in time");
    assert!(read.is_ok(), "{read:?} after {said:?}");
    said
}

#[tokio::test]
async fn lines_are_read_from_real_sockets() {
    let (address, _running) = start();
    let long = b"x".repeat(256);
    let cases: [(&[&[u8]], &str); 9] = [
        (&[b"down\n"], "down #connect\n"),
        (&[b"down\r\n"], "down #connect\n"),
        (&[b"do", b"wn", b"\n"], "down #connect\n"),
        (&[b"limited\nGET / HTTP/1.1\n"], "up 100% maxconn:8\n"),
        (&[], "up\n"),
        (&[b"\n"], "up\n"),
        (&[b"hung"], "down #timeout\n"), // no end of line within the patience
        (&[&long], "down #unknown-server\n"),
        (&[b"\xff\xfe\n"], "down #unknown-server\n"),
    ];
    for (parts, expected) in cases {
        assert_eq!(ask(address, parts).await, expected, "{parts:?}");
    }
}

#[tokio::test]
async fn garbage_resets_and_silence_leave_the_port_serving() {
    let (address, _running) = start();
    wire::pelt(address).await;
    for _ in 0..100 {
        // HAProxy's way to close: a reset with the reply unread.
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_zero_linger().unwrap();
        let mut stream = stream;
        stream.write_all(b"up\n").await.unwrap();
        drop(stream);
    }
    let silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(address, &[b"down\n"]).await, "down #connect\n");
    tokio::time::timeout(Duration::from_secs(5), silent.readable()).await.expect("silence is answered").unwrap();
}
