//! Targets that two servers could read in two ways: whatever the proxy does with them, no server is asked.

use crate::harness::client::Request;
use crate::harness::stack::{Front, Stack};

/// Each would reach a handler a plan never allows, or an allowed one by a way around the table, if anything in between
/// decoded or tidied it: Ollama routes on the decoded path.
pub const TARGETS: [(&str, &str); 40] = [
    ("POST", "/api/pull"),
    ("POST", "//api/pull"),
    ("POST", "/api//pull"),
    ("POST", "/api/./pull"),
    ("POST", "/api/x/../pull"),
    ("POST", "/api/chat/../pull"),
    ("POST", "/api/%70ull"),
    ("POST", "/api/%2570ull"),
    ("POST", "/api%2fpull"),
    ("POST", "/%61pi/pull"),
    ("POST", "/api/pull/"),
    ("POST", "/api/pull;x"),
    ("POST", "/api/chat;/../pull"),
    ("POST", "/api/pull%00"),
    ("POST", "/api/chat%00"),
    ("POST", "/api/pull?x=/api/chat"),
    ("POST", "/api/pull#/api/chat"),
    ("POST", "/API/PULL"),
    ("POST", "\\api\\pull"),
    ("POST", "/api\\pull"),
    ("POST", "http://proxy.test/api/pull"),
    ("POST", "http://proxy.test//api/pull"),
    ("POST", "*"),
    ("OPTIONS", "*"),
    ("CONNECT", "proxy.test:80"),
    ("post", "/api/pull"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/%63hat"),
    ("POST", "/api/chat/"),
    ("PUT", "/api/chat"),
    ("HEAD", "/api/chat"),
    ("GET", "/api/chat"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("POST", "/api/pull\t/api/chat"),
    ("POST", "/api/chat\x0b"),
    ("POST", "/api/chat\0"),
    // Full-width letters, and what a reader of UTF-8 might tidy.
    ("POST", "/api/\u{ff50}ull"),
    ("POST", "/api/chat\u{200b}"),
    // opa-envoy-plugin CVE-2026-26205: the first segment lost as an authority.
    ("POST", "//api/chat/api/pull"),
    ("POST", "http://proxy.test@elsewhere.test/api/chat"),
];

/// None of them passes, and the service works after each.
pub fn no_spelling_of_a_path_gets_around_the_table(front: Front) {
    let stack = Stack::start(front).unwrap();
    let body = r#"{"model":"llama3.2:3b","name":"llama3.2:3b","stream":false}"#;
    for (method, target) in TARGETS {
        let mut request = Request::post(target, body).key(&stack.keys().all);
        if method != "POST" {
            request = Request::new(method, target).key(&stack.keys().all);
        }
        // Closing without an answer refuses too.
        if let Ok(answer) = stack.send(&request) {
            assert!((400..600).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
        }
        let seen = stack.fleet.seen().unwrap();
        assert!(seen.is_empty(), "{method} {target} reached {:?}", seen);
    }
    stack.wait_for_service().unwrap();
}
