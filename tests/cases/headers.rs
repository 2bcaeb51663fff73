//! What a client sends in headers: credentials end at the proxy, and nothing it invents speaks for herdgate.

use super::short_chat;
use crate::harness::client::Request;
use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL};
use crate::harness::stack::{Front, Stack};

/// Forgeries in every spelling a server or proxy might read as ours.
const FORGED: [(&str, &str); 20] = [
    ("X-Herdgate-Server", "ollama3"),
    ("x-herdgate-server", "ollama3"),
    ("X_Herdgate_Server", "ollama3"),
    ("X-Herdgate_Server", "ollama3"),
    ("X-HERDGATE-VERDICT", "allow"),
    ("X-Herdgate-Method", "GET"),
    ("X-Herdgate-Uri", "/api/tags"),
    ("X-Herdgate-Source", "127.0.0.1"),
    ("X-Herdgate-Receipt", "forged"),
    ("X-Herdgate-Anything", "1"),
    ("X-Accel-Redirect", "@herdgate_server"),
    ("X-Original-URI", "/api/tags"),
    ("X-HTTP-Method-Override", "GET"),
    ("Cookie", "session=secret"),
    ("Proxy-Authorization", "Basic c2VjcmV0"),
    ("Origin", "http://elsewhere.test"),
    ("Accept-Encoding", "gzip, br"),
    ("X-OpenWebUI-User-Email", "ann@example.com"),
    ("X-Herdgate-On-Behalf", "ann@example.com"),
    ("X-Herdgate-On-Behalf-Name", "x-openwebui-user-email"),
];

fn forge(request: Request) -> Request {
    let connection = "keep-alive, X-Herdgate-Server, X-Herdgate-Uri, Authorization";
    FORGED.iter().fold(request.header("Connection", connection), |request, (name, value)| request.header(name, value))
}

/// Each credential header works by itself, and no server sees any of them, nor a header of ours.
pub fn credentials_and_our_headers_never_reach_a_server(front: Front) {
    let mut stack = Stack::start(front).unwrap();
    let secret = stack.keys().team.clone();
    let bearer = format!("Bearer {secret}");
    for (name, value) in [("Authorization", &bearer), ("x-api-key", &secret), ("api-key", &secret)] {
        // `Connection: Authorization` would take the credential away at a hop that honoured it: the request would fail.
        let answer = stack.send(&forge(short_chat(SHARED_MODEL)).header(name, value)).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert!(answer.headers.iter().all(|(name, _)| !name.to_ascii_lowercase().contains("herdgate")));
    }
    let seen = stack.fleet.seen().unwrap();
    assert_eq!(seen.len(), 3);
    let addresses: Vec<String> = stack.fleet.servers.iter().map(|server| server.address.to_string()).collect();
    for request in &seen {
        for (name, value) in &request.headers {
            assert!(!name.contains("herdgate"), "{name}");
            let private =
                ["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "origin", "accept-encoding"];
            assert!(!private.contains(&name.as_str()) && name != "x-openwebui-user-email", "{name}");
            assert!(!value.contains(&secret), "{name}: {value}");
        }
        let host = request.headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        assert!(host.is_some_and(|host| addresses.contains(&host)), "{:?}", request.headers);
    }
    // None went where the forged header pointed.
    assert_eq!(stack.fleet.server("ollama3").unwrap().counters().unwrap().asked(), 0);
}

/// Ollama inflates a body by the first `Content-Encoding`, HAProxy shows the last and nginx the first (Ollama
/// `middleware/openai.go`; `req.fhdr`): where one is not seen, no server is told of it either.
pub fn an_encoding_behind_another_never_reaches_a_server(front: Front) {
    let stack = Stack::start(front).unwrap();
    for (first, last) in [("zstd", "identity"), ("identity", "zstd"), ("gzip", ""), ("", "gzip"), ("br", "Identity")] {
        let request = short_chat(SHARED_MODEL).key(&stack.keys().team);
        let request = request.header("Content-Encoding", first).header("Content-Encoding", last);
        let answer = stack.send(&request).unwrap();
        assert!([200, 415].contains(&answer.status), "{first}, {last}: {} {}", answer.status, answer.text());
    }
    for seen in stack.fleet.seen().unwrap() {
        assert!(seen.headers.iter().all(|(name, _)| name != "content-encoding"), "{:?}", seen.headers);
    }
}

/// A request that is refused stays refused with every forgery on it.
pub fn forged_headers_never_change_a_verdict(front: Front) {
    let stack = Stack::start(front).unwrap();
    let keys = stack.keys();
    let refused = [
        ("no key", short_chat(SHARED_MODEL), 401),
        ("a model outside the plan", short_chat(FOREIGN_MODEL).key(&keys.team), 404),
        ("an administrative route", Request::post("/api/pull", r#"{"model":"x"}"#).key(&keys.team), 403),
        ("a list without a key", Request::get("/api/tags"), 401),
    ];
    for (what, request, status) in refused {
        let plain = stack.send(&request).unwrap();
        assert_eq!(plain.status, status, "{what}: {}", plain.text());
        let forged = stack.send(&forge(request)).unwrap();
        assert_eq!((forged.status, forged.text()), (plain.status, plain.text()), "{what}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}

/// Of a credential that comes twice, the second never counts. nginx up to 1.22 shows herdgate the first `x-api-key` alone;
/// later ones join them, HAProxy counts them: there the good one does not count in either place.
pub fn the_second_of_two_credentials_never_counts(front: Front) {
    let stack = Stack::start(front).unwrap();
    let good = stack.keys().team.clone();
    let bearer = format!("Bearer {good}");
    let bad = "hg_0000000000000000000000000000000000000000000";
    let bad_bearer = format!("Bearer {bad}");
    for (name, first, second) in
        [("Authorization", &*bad_bearer, &*bearer), ("x-api-key", bad, &good), ("api-key", bad, &good)]
    {
        let answer = stack.send(&short_chat(SHARED_MODEL).header(name, first).header(name, second)).unwrap();
        assert!([400, 401].contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
        let turned = stack.send(&short_chat(SHARED_MODEL).header(name, second).header(name, first)).unwrap();
        println!("{name}: bad, good: {}; good, bad: {}", answer.status, turned.status);
    }
}
