//! Row A1: nothing passes without this request's verdict, however the wire or the file is broken.

use super::relay::{Harm, Relay};
use crate::cases::short_chat;
use crate::harness::client::Request;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::{Herdgate, Ports};
use crate::harness::root;
use crate::harness::scratch::Scratch;
use crate::harness::stack::{Proxy, Stack};
use std::time::Duration;

/// HAProxy, the wire, herdgate.
fn behind_a_relay(version: Version) -> (Stack, Relay) {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    herdgate.start().unwrap();
    let relay = Relay::start(herdgate.ports.spop);
    let ports = Ports { spop: relay.address, ..herdgate.ports };
    let proxy = Proxy::HaProxy(HaProxy::start(version, &scratch, &ports, &fleet).unwrap());
    let stack = Stack { proxy, herdgate, fleet, scratch };
    stack.wait_for_service().unwrap();
    (stack, relay)
}

/// W1: late, cut, reset: herdgate said yes each time, and HAProxy never heard it in time and whole.
fn a_verdict_that_is_late_cut_or_lost_is_none(version: Version) {
    let (stack, relay) = behind_a_relay(version);
    let request = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    for harm in [Harm::Late, Harm::Reset, Harm::Cut] {
        relay.set(harm);
        let mut asked = 0;
        wait_until("the fault strikes", Duration::from_secs(10), || {
            let answer = stack.send(&request).unwrap();
            assert_eq!(answer.status, 503, "{harm:?}: {}", answer.text());
            asked += 1;
            relay.struck() >= 3
        })
        .unwrap();
        println!("{harm:?}: {asked} asked, struck {} times", relay.struck());
        assert_eq!(stack.fleet.asked().unwrap(), 0, "{harm:?}");
        relay.set(Harm::None);
        stack.wait_for_service().unwrap();
    }
}

/// W1: a yes to no question that is open is none, and a yes said twice is one. Two requests at once, one allowed and one
/// not; haproxy-ingress#962 could not tell an approval from a fault.
fn a_verdict_for_another_question_passes_nothing(version: Version) {
    let (stack, relay) = behind_a_relay(version);
    let good = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    let bad = short_chat(FOREIGN_MODEL).key(&stack.keys().team).header("Connection", "close");
    for harm in [Harm::Elsewhere, Harm::Twice] {
        relay.set(harm);
        for _ in 0..12 {
            let ask = |request: &Request| stack.send(request).map(|answer| answer.status).unwrap_or(503);
            let (good, bad) = std::thread::scope(|scope| {
                let (good, bad) = (scope.spawn(|| ask(&good)), scope.spawn(|| ask(&bad)));
                (good.join().unwrap(), bad.join().unwrap())
            });
            match harm {
                Harm::Elsewhere => assert_eq!((good, bad), (503, 503)),
                _ => assert!([200, 503].contains(&good) && [404, 503].contains(&bad), "{good} {bad}"),
            }
        }
        assert!(relay.struck() > 0, "{harm:?} never struck");
        println!("{harm:?}: struck {} times", relay.struck());
    }
    for seen in stack.fleet.seen().unwrap() {
        assert_eq!(seen.model, SHARED_MODEL);
    }
}

#[test]
fn w1_a_verdict_that_is_late_cut_or_lost_is_none_on_debian_haproxy() {
    a_verdict_that_is_late_cut_or_lost_is_none(Version::Debian);
}

#[test]
fn w1_a_verdict_that_is_late_cut_or_lost_is_none_on_haproxy_3_1_or_newer() {
    a_verdict_that_is_late_cut_or_lost_is_none(Version::Newer);
}

#[test]
fn w1_a_verdict_for_another_question_passes_nothing_on_debian_haproxy() {
    a_verdict_for_another_question_passes_nothing(Version::Debian);
}

#[test]
fn w1_a_verdict_for_another_question_passes_nothing_on_haproxy_3_1_or_newer() {
    a_verdict_for_another_question_passes_nothing(Version::Newer);
}

/// coraza-spoa#381, #382, spoa-modsecurity#3: an example that never sent its group, while everything looked healthy.
#[test]
fn coraza_spoa_381_382_a_question_never_asked_lets_nobody_pass() {
    let edits = [("http-request send-spoe-group herdgate ask unless emergency", "")];
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    herdgate.start().unwrap();
    let proxy = HaProxy::start_edited(&edits, Version::Debian, &scratch, &herdgate.ports, &fleet).unwrap();
    let stack = Stack { proxy: Proxy::HaProxy(proxy), herdgate, fleet, scratch };
    let keys = stack.keys();
    for key in [&keys.team, &keys.all] {
        for request in [short_chat(SHARED_MODEL), Request::get("/api/tags"), Request::post("/api/pull", "{}")] {
            let answer = stack.send(&request.key(key)).unwrap();
            assert_eq!(answer.status, 503, "{}", answer.text());
        }
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}

/// W1: 64 KiB of headers neither hide the question nor push it out of its frame.
#[test]
fn w1_headers_of_64_kib_change_no_verdict() {
    let stack = Stack::start(super::HAPROXY).unwrap();
    let junk = |request: Request| {
        (0..16).fold(request, |request, n| request.header(&format!("X-Junk-{n}"), &"j".repeat(4096)))
    };
    let none = stack.send(&junk(short_chat(SHARED_MODEL))).unwrap();
    assert_eq!(none.status, 401, "{}", none.text());
    let foreign = stack.send(&junk(short_chat(FOREIGN_MODEL)).key(&stack.keys().team)).unwrap();
    assert_eq!(foreign.status, 404, "{}", foreign.text());
    assert_eq!(stack.fleet.asked().unwrap(), 0);
    let good = stack.send(&junk(short_chat(SHARED_MODEL)).key(&stack.keys().team)).unwrap();
    assert_eq!(good.status, 200, "{}", good.text());
}

/// W2 to W5, as far as they are a matter of what the shipped files say.
#[test]
fn w2_to_w5_the_shipped_files_ask_once_decide_positively_and_leave_no_door() {
    let read = |name: &str| -> String {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        text.lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(|line| format!("{}\n", line.trim()))
            .collect()
    };
    let spoe = read("haproxy/spoe-herdgate.conf");
    // W2: after one error the engine is off for the transaction, so nothing may hang on a later event.
    assert!(!spoe.contains("event ") && !spoe.contains("continue-on-error"), "{spoe}");
    let haproxy = read("haproxy/haproxy.cfg");
    // W3: an engine error is typed as a boolean and holds a number.
    for line in haproxy.lines().filter(|line| line.contains("txn.herdgate.error)") && !line.starts_with("log-format")) {
        assert!(line.contains("-m found"), "{line}");
    }
    // W4, haproxy#1797: a balance by source never connects; none at all is what the version likes.
    let agent = haproxy.split("backend herdgate_agent").nth(1).unwrap();
    assert!(agent.contains("balance roundrobin"));
    // W5: one frontend, one rule that asks, and the last rule of the frontend denies.
    assert_eq!(haproxy.matches("\nfrontend ").count() + haproxy.matches("\nlisten ").count(), 1);
    assert_eq!(haproxy.matches("send-spoe-group").count(), 1);
    let frontend = haproxy.split("\nfrontend ").nth(1).unwrap().split("\nbackend ").next().unwrap();
    let last = frontend.lines().rfind(|line| line.starts_with("http-request ")).unwrap();
    assert_eq!(last, "http-request deny deny_status 503 unless allowed or answered or emergency");
    // Nothing but the block that is commented out can set the variable behind `emergency`.
    assert_eq!(haproxy.matches("txn.herdgate_emergency").count(), 1, "{haproxy}");
    // W5 in nginx: one location takes every path, and the rest cannot be reached by one.
    for mode in ["nginx/handoff.conf", "nginx/auth_request.conf"] {
        let text = read(mode);
        for location in text.lines().filter(|line| line.starts_with("location ")) {
            let closed = location.starts_with("location @") || location == "location = /.herdgate/auth {";
            assert!(closed || location == "location / {", "{mode}: {location}");
        }
        if let Some(inner) = text.split("location = /.herdgate/auth {").nth(1) {
            assert!(inner.trim_start().starts_with("internal;"), "{mode}");
        }
    }
}
