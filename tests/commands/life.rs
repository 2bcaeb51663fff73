//! One request's life, told by `explain ID` beside a daemon and without it; and what a raised key gets of a running one.

use crate::harness::client::{Request, Response, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::herdgate::Herdgate;
use crate::harness::scratch::Scratch;
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::time::Duration;

/// Far longer than any of it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

const PLANS: &str = r#"
[plans.poor]
models = ["*"]
max_output = 200
left_open = "refuse"
budget = ["1k/day"]
[plans.rich]
models = ["*"]
budget = ["100k/day"]
"#;

struct Site {
    /// Of key `ann`, on plan `poor`.
    secret: String,
    herdgate: Herdgate,
    _fleet: Fleet,
    _scratch: Scratch,
}

impl Site {
    fn start() -> Site {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::start(&scratch, 1_000).unwrap();
        let mut herdgate = Herdgate::new_with(&scratch, &fleet, PLANS).unwrap();
        let secret = herdgate.new_key("ann", "poor").unwrap();
        herdgate.start_at("info").unwrap();
        Site { secret, herdgate, _fleet: fleet, _scratch: scratch }
    }

    /// Returns what herdgate answers to nginx, of a chat that may come to 200 tokens of output.
    fn ask(&self, uid: &str) -> Response {
        let body = json!({ "model": SHARED_MODEL, "messages": [], "options": { "num_predict": 200 } });
        let request = Request::post("/handoff", body.to_string())
            .header("X-Herdgate-Method", "POST")
            .header("X-Herdgate-Uri", "/api/chat")
            .header("X-Herdgate-Source", "192.0.2.7")
            .header("X-Herdgate-Uid", uid)
            .header("Connection", "close")
            .key(&self.secret);
        send(self.herdgate.ports.http, &request).unwrap()
    }

    fn wait_for(&self, status: u16) {
        wait_until(&format!("an answer {status}"), PATIENCE, || self.ask("u").status == status).unwrap();
    }

    fn explain(&self, id: &str) -> Value {
        serde_json::from_str(&self.herdgate.run(&["explain", id, "--json"]).unwrap()).unwrap()
    }

    /// Waits until the ledger's file says this of a request; answers all that is told of it.
    fn wait_for_state(&self, id: &str, state: &str) -> Value {
        let mut told = Value::Null;
        wait_until(state, PATIENCE, || {
            told = self.explain(id);
            told["life"]["state"] == state
        })
        .unwrap();
        told
    }
}

/// The line of a request that went well, as HAProxy writes it.
fn settle(site: &Site, uid: &str, granted: &Response, output: u64) {
    let header = |name: &str| granted.header(name).unwrap().to_owned();
    let line = json!({
        "v": 1, "uid": uid, "id": header("x-request-id"), "receipt": header("x-herdgate-receipt"),
        "server": header("x-herdgate-server"), "status": 200, "end": "--", "attempts": 1, "bytes_in": 100,
        "bytes_out": 900, "ms_queue": 0, "ms_connect": 1, "ms_header": 5, "ms_total": 1_234, "in": 17, "out": output,
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(line.to_string().as_bytes(), site.herdgate.ports.usage).unwrap();
}

fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("no \"{part}\" in its place in:\n{text}") };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn what_became_of_a_request_is_told_with_its_decision_and_outlives_the_daemon() {
    let mut site = Site::start();
    let granted = site.ask("u1");
    assert_eq!(granted.status, 200, "{granted:?}");
    let (id, server) = (granted.header("x-request-id").unwrap(), granted.header("x-herdgate-server").unwrap());

    let told = site.wait_for_state(id, "open");
    let reserved = told["life"]["reserved"].as_f64().unwrap();
    assert!(reserved >= 200.0 && told["life"]["tokens_out"] == 200 && told["verdict"] == "allow", "{told}");
    let text = site.herdgate.run(&["explain", id]).unwrap();
    let held = format!(" for ann (user -), chat, model {SHARED_MODEL}: reserved {reserved:?} tokens\n");
    in_order(&text, &["allowed, to ", "granted 2", &held, "in flight, or its end was not reported yet\n"]);

    settle(&site, "u1", &granted, 9);
    let told = site.wait_for_state(id, "settled");
    let life = &told["life"];
    for (member, expected) in [
        ("evidence", json!("exact")),
        ("tokens_in", json!(17)),
        ("tokens_out", json!(9)),
        ("charge", json!(26.0)),
        ("reserved", json!(reserved)),
        ("server", json!(server)),
        ("status", json!(200)),
        ("ms", json!(1_234)),
        ("caller", json!("ann")),
        ("model", told["model"].clone()),
        ("user", Value::Null),
    ] {
        assert_eq!(life[member], expected, "{member}: {told}");
    }
    let day = life["day"].as_str().unwrap();
    let by = format!(", in the budgets of {day}; by {server}, status 200, 1234 ms\n");
    let became = ["granted 2", &held, "settled 2", "Z: 17 in, 9 out, charged 26.0 (exact)", &by];
    let text = site.herdgate.run(&["explain", id]).unwrap();
    in_order(&text, &["allowed, to "]);
    in_order(&text, &became);

    // Of a refusal there is nothing more to tell.
    let refused = send(site.herdgate.ports.http, &Request::post("/handoff", "{}")).unwrap();
    let refused = refused.header("x-request-id").unwrap().to_owned();
    assert!(site.herdgate.run(&["explain", &refused]).unwrap_err().contains("refused: "));

    // Another daemon remembers no decision of this one, and without one there is none to ask.
    let alone = |site: &Site, why: &str| {
        let told = site.explain(id);
        assert!(told["id"] == id && told["life"] == *life && told.get("verdict").is_none(), "{told}");
        let text = site.herdgate.run(&["explain", id]).unwrap();
        in_order(&text, &became);
        assert!(!text.contains("allowed") && !text.contains("refused"), "{text}");
        let fault = site.herdgate.run(&["explain", &refused]).unwrap_err();
        assert!(fault.contains(why), "{fault}");
    };
    site.herdgate.stop();
    alone(&site, "no daemon answers on unix:");
    site.herdgate.start_at("info").unwrap();
    alone(&site, "no such decision among the last");
}

#[test]
fn a_raise_holds_for_a_running_daemon_and_the_next_until_it_is_ended() {
    let mut site = Site::start();
    let granted = site.ask("u1");
    settle(&site, "u1", &granted, 950);
    site.wait_for_state(granted.header("x-request-id").unwrap(), "settled");
    assert_eq!(site.ask("u").status, 429, "its budget is used up");
    site.herdgate.run(&["key", "raise", "ann", "--plan", "rich", "--until", "1h"]).unwrap();
    site.wait_for(200);
    let raised = site.ask("u").header("x-request-id").unwrap().to_owned();
    let told = site.explain(&raised);
    assert!(told["plan"] == "poor" && told["raised_plan"] == "rich", "{told}");
    in_order(&site.herdgate.run(&["explain", &raised]).unwrap(), &["plan \"poor\"", "raised to plan \"rich\""]);
    site.herdgate.stop();
    site.herdgate.start_at("info").unwrap();
    site.wait_for(200);
    site.herdgate.run(&["key", "raise", "ann", "--end"]).unwrap();
    site.wait_for(429);
    // The log is written beside the answers, and may come after them.
    let audit = || -> Vec<String> {
        let log = site.herdgate.output();
        let changes = log.lines().filter(|line| line.contains("key changed") && line.contains("\"ann\""));
        changes.map(str::to_owned).collect()
    };
    wait_until("two lines of audit", PATIENCE, || audit().len() >= 2).unwrap();
    let audit = audit();
    assert_eq!(audit.len(), 2, "{audit:?}");
    in_order(&audit[0], &["what=\"raised\"", "raised_plan=\"rich\"", "until=\"2"]);
    assert!(audit[1].contains("what=\"raise ended\"") && !audit[1].contains("rich"), "{audit:?}");
}
