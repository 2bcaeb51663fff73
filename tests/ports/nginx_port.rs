//! The HTTP port over real sockets: what it believes, what it reads, and what it survives.

use crate::wire::{self, Client, Said, ask};
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts};
use herdgate::metrics::Metrics;
use herdgate::time::clock::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn start() -> (SocketAddr, tokio_util::sync::DropGuard) {
    let gate = Gate::new(GateParts::new(
        Arc::new(State::new()),
        Arc::new(Metrics::new()),
        Clock::new(),
        Receipts::new([7; 32], 1),
    ));
    let (bound, address) = wire::loopback();
    let stop = CancellationToken::new();
    tokio::spawn(herdgate::nginx::serve(bound, Arc::new(gate), stop.clone()));
    (address, stop.drop_guard())
}

const FACTS: [(&str, &str); 4] = [
    ("X-Herdgate-Method", "POST"),
    ("X-Herdgate-Uri", "/v1/chat/completions"),
    ("X-Herdgate-Source", "192.0.2.1"),
    ("X-Herdgate-Uid", "u1"),
];

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: herdgate\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// Returns a question that lacks a fact is refused with one second to come back; any other refusal without a key says
/// none.
fn is_malformed(said: &Said) -> bool {
    assert_eq!(said.header("x-request-id").map(str::len), Some(32), "{said:?}");
    assert_eq!(said.header("x-accel-redirect"), None, "{said:?}");
    assert_eq!(said.header("x-herdgate-server"), None, "{said:?}");
    let status = said.header("x-herdgate-status").map_or(said.status, |status| status.parse().unwrap());
    status == 503 && said.header("retry-after") == Some("1")
}

#[tokio::test]
async fn a_fact_that_is_absent_repeated_or_spelled_otherwise_refuses() {
    let (address, _running) = start();
    for path in ["/handoff", "/auth"] {
        let well = ask(address, &request("POST", path, &FACTS, b"{}")).await.unwrap();
        assert!(!is_malformed(&well), "{well:?}");
        for (position, (name, value)) in FACTS.into_iter().enumerate() {
            let mut absent = FACTS.to_vec();
            absent.remove(position);
            let underscored = name.replace('-', "_");
            let mut other_spelling = absent.clone();
            other_spelling.push((&underscored, value));
            let mut repeated = FACTS.to_vec();
            repeated.push((name, value));
            let lower = name.to_ascii_lowercase();
            let mut smuggled = FACTS.to_vec();
            smuggled.insert(0, (&lower, "192.0.2.99"));
            for headers in [absent, other_spelling, repeated, smuggled] {
                let said = ask(address, &request("POST", path, &headers, b"{}")).await.unwrap();
                assert!(is_malformed(&said), "{path} {headers:?}: {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn credentials_may_stand_twice_without_making_the_question_malformed() {
    // Whether they are refused is the decision's; the port must hand both on.
    let (address, _running) = start();
    let mut headers = FACTS.to_vec();
    headers.extend([("Authorization", "Bearer a"), ("Authorization", "Bearer b")]);
    let said = ask(address, &request("POST", "/handoff", &headers, b"{}")).await.unwrap();
    assert!(!is_malformed(&said) && said.status >= 400, "{said:?}");
}

#[tokio::test]
async fn nothing_is_answered_before_the_whole_body_is_read() {
    let (address, _running) = start();
    let mut absent = FACTS.to_vec();
    absent.remove(0);
    for headers in [FACTS.to_vec(), absent] {
        let whole = request("POST", "/handoff", &headers, &vec![b' '; 20_000_000]);
        let (first, last) = whole.split_at(whole.len() - 1);
        let mut client = Client::connect(address).await;
        assert!(client.send(first).await, "the port stopped reading");
        assert!(client.is_silent(Duration::from_millis(300)).await, "answered a body that has not ended");
        assert!(client.send(last).await);
        assert!(client.answer(false).await.unwrap().status >= 400);
        // The connection is still in step.
        assert!(client.send(&request("POST", "/handoff", &FACTS, b"{}")).await);
        assert!(client.answer(false).await.is_some());
    }
}

#[tokio::test]
async fn a_body_past_the_bound_is_drained_and_answered_on_a_connection_that_lives() {
    let (address, _running) = start();
    let mut client = Client::connect(address).await;
    let mut chunked = FACTS.to_vec();
    chunked.push(("Transfer-Encoding", "chunked"));
    let head = request("POST", "/handoff", &chunked, b"");
    let head = String::from_utf8(head).unwrap().replace("content-length: 0\r\n", "");
    assert!(client.send(head.as_bytes()).await);
    let chunk = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..65 {
        assert!(client.send(&chunk).await, "the port stopped reading");
    }
    assert!(client.send(b"0\r\n\r\n").await);
    let said = client.answer(false).await.unwrap();
    assert!(said.status >= 400 && said.header("connection").is_none(), "{said:?}");
    assert!(client.send(&request("POST", "/handoff", &FACTS, b"{}")).await);
    assert!(client.answer(false).await.is_some());
}

#[tokio::test]
async fn a_body_that_stops_is_refused_and_the_connection_closed() {
    let (address, _running) = start();
    let whole = request("POST", "/handoff", &FACTS, &[b' '; 1000]);
    let mut client = Client::connect(address).await;
    assert!(client.send(&whole[..whole.len() - 500]).await);
    let said = client.answer(false).await.unwrap();
    assert!(is_malformed(&said), "{said:?}");
    assert_eq!(said.header("connection"), Some("close"));
    assert!(client.answer(false).await.is_none(), "the rest of a body must not be read as a request");
}

#[tokio::test]
async fn every_method_and_path_has_its_answer() {
    let (address, _running) = start();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "post"] {
        let said = ask(address, &request(method, "/handoff", &FACTS, b"{}")).await.unwrap();
        assert!(said.status >= 400 && !is_malformed(&said), "{method}: {said:?}");
    }
    let elsewhere =
        ["/", "/wait/", "/handoff/", "/handoff/x", "/Handoff", "//handoff", "/%68andoff", "/metrics", "/auth/"];
    for path in elsewhere {
        let said = ask(address, &request("GET", path, &FACTS, b"")).await.unwrap();
        assert_eq!(said.status, 404, "{path}: {said:?}");
    }
}

#[tokio::test]
async fn head_gets_headers_and_a_length_and_no_body() {
    let (address, _running) = start();
    let mut facts = FACTS;
    facts[0].1 = "HEAD";
    facts[1].1 = "/api/tags";
    let mut client = Client::connect(address).await;
    for _ in 0..3 {
        assert!(client.send(&request("HEAD", "/handoff", &facts, b"")).await);
        let head = client.answer(true).await.unwrap();
        // An answer that follows is read in step only where no body came.
        assert!(client.send(&request("GET", "/handoff", &facts, b"")).await);
        let whole = client.answer(false).await.unwrap();
        assert_eq!(head.status, whole.status);
        let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
        assert_eq!(length, whole.body.len(), "{head:?}");
    }
}

#[tokio::test]
async fn auth_request_knows_two_refusals() {
    let (address, _running) = start();
    let said = ask(address, &request("GET", "/auth", &FACTS, b"")).await.unwrap();
    assert!(matches!(said.status, 401 | 403), "{said:?}");
    assert!(said.status == 401 || said.header("x-herdgate-status").is_some(), "{said:?}");
    assert!(said.body.is_empty());
    let said = ask(address, &request("GET", "/auth", &FACTS[1..], b"")).await.unwrap();
    assert_eq!((said.status, said.header("x-herdgate-status")), (403, Some("503")), "{said:?}");
}

#[tokio::test]
async fn the_catalog_is_shown_to_nobody_without_a_receipt_that_fits() {
    let (address, _running) = start();
    let receipts: [&[(&str, &str)]; 5] = [
        &[],
        &[("X-Herdgate-Receipt", "")],
        &[("X-Herdgate-Receipt", "made-up")],
        &[("X-Herdgate-Receipt", "made-up"), ("X-Herdgate-Receipt", "made-up")],
        &[("X_Herdgate_Receipt", "made-up")],
    ];
    for receipt in receipts {
        for facts in [&FACTS[..], &FACTS[1..], &[]] {
            let headers = [facts, receipt].concat();
            let said = ask(address, &request("GET", "/catalog", &headers, b"")).await.unwrap();
            assert_eq!((said.status, said.body.len()), (403, 0), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn garbage_hurts_nobody_else() {
    let (address, _running) = start();
    let mut neighbour = Client::connect(address).await;
    let well = request("POST", "/handoff", &FACTS, b"{}");
    assert!(neighbour.send(&well).await);
    assert!(neighbour.answer(false).await.is_some());
    wire::pelt(address).await;
    assert!(neighbour.send(&well).await);
    assert!(neighbour.answer(false).await.is_some(), "a neighbour was cut off");
    assert!(ask(address, &well).await.is_some(), "new connections are not served");
}
