//! Where a request ends: framings two parsers could read in two ways hide no request from herdgate.

use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL};
use crate::harness::stack::{Front, Stack};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What stands around two requests: one the plan allows, and one it does not, which only a wrong end of the first would
/// bring to a server. `{ok}` and `{len}` are the allowed body and its length, `{bad}` a whole request for the other
/// model, `{key}` the credential's header line.
const FRAMINGS: [(&str, &str); 30] = [
    ("one after another", "{post}Content-Length: {len}\r\n\r\n{ok}{bad}"),
    ("behind a refused one", "POST /api/pull HTTP/1.1\r\nHost: p\r\n{key}Content-Length: 2\r\n\r\n{}{bad}"),
    ("behind one without a key", "POST /api/chat HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\n{}{bad}"),
    ("behind a model list", "GET /api/tags HTTP/1.1\r\nHost: p\r\n{key}\r\n{bad}"),
    ("in the body of a model list", "GET /api/tags HTTP/1.1\r\nHost: p\r\n{key}Content-Length: {badlen}\r\n\r\n{bad}"),
    ("RFC 9112 6.3: both lengths", "{post}Content-Length: {len}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{bad}"),
    ("both, the other way round", "{post}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{bad}"),
    ("CVE-2021-40346: a name too long", "{post}Content-Length0{a}:\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("CVE-2023-40225: an empty length", "{post}Content-Length:\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("CVE-2023-25725: an empty name", "{post}: x\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("two lengths", "{post}Content-Length: {len}\r\nContent-Length: 0\r\n\r\n{ok}{bad}"),
    ("a list of lengths", "{post}Content-Length: {len}, 0\r\n\r\n{ok}{bad}"),
    ("a length with a sign", "{post}Content-Length: +{len}\r\n\r\n{ok}{bad}"),
    ("a length of 2^64", "{post}Content-Length: 18446744073709551616\r\n\r\n{ok}{bad}"),
    ("a length below zero", "{post}Content-Length: -1\r\n\r\n{ok}{bad}"),
    ("a length with an underscore", "{post}Content_Length: 0\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a folded length", "{post}X-A: b\r\n Content-Length: 0\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a space before the colon", "{post}Transfer-Encoding : chunked\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a vertical tab", "{post}Transfer-Encoding: \x0bchunked\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("chunked, misspelled", "{post}Transfer-Encoding: xchunked\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("chunked twice", "{post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{bad}"),
    ("chunked, not last", "{post}Transfer-Encoding: chunked, identity\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a bare CR", "{post}X-A: b\rContent-Length: 0\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a NUL", "{post}X-A: b\0c\r\nContent-Length: {len}\r\n\r\n{ok}{bad}"),
    ("a chunk size in the C way", "{post}Transfer-Encoding: chunked\r\n\r\n0x{hex}\r\n{ok}\r\n0\r\n\r\n{bad}"),
    ("a chunk size of 2^64", "{post}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{ok}\r\n0\r\n\r\n{bad}"),
    ("a chunk without its end", "{post}Transfer-Encoding: chunked\r\n\r\n{hex}\r\n{ok}xx0\r\n\r\n{bad}"),
    (
        "CVE-2025-55315: a line feed in a chunk's extension",
        "{post}Transfer-Encoding: chunked\r\n\r\n{hex};\n{ok}\r\n0\r\n\r\n{bad}",
    ),
    (
        "trailers",
        "{post}Transfer-Encoding: chunked\r\n\r\n{hex}\r\n{ok}\r\n0\r\nContent-Length: 5\r\nX-Herdgate-Server: z\r\n\r\n{bad}",
    ),
    (
        "HTTP/1.0 in chunks",
        "POST /api/generate HTTP/1.0\r\nHost: p\r\n{key}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{bad}",
    ),
];

fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","prompt":"x","stream":false,"options":{{"num_predict":1}}}}"#)
}

/// Writes all, then reads until the other side closes or falls silent: a request that was never completed gets no answer.
fn exchange(stack: &Stack, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(stack.proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = Vec::new();
    // The proxy may close while this still writes.
    let _ = parts.iter().try_for_each(|part| stream.write_all(part));
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whatever the proxy makes of each, the servers see only requests that herdgate allowed, and whole.
pub fn no_framing_hides_a_request_from_herdgate(front: Front) {
    let stack = Stack::start(front).unwrap();
    let (ok, foreign) = (body(SHARED_MODEL), body(FOREIGN_MODEL));
    let key = format!("Authorization: Bearer {}\r\n", stack.keys().team);
    let post = format!("POST /api/generate HTTP/1.1\r\nHost: p\r\n{key}");
    let bad = format!("{post}Connection: close\r\nContent-Length: {}\r\n\r\n{foreign}", foreign.len());
    for (what, framing) in FRAMINGS {
        let bytes = framing
            .replace("{a}", &"a".repeat(255))
            .replace("{post}", &post)
            .replace("{key}", &key)
            .replace("{len}", &ok.len().to_string())
            .replace("{hex}", &format!("{:x}", ok.len()))
            .replace("{badlen}", &bad.len().to_string())
            .replace("{ok}", &ok)
            .replace("{bad}", &bad);
        let answer = exchange(&stack, &[bytes.as_bytes()]);
        for seen in stack.fleet.seen().unwrap() {
            let whole = (seen.method.as_str(), seen.path.as_str(), seen.body_bytes);
            assert_eq!(whole, ("POST", "/api/generate", ok.len() as u64), "{what}: {answer}");
            assert_eq!(seen.model, SHARED_MODEL, "{what}: {answer}");
        }
    }
    assert!(stack.fleet.asked().unwrap() > 0, "not even the allowed requests came through");
    stack.wait_for_service().unwrap();
}

/// In chunks nobody knows the length of what is to come: a document that fills the proxy's buffer, with white space, is
/// refused also where the part in view is whole, because another may follow it.
pub fn a_prefix_that_is_a_whole_document_is_not_decided_on(front: Front, sizes: &[usize]) {
    let stack = Stack::start(front).unwrap();
    for &size in sizes {
        let head = format!(
            "POST /api/generate HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            stack.keys().team
        );
        let document = body(SHARED_MODEL);
        let first = format!("{size:x}\r\n{document}{}\r\n", " ".repeat(size - document.len()));
        let rest = body(FOREIGN_MODEL);
        let rest = format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
        let answer = exchange(&stack, &[head.as_bytes(), first.as_bytes(), rest.as_bytes()]);
        assert!(answer.starts_with("HTTP/1.1 413"), "{size} bytes: {answer}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}
