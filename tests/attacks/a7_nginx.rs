//! Row A7: what a model server says to nginx steers nothing, and what the shipped files must not say.

use crate::cases::short_chat;
use crate::harness::client::Request;
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::haproxy::{self, HaProxy};
use crate::harness::herdgate::Herdgate;
use crate::harness::nginx::{Mode, Nginx, Version};
use crate::harness::replay::Replay;
use crate::harness::root;
use crate::harness::scratch::{Scratch, edit};
use crate::harness::stack::{Front, Proxy, Stack};

/// Returns a stack whose only server answers as it is told; it has its model by configuration.
fn with_a_scripted_server(front: Front) -> (Stack, Replay) {
    let server = Replay::start().unwrap();
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::elsewhere([server.address; 3]);
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    let text = std::fs::read_to_string(herdgate.config()).unwrap();
    let fixed = format!("kind = \"openai\"\nmodels = [\"{SHARED_MODEL}\"]");
    std::fs::write(herdgate.config(), edit(&text, "kind = \"ollama\"", &fixed).unwrap()).unwrap();
    herdgate.start().unwrap();
    let ports = herdgate.ports;
    let proxy = match front {
        Front::Nginx(version, mode) => Proxy::Nginx(Nginx::start(version, mode, &scratch, &ports, &fleet).unwrap()),
        Front::HaProxy(version) => Proxy::HaProxy(HaProxy::start(version, &scratch, &ports, &fleet).unwrap()),
    };
    let stack = Stack { proxy, herdgate, fleet, scratch };
    stack.wait_for_service().unwrap();
    (stack, server)
}

/// What a compromised server might try.
const STEERING: [&str; 7] = [
    "X-Accel-Redirect: @herdgate_server",
    "X-Accel-Redirect: /api/tags",
    "X-Accel-Redirect: /.herdgate/auth",
    "X-Accel-Buffering: yes",
    "X-Accel-Expires: 3600",
    "X-Accel-Limit-Rate: 1",
    "X-Accel-Charset: utf-7",
];

/// The client gets the server's own answer, whole, at once, and none of these or of ours.
fn a_servers_headers_steer_nothing(front: Front) {
    let (stack, server) = with_a_scripted_server(front);
    for steering in STEERING {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{steering}\r\nX-Herdgate-Server: other\r\n\
             X-Herdgate-Receipt: forged\r\nX-Request-Id: forged\r\nX-RateLimit-Limit-Requests: 1\r\n"
        );
        let body = format!("{{\"from\":\"the server\",\"x\":\"{}\"}}", "x".repeat(3000));
        server.answer(&head, vec![body.clone().into_bytes()]);
        let request = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
        let answer = stack.send(&request).unwrap();
        assert_eq!((answer.status, answer.text()), (200, body), "{steering}");
        for (name, value) in &answer.headers {
            assert!(!name.to_ascii_lowercase().starts_with("x-herdgate"), "{steering}: {name}: {value}");
            assert!(value != "forged", "{steering}: {name}: {value}");
            // Another nginx in front would obey it.
            assert!(!name.to_ascii_lowercase().starts_with("x-accel"), "{steering}: {name}: {value}");
        }
    }
}

#[test]
fn a_model_servers_x_accel_headers_steer_nothing_in_real_nginx() {
    a_servers_headers_steer_nothing(super::NGINX);
}

#[test]
fn a_model_servers_headers_speak_for_nobody_in_real_haproxy() {
    a_servers_headers_steer_nothing(Front::HaProxy(haproxy::Version::Debian));
}

/// CVE-2026-24513, ingress-nginx#12876: an error page that turned a refusal into an answer.
#[test]
fn cve_2026_24513_no_directive_turns_a_refusal_into_an_answer() {
    for file in [
        "handoff.conf",
        "auth_request.conf",
        "herdgate_server.conf",
        "herdgate_answers.conf",
        "herdgate.conf",
        "nginx.conf",
    ] {
        let text = std::fs::read_to_string(root().join("nginx").join(file)).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
        for word in ["satisfy", "proxy_intercept_errors", "proxy_cache", "rewrite ", "try_files", "alias "] {
            assert!(!lines.iter().any(|line| line.starts_with(word)), "{file}: {word}");
        }
        for line in lines.iter().filter(|line| line.starts_with("error_page")) {
            // To a named location, which no URI reaches, and never to a status of success.
            let target = line.trim_end_matches(';').rsplit(' ').next().unwrap();
            assert!(target.starts_with('@') && !line.contains("=2"), "{file}: {line}");
        }
    }
    // ingress-nginx#12876 as it happened: herdgate refuses with each status, and each stays a refusal.
    let stack = Stack::start(Front::Nginx(Version::Debian, Mode::AuthRequest)).unwrap();
    let keys = stack.keys();
    for (request, status) in [
        (short_chat(SHARED_MODEL), 401),
        (short_chat(SHARED_MODEL).key(&keys.team), 403),
        (Request::post("/api/pulls", "{}").key(&keys.all), 404),
    ] {
        let answer = stack.send(&request).unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

/// In the reduced mode no server is asked for a model list: herdgate agrees and names none.
#[test]
fn in_the_reduced_mode_model_lists_are_refused_and_reach_no_server() {
    let stack = Stack::start(Front::Nginx(Version::Debian, Mode::AuthRequest)).unwrap();
    for target in ["/v1/models?asked", "/api/tags?asked", "/api/ps?asked", "/?asked"] {
        let answer = stack.send(&Request::get(target).key(&stack.keys().all)).unwrap();
        assert_eq!(answer.status, 503, "{target}: {}", answer.text());
    }
    for seen in stack.fleet.counters().unwrap().iter().flat_map(|counters| counters.recent.clone()) {
        assert!(!seen.path.contains("asked"), "{seen:?}");
    }
}
