//! The corpus through both proxies to servers that record what they got, and through the decision alone.

use super::corpus::{ATTACKS, May};
use super::corpus_bodies::BODIES;
use super::question::{Asked, gate, over_http, over_spop, serve};
use super::{HAPROXY, NGINX};
use crate::cases::{paths, short_chat};
use crate::harness::client::Request;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{SHARED_MODEL, Seen};
use crate::harness::haproxy::Version;
use crate::harness::nginx::{self, Mode};
use crate::harness::stack::{Front, Stack};
use sha2::Digest;
use std::sync::Arc;
use std::time::Duration;

/// What the placeholders stand for.
struct Secrets {
    team: String,
    all: String,
}

impl Secrets {
    fn fill(&self, text: &str) -> String {
        let digest: String = sha2::Sha256::digest(&self.team).iter().map(|byte| format!("{byte:02x}")).collect();
        text.replace("{team}", &self.team)
            .replace("{all}", &self.all)
            .replace("{bad}", "hg_0000000000000000000000000000000000000000000")
            .replace("{prefix}", &format!("{}{}", &self.team[..20], "A".repeat(self.team.len() - 20)))
            .replace("{digest}", &digest)
            .replace("{longer}", &"a".repeat(64 * 1024))
            .replace("{long}", &"a".repeat(8 * 1024))
    }
}

/// Row and name, the request, what may come of it.
type Case = (String, Asked, May);

fn cases(secrets: &Secrets) -> Vec<Case> {
    let mut cases = Vec::new();
    let asked = |line: &str, headers: &[(&str, &str)], body: &[u8]| {
        let (method, target) = line.split_once(' ').unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), secrets.fill(value))).collect();
        let nested = [b"[".repeat(200), b"]".repeat(200)].concat();
        let body = match body.windows(3).position(|part| part == "…".as_bytes()) {
            Some(at) => [&body[..at], &nested, &body[at + 3..]].concat(),
            None => body.to_vec(),
        };
        Asked { method: method.to_owned(), target: secrets.fill(target), headers, body }
    };
    for attack in ATTACKS {
        cases.push((
            format!("{} {}", attack.row, attack.what),
            asked(attack.line, attack.headers, attack.body),
            attack.may,
        ));
    }
    for body in BODIES {
        let headers = [body.headers, &[("Authorization", "Bearer {team}")]].concat();
        cases.push((format!("A6 {}", body.what), asked(body.line, &headers, body.bytes), body.may));
    }
    cases
}

fn request(asked: &Asked) -> Request {
    let mut request = match asked.method.as_str() {
        "POST" => Request::bare_post(&asked.target, asked.body.clone()),
        method => Request::new(method, &asked.target),
    };
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    request
}

/// A server sees no credential, nothing of ours and no forwarding header, whatever the client sent.
fn assert_clean(what: &str, seen: &Seen, secrets: &Secrets) {
    for (name, value) in &seen.headers {
        let ours = name.contains("herdgate") || name.contains("forwarded") || name.contains("authorization");
        let listed = ["x-api-key", "api-key", "cookie", "te", "trailer", "expect", "x-real-ip", "x-original-url"];
        assert!(!ours && !listed.contains(&name.as_str()), "{what}: the server saw {name}: {value}");
        assert!(!value.contains(&secrets.team), "{what}: the server saw the key in {name}");
    }
}

fn run(front: Front) {
    let stack = Stack::start(front).unwrap();
    let secrets = Secrets { team: stack.keys().team.clone(), all: stack.keys().all.clone() };
    let (mut refused, mut reached) = (0, 0);
    for (what, asked, may) in cases(&secrets) {
        let before = stack.fleet.asked().unwrap();
        // Closing without an answer refuses too.
        let answer = stack.send(&request(&asked));
        let status = answer.as_ref().map_or(400, |answer| answer.status);
        let told = answer.map_or_else(|fault| fault, |answer| answer.text());
        let asked_of_servers = stack.fleet.asked().unwrap() - before;
        let is_reached = status == 200;
        match may {
            May::Refused => assert!((400..500).contains(&status), "{what}: {status} {told}"),
            May::Status(expected) => assert_eq!(status, expected, "{what}: {told}"),
            May::Reach(_) => assert!(is_reached, "{what}: {status} {told}"),
            May::ReachOrRefused(_) => assert!(is_reached || (400..500).contains(&status), "{what}: {status} {told}"),
        }
        assert_eq!(asked_of_servers, u64::from(is_reached), "{what}: {status} {told}");
        if let May::Reach(model) | May::ReachOrRefused(model) = may
            && is_reached
        {
            reached += 1;
            for seen in stack.fleet.seen().unwrap() {
                assert_eq!((seen.model.as_str(), seen.method.as_str()), (model, "POST"), "{what}: {seen:?}");
                assert_clean(&what, &seen, &secrets);
            }
        } else {
            refused += 1;
        }
    }
    println!("{front:?}: {refused} refused, {reached} allowed, 0 reached a server that should not");
    assert!(refused > 120 && reached > 8, "{refused} refused, {reached} reached");
    stack.wait_for_service().unwrap();
}

#[test]
fn nothing_of_the_corpus_gets_through_real_haproxy() {
    run(HAPROXY);
}

#[test]
fn nothing_of_the_corpus_gets_through_real_haproxy_3_1_or_newer() {
    run(Front::HaProxy(Version::Newer));
}

#[test]
fn nothing_of_the_corpus_gets_through_real_nginx() {
    run(NGINX);
}

/// In nginx's reduced mode, where bodies are not seen, a plan that is limited to some models passes nothing at all.
#[test]
fn nothing_of_the_corpus_gets_through_real_nginx_without_bodies() {
    let stack = Stack::start(Front::Nginx(nginx::Version::Debian, Mode::AuthRequest)).unwrap();
    let secrets = Secrets { team: stack.keys().team.clone(), all: stack.keys().all.clone() };
    let mut known = 0;
    for (what, asked, _) in cases(&secrets) {
        let answer = stack.send(&request(&asked));
        let status = answer.as_ref().map_or(400, |answer| answer.status);
        assert!((400..600).contains(&status), "{what}: {status}");
        assert_eq!(stack.fleet.asked().unwrap(), 0, "{what}: {status}");
        known += usize::from(status == 403);
    }
    // The key was known: this is no outage.
    assert!(known > 40, "{known}");
}

/// What the decision alone must say, with no proxy before it that might help.
fn check_alone(what: &str, verdict: &str, may: May) {
    let allowed = verdict.starts_with("allow");
    match may {
        May::Refused => assert!(verdict.starts_with("refuse"), "{what}: {verdict}"),
        May::Status(status) => assert!(verdict.starts_with(&format!("refuse {status}")), "{what}: {verdict}"),
        May::Reach(_) => assert!(allowed, "{what}: {verdict}"),
        May::ReachOrRefused(_) => assert!(allowed || verdict.starts_with("refuse"), "{what}: {verdict}"),
    }
    if let (true, May::Reach(model) | May::ReachOrRefused(model)) = (allowed, may) {
        assert!(verdict == "allow" || verdict == format!("allow {model}"), "{what}: {verdict}");
    }
}

#[tokio::test]
async fn nothing_of_the_corpus_gets_through_the_decision_alone() {
    let secrets = Secrets { team: format!("hg_{}", "k".repeat(46)), all: "hg_all".to_owned() };
    let gate = Arc::new(gate(&secrets.team, &secrets.all));
    let (port, _running) = serve(gate.clone());
    for (what, asked, may) in cases(&secrets) {
        check_alone(&what, &over_spop(&gate, &asked, &[], 0), may);
        // What HTTP itself cannot carry to the port is no case of the port's.
        let plain = asked.headers.iter().all(|(name, value)| {
            let ours = name.to_ascii_lowercase().starts_with("x-herdgate-");
            !ours
                && !name.eq_ignore_ascii_case("connection")
                && !name.eq_ignore_ascii_case("host")
                && value.len() < 9000
        });
        if plain && !asked.target.contains('#') {
            check_alone(&format!("HTTP port: {what}"), &over_http(port, &asked).await, may);
        }
    }
}

/// The spellings of paths of `cases/paths.rs`, without a proxy before them.
#[test]
fn no_spelling_of_a_path_gets_through_the_decision_alone() {
    let gate = gate("hg_team", "hg_all");
    for (method, target) in paths::TARGETS {
        let asked = Asked {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("Authorization".to_owned(), "Bearer hg_all".to_owned())],
            body: br#"{"model":"llama3.2:3b","name":"llama3.2:3b"}"#.to_vec(),
        };
        let verdict = over_spop(&gate, &asked, &[], 0);
        assert!(verdict.starts_with("refuse"), "{method} {target}: {verdict}");
    }
}

/// Row A3: unknown, revoked, not yet valid: one answer to the client, and the reason in the log.
fn a_key_that_does_not_count_gets_one_answer_whatever_the_reason(front: Front) {
    let stack = Stack::start(front).unwrap();
    let keys = [
        ("unknown_key", format!("hg_{}", "0".repeat(46))),
        ("revoked_key", stack.herdgate.new_key("gone", "team").unwrap()),
        ("early_key", stack.herdgate.new_key_with("early", "team", &["--not-before", "2099-01-01T00:00:00Z"]).unwrap()),
    ];
    stack.herdgate.run(&["key", "revoke", "gone"]).unwrap();
    let mut told = std::collections::BTreeSet::new();
    for (reason, secret) in &keys {
        let ask = || stack.send(&short_chat(SHARED_MODEL).key(secret).header("Connection", "close")).unwrap();
        // Files are read within a second or so.
        let mut answer = ask();
        wait_until(reason, Duration::from_secs(5), || {
            answer = ask();
            assert_eq!(answer.status, 401, "{reason}: {}", answer.text());
            stack.herdgate.why(answer.header("x-request-id").unwrap()).is_ok_and(|why| why.contains(reason))
        })
        .unwrap();
        let kept = |name: &str| !["x-request-id", "date"].contains(&name.to_ascii_lowercase().as_str());
        let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
        told.insert((headers, answer.text()));
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}

#[test]
fn a_key_that_does_not_count_gets_one_answer_through_real_haproxy() {
    a_key_that_does_not_count_gets_one_answer_whatever_the_reason(HAPROXY);
}

#[test]
fn a_key_that_does_not_count_gets_one_answer_through_real_nginx() {
    a_key_that_does_not_count_gets_one_answer_whatever_the_reason(NGINX);
}
