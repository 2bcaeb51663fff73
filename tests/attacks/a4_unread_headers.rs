//! Row A4, H5 as a property: of all headers, only the published ones change a verdict.

use super::question::{Asked, USER, WEBUI, gate, headers_nginx_reads, headers_read, over_http, over_spop, serve};
use super::{HAPROXY, NGINX};
use crate::cases::short_chat;
use crate::harness::client::Request;
use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL};
use crate::harness::root;
use crate::harness::stack::{Front, Stack};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What other gateways have believed, and names close to those that are read.
const TEMPTING: [&str; 44] = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Prefix",
    "Forwarded",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Method",
    "X-Rewrite-URL",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Remote-User",
    "X-Auth-Request-User",
    "X-Authorization",
    "Proxy-Authorization",
    "X-Api-Key-2",
    "X_Api_Key",
    "Api_Key",
    "ApiKey",
    "Key",
    "Cookie",
    "User-Agent",
    "Referer",
    "Origin",
    "Accept",
    "Accept-Language",
    "Content-Language",
    "X-Request-Id",
    "Via",
    "X-Accel-Redirect",
    "X-Herdgate-Verdict",
    "X-Herdgate-Server",
    "X_Herdgate_Uri",
    "X-Model",
    "X-OpenWebUI-User-Name",
];

/// Returns the published list: the table between two marks in docs/security.md.
fn published() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let table = text.split("<!-- headers read -->").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_ascii_lowercase).collect()
}

#[test]
fn the_published_list_is_what_the_shipped_files_read() {
    let published = published();
    assert!(published.len() >= 5, "{published:?}");
    assert_eq!(headers_read(), published, "haproxy/spoe-herdgate.conf");
    for file in ["handoff.conf", "auth_request.conf"] {
        assert_eq!(headers_nginx_reads(file), published, "nginx/{file}");
    }
}

/// Returns what a client might ask, each with its own verdict.
fn questions() -> Vec<Asked> {
    let body = |model: &str| format!(r#"{{"model":"{model}","stream":false}}"#).into_bytes();
    let asked = |line: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        let (method, target) = line.split_once(' ').unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked { method: method.into(), target: target.into(), headers, body }
    };
    let team = ("Authorization", "Bearer hg_team");
    vec![
        asked("POST /api/chat", &[team], body(SHARED_MODEL)),
        asked("POST /v1/chat/completions", &[("x-api-key", "hg_all")], body(FOREIGN_MODEL)),
        asked("POST /api/chat", &[("api-key", "hg_team")], body(FOREIGN_MODEL)),
        asked("POST /api/chat", &[], body(SHARED_MODEL)),
        asked("POST /api/chat", &[("Authorization", "Bearer hg_none")], body(SHARED_MODEL)),
        asked("POST /api/chat", &[team, ("x-api-key", "hg_team")], body(SHARED_MODEL)),
        asked("POST /api/pull", &[team], body(SHARED_MODEL)),
        asked("POST /api/nothing", &[team], body(SHARED_MODEL)),
        asked("POST /api/chat", &[team, ("Content-Encoding", "gzip")], body(SHARED_MODEL)),
        asked("POST /api/chat", &[team], br#"{"model":"llama3.2:3b","Model":"x"}"#.to_vec()),
        asked("POST /api/chat", &[("Authorization", "Bearer hg_webui"), (USER, "ann@example.com")], body(SHARED_MODEL)),
        asked("POST /api/chat", &[("Authorization", "Bearer hg_webui"), (USER, "ann, bob")], body(SHARED_MODEL)),
        asked("GET /api/tags", &[team], Vec::new()),
    ]
}

/// Returns a header that is not published, and that neither frames the message nor is the proxies' own word to
/// herdgate.
fn unread() -> impl Strategy<Value = (String, String)> {
    let name =
        prop_oneof![proptest::sample::select(&TEMPTING[..]).prop_map(str::to_owned), "[A-Za-z][A-Za-z0-9_-]{0,20}",];
    let value = prop_oneof![
        proptest::sample::select(
            &["127.0.0.1", "Bearer hg_all", "hg_all", "/api/tags", "GET", "allow", "ollama3", "gzip", ""][..]
        )
        .prop_map(str::to_owned),
        "[!-~]([ -~]{0,40}[!-~])?",
    ];
    (name, value).prop_filter("read by somebody", |(name, _)| is_unread(name))
}

fn is_unread(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let framing = ["host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "http2-settings"];
    let facts = ["method", "uri", "source", "uid", "on-behalf", "on-behalf-name"];
    !published().contains(&name)
        && !framing.contains(&name.as_str())
        && !name.strip_prefix("x-herdgate-").is_some_and(|rest| facts.contains(&rest))
}

/// Puts each header somewhere among those the question has, whose order among each other stays.
fn mixed(asked: &Asked, more: &[(String, String)], places: &[usize]) -> Asked {
    let mut mixed = asked.clone();
    for (header, place) in more.iter().zip(places) {
        let place = place % (mixed.headers.len() + 1);
        mixed.headers.insert(place, header.clone());
    }
    mixed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Over HAProxy's question: other headers, other arguments, and any order of arguments.
    #[test]
    fn no_unread_header_or_argument_changes_a_verdict_over_spop(
        which in 0_usize..13,
        more in prop::collection::vec(unread(), 0..12),
        places in prop::collection::vec(0_usize..20, 12),
        arguments in prop::collection::vec(("[a-z_]{1,12}zz", "[ -~]{0,30}"), 0..4),
        rotate in 0_usize..30,
    ) {
        let gate = gate("hg_team", "hg_all");
        let asked = &questions()[which];
        let plain = over_spop(&gate, asked, &[], 0);
        let other = over_spop(&gate, &mixed(asked, &more, &places), &arguments, rotate);
        prop_assert_eq!(plain, other, "{:?}", more);
    }

    /// Over nginx's port, which here is shown every header; the shipped files show it the published ones.
    #[test]
    fn no_unread_header_changes_a_verdict_over_http(
        which in 0_usize..13,
        more in prop::collection::vec(unread(), 0..12),
        places in prop::collection::vec(0_usize..20, 12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (plain, other) = runtime.block_on(async {
            let (port, _running) = serve(Arc::new(gate("hg_team", "hg_all")));
            let asked = &questions()[which];
            (over_http(port, asked).await, over_http(port, &mixed(asked, &more, &places)).await)
        });
        prop_assert_eq!(plain, other, "{:?}", more);
    }
}

/// The questions differ in their verdicts, so that the properties above compare something.
#[test]
fn the_questions_have_verdicts_of_many_kinds() {
    assert_eq!(WEBUI, "hg_webui");
    let gate = gate("hg_team", "hg_all");
    let verdicts: BTreeSet<String> = questions().iter().map(|asked| over_spop(&gate, asked, &[], 0)).collect();
    println!("{verdicts:#?}");
    assert!(verdicts.len() >= 8, "{verdicts:?}");
}

/// And a header that is published does change it: the property is not blind.
#[test]
fn a_published_header_changes_the_verdict() {
    let gate = gate("hg_team", "hg_all");
    let asked = &questions()[0];
    for (name, value) in
        [("X-Api-Key", "hg_team"), ("Content-Encoding", "gzip"), ("API-KEY", "x"), ("authorization", "x")]
    {
        let other = mixed(asked, &[(name.to_owned(), value.to_owned())], &[1]);
        assert_ne!(over_spop(&gate, asked, &[], 0), over_spop(&gate, &other, &[], 0), "{name}");
    }
}

/// Sixty of them through a real proxy: same status, same code, and the server gets the same request.
fn no_unread_header_changes_a_verdict(front: Front) {
    let stack = Stack::start(front).unwrap();
    let keys = stack.keys();
    let requests = [
        ("allowed", short_chat(SHARED_MODEL).key(&keys.team)),
        ("another model", short_chat(FOREIGN_MODEL).key(&keys.team)),
        ("no key", short_chat(SHARED_MODEL)),
        ("a bad key", short_chat(SHARED_MODEL).header("x-api-key", "hg_none")),
        ("administration", Request::post("/api/pull", r#"{"model":"x"}"#).key(&keys.all)),
        ("a list", Request::get("/v1/models").key(&keys.team)),
    ];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(unread(), 1..10);
    let mut compared = 0;
    for (what, request) in &requests {
        let plain = stack.send(request).unwrap();
        for _ in 0..10 {
            let more = strategy.new_tree(&mut runner).unwrap().current();
            let request = more.iter().fold(request.clone(), |request, (name, value)| request.header(name, value));
            let before = stack.fleet.asked().unwrap();
            let other = stack.send(&request).unwrap();
            assert_eq!(other.status, plain.status, "{what}: {more:?}: {}", other.text());
            assert_eq!(other.json()["error"], plain.json()["error"], "{what}: {more:?}");
            assert_eq!(stack.fleet.asked().unwrap() - before, u64::from(*what == "allowed"), "{what}: {more:?}");
            compared += 1;
        }
    }
    for seen in stack.fleet.seen().unwrap() {
        assert_eq!((&*seen.method, &*seen.path, &*seen.model), ("POST", "/api/chat", SHARED_MODEL), "{seen:?}");
    }
    println!("{front:?}: {compared} compared");
}

#[test]
fn no_unread_header_changes_a_verdict_through_real_haproxy() {
    no_unread_header_changes_a_verdict(HAPROXY);
}

#[test]
fn no_unread_header_changes_a_verdict_through_real_nginx() {
    no_unread_header_changes_a_verdict(NGINX);
}

/// oauth2-proxy#3506, CVE-2026-40575: who names another address with each guess is still the same guesser.
fn forwarding_headers_give_no_guesser_another_address(front: Front) {
    let stack = Stack::start_with("\n[auth]\nfailures = \"5/min\"\n", &[], front).unwrap();
    let guess = |number: usize| {
        let from = format!("198.51.100.{number}");
        let request = short_chat(SHARED_MODEL).key(&format!("hg_{number:043}")).header("X-Forwarded-For", &from);
        let request = request.header("X-Real-IP", &from).header("Forwarded", &format!("for={from}"));
        stack.send(&request.header("Connection", "close")).unwrap().status
    };
    let statuses: Vec<u16> = (0..12).map(guess).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}

#[test]
fn cve_2026_40575_forwarding_headers_give_no_guesser_another_address_through_real_haproxy() {
    forwarding_headers_give_no_guesser_another_address(HAPROXY);
}

#[test]
fn cve_2026_40575_forwarding_headers_give_no_guesser_another_address_through_real_nginx() {
    forwarding_headers_give_no_guesser_another_address(NGINX);
}

/// What a server would believe of where a request came from does not reach it, nor does what it would wait for.
fn no_forwarding_header_reaches_a_server(front: Front) {
    let stack = Stack::start(front).unwrap();
    let mut request = short_chat(SHARED_MODEL).key(&stack.keys().team);
    let deleted: Vec<&str> = TEMPTING
        .into_iter()
        .filter(|name| name.contains("orward") || name.contains("riginal") || name.contains("ethod"))
        .collect();
    assert!(deleted.len() > 10);
    let more = ["X-Real-IP", "X-Rewrite-URL", "Via", "TE", "Trailer", "X-Accel-Redirect"];
    for name in deleted.iter().chain(&more) {
        request = request.header(name, "trailers");
    }
    let answer = stack.send(&request.header("Expect", "100-continue")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = stack.fleet.seen().unwrap();
    assert_eq!(seen.len(), 1);
    for (name, value) in &seen[0].headers {
        let listed = deleted.iter().chain(&more).any(|deleted| deleted.eq_ignore_ascii_case(name));
        assert!(!listed && name != "expect", "the server saw {name}: {value}");
    }
}

#[test]
fn no_forwarding_header_te_trailer_or_expect_reaches_a_server_through_real_haproxy() {
    no_forwarding_header_reaches_a_server(HAPROXY);
}

#[test]
fn no_forwarding_header_te_trailer_or_expect_reaches_a_server_through_real_nginx() {
    no_forwarding_header_reaches_a_server(NGINX);
}
