//! Rows H1 to H4 and A5 over HTTP/2, which the shipped HAProxy takes on the same port: frames written by hand, so that
//! nothing is tidied.

use super::HAPROXY;
use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL};
use crate::harness::stack::Stack;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What is tried, fields, body.
type Attack<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<u8>);

/// RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a literal without indexing, with a new name and no Huffman code (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| match u8::try_from(text.len()).unwrap() {
        length @ 0..127 => [&[length], text.as_bytes()].concat(),
        length => [&[127, length - 127], text.as_bytes()].concat(),
    };
    [vec![0], string(name), string(value)].concat()
}

/// Asks once; the status, or nothing where the stream or the connection was ended instead.
fn ask(to: SocketAddr, fields: &[(&str, &str)], body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(SETTINGS, 0, 0, &[]));
    out.extend(frame(HEADERS, END_HEADERS, 1, &block));
    out.extend(frame(DATA, END_STREAM, 1, body));
    // It may hang up at any point.
    stream.write_all(&out).ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        match head[3] {
            HEADERS => return Some(status(&payload)),
            RST_STREAM | GOAWAY => return None,
            _ => {}
        }
    }
}

/// `:status` stands first: an entry of the static table, or its name with three digits (RFC 7541 appendix A).
fn status(block: &[u8]) -> u16 {
    let indexed = [(0x88, 200), (0x89, 204), (0x8a, 206), (0x8b, 304), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
    match indexed.into_iter().find(|(byte, _)| *byte == block[0]) {
        Some((_, status)) => status,
        None => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
    }
}

#[test]
fn over_http_2_no_credential_counts_twice_and_no_path_is_another() {
    let stack = Stack::start(HAPROXY).unwrap();
    let to = stack.proxy.address();
    let good = format!("Bearer {}", stack.keys().team);
    let good = good.as_str();
    let bad = "Bearer hg_0000000000000000000000000000000000000000000";
    let body =
        |model: &str| format!(r#"{{"model":"{model}","stream":false,"options":{{"num_predict":1}}}}"#).into_bytes();
    let ours = body(SHARED_MODEL);
    let to_path = |path: &'static str| {
        vec![(":method", "POST"), (":scheme", "http"), (":authority", "proxy.test"), (":path", path)]
    };
    let generate = || to_path("/api/generate");
    let with = |more: &[(&'static str, &'static str)]| [generate(), more.to_vec()].concat();
    let key = ("authorization", good);

    // What is well formed passes, so the rest is no outage; and it passes cleanly.
    let clean = [
        vec![key],
        vec![("te", "trailers"), key],
        vec![("x-herdgate-server", "ollama3"), key, ("x-forwarded-for", "127.0.0.1"), ("x-accel-redirect", "/x")],
    ];
    for more in &clean {
        assert_eq!(ask(to, &[generate(), more.clone()].concat(), &ours), Some(200), "{more:?}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), clean.len() as u64);
    for seen in stack.fleet.seen().unwrap() {
        assert_eq!((seen.model.as_str(), seen.path.as_str()), (SHARED_MODEL, "/api/generate"));
        for (name, value) in &seen.headers {
            let private = ["authorization", "te", "x-forwarded-for", "x-herdgate-server", "x-accel-redirect"];
            assert!(!private.contains(&name.as_str()) && !value.contains(good), "{name}: {value}");
        }
    }

    let secret = stack.keys().team.as_str();
    let mut attacks: Vec<Attack<'_>> = vec![
        ("no credential", generate(), ours.clone()),
        ("two, bad and good", [generate(), vec![("authorization", bad), key]].concat(), ours.clone()),
        ("two, good and bad", [generate(), vec![key, ("authorization", bad)]].concat(), ours.clone()),
        ("two, alike", [generate(), vec![key, key]].concat(), ours.clone()),
        ("two places", [generate(), vec![key, ("x-api-key", secret)]].concat(), ours.clone()),
        ("two keys", [generate(), vec![("x-api-key", secret), ("x-api-key", "hg_x")]].concat(), ours.clone()),
        ("an underscore", [generate(), vec![("x_api_key", secret)]].concat(), ours.clone()),
        ("upper case", [generate(), vec![("Authorization", good)]].concat(), ours.clone()),
        ("a line end in a value", with(&[("x", "a\r\nauthorization: Bearer x")]), ours.clone()),
        ("a line end in a name", with(&[("x: a\r\nauthorization", "Bearer x")]), ours.clone()),
        ("a pseudo-header behind", [generate(), vec![key, (":path", "/api/pull")]].concat(), ours.clone()),
        ("two paths", [generate(), vec![(":path", "/api/pull"), key]].concat(), ours.clone()),
        ("a connection header", [generate(), vec![("connection", "authorization"), key]].concat(), ours.clone()),
        ("chunks", [generate(), vec![("transfer-encoding", "chunked"), key]].concat(), ours.clone()),
        ("a length too short", [generate(), vec![("content-length", "2"), key]].concat(), ours.clone()),
        ("a length too long", [generate(), vec![("content-length", "9999"), key]].concat(), ours.clone()),
        ("another model", [generate(), vec![key]].concat(), body(FOREIGN_MODEL)),
    ];
    for path in [
        "/api/pull",
        "//api/pull",
        "/api/%70ull",
        "/api/generate/../pull",
        "/api/pull#/api/generate",
        "/api/generate#",
        "/api/generate?model=mistral:7b",
        "http://proxy.test/api/pull",
        "http://proxy.test/api/generate@x/api/pull",
        "*",
        "api/generate",
        "/api/generate HTTP/1.1\r\nX: y",
        "/api/generate\t",
        "\\api\\pull",
        "",
    ] {
        attacks.push((path, [to_path(path), vec![key]].concat(), ours.clone()));
    }
    for (what, fields, body) in &attacks {
        let status = ask(to, fields, body);
        assert!(status.is_none_or(|status| (400..600).contains(&status)), "{what}: {status:?}");
        assert_eq!(stack.fleet.asked().unwrap(), clean.len() as u64, "{what}: {status:?}");
    }
    println!("{} attacks over HTTP/2, {} requests passed that should", attacks.len(), clean.len());
    stack.wait_for_service().unwrap();
}
