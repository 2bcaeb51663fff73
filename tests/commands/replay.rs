//! Requests as lines of text: the verdicts that come out, in the lines' own time.

use futures_util::FutureExt as _;
use herdgate::config::compile::compile;
use herdgate::decision::caller::blocks::Blocks;
use herdgate::decision::caller::keyset::{Behalf, Digest, Key, KeySet};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::reason::Code;
use herdgate::decision::verdict::Verdict;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::ledger::tokens::observed::ObservedUsage;
use herdgate::metrics::{Metrics, Port};
use herdgate::spop::notify::{Messages, put_message};
use herdgate::spop::translate::inquiry;
use herdgate::spop::wire::TypedValue as Spop;
use herdgate::time::clock::Clock;
use herdgate::time::date;
use herdgate::trial::{PASSES, Rehearsal, Request, configured};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

pub(super) const CONFIG: &str = r#"
[[server]]
name = "gpu1"
url = "http://10.0.1.10:11434"
models = ["llama3.2:3b", "qwen3:8b"]
[[server]]
name = "gpu2"
url = "http://10.0.1.11:11434"
models = ["llama3.2:3b"]
[[server]]
name = "spare"
url = "http://10.0.1.12:11434"
weight = 0
models = ["mistral:7b"]
[plans.wide]
models = ["*"]
[plans.team]
models = ["llama3.*"]
routes = ["inference"]
[plans.slow]
models = ["*"]
requests = "60/min"
burst = 2
[plans.one]
models = ["*"]
concurrency = 1
[plans.frugal]
models = ["*"]
budget = ["1000/day"]
[plans.hasty]
models = ["*"]
tokens = "2000/min"
[plans.bounded]
models = ["*"]
max_output = 100
left_open = "allow"
[plans.nobody]
models = ["llama3.2:3b"]
requests = "1/h"
[teams.research]
plan = "one"
[auth]
failures = "2/h"
anonymous = "nobody"
anonymous_requests = "3/h"
anonymous_concurrency = 1
"#;

/// Half past noon of a day.
pub(super) const NOON: &str = "2026-06-01T12:00:00Z";

/// One key a plan and a fault; each key's secret is its name.
fn keys() -> KeySet {
    let mut keys = KeySet::default();
    let noon = date::parse(NOON).unwrap();
    for (name, plan, team, user_plan) in [
        ("wide", "wide", None, None),
        ("team", "team", None, None),
        ("slow", "slow", None, None),
        ("one", "one", None, None),
        ("bounded", "bounded", None, None),
        ("frugal", "frugal", None, None),
        ("hasty", "hasty", None, None),
        ("ann", "wide", Some("research"), None),
        ("bob", "wide", Some("research"), None),
        ("webui", "wide", None, Some("one")),
        ("slowui", "wide", None, Some("slow")),
        ("other-header", "wide", None, Some("one")),
        ("revoked", "wide", None, None),
        ("expired", "wide", None, None),
        ("early", "wide", None, None),
        ("no-plan", "gone", None, None),
        ("no-team", "wide", Some("gone"), None),
    ] {
        let header = if name == "other-header" { "x-user" } else { PASSES };
        let users = user_plan.map(|plan| Behalf { header: header.into(), plan: keys.intern_plan(plan).unwrap() });
        let key = Key {
            name: name.into(),
            plan: keys.intern_plan(plan).unwrap(),
            team: team.map(|team| keys.intern_team(team).unwrap()),
            not_before_unix_ms: (name == "early").then_some((noon + 1).into()),
            expires_unix_ms: (name == "expired").then_some(noon.into()),
            revoked: name == "revoked",
            scope: Scope::of("key", name.as_bytes()),
            on_behalf: users.map(Box::new),
        };
        assert!(keys.insert(Digest::of(name.as_bytes()), key));
    }
    keys
}

/// Returns a gate whose requests come at noon, unless they say otherwise.
fn rehearsal() -> Rehearsal {
    let config = compile(CONFIG, "f.toml", Path::new("")).unwrap();
    let fleet = configured(&config.policy);
    let noon = Moment { mono_ns: 1_000_000_000, unix_ms: date::parse(NOON).unwrap() };
    Rehearsal::new(config, keys(), fleet, Blocks::default(), PASSES, noon)
}

/// Returns a chat with `key` for `model`.
pub(super) fn chat(key: &str, model: &str) -> Value {
    let body = json!({ "model": model, "messages": [] }).to_string();
    let headers = if key.is_empty() { json!([]) } else { json!([["Authorization", format!("Bearer {key}")]]) };
    json!({ "method": "POST", "path": "/api/chat", "headers": headers, "src": "192.0.2.1", "body": body })
}

/// Returns the line with other members.
pub(super) fn with(mut line: Value, more: Value) -> Value {
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

/// Returns the line with one more header.
pub(super) fn and(mut line: Value, name: &str, value: &str) -> Value {
    line["headers"].as_array_mut().unwrap().push(json!([name, value]));
    line
}

fn put(rehearsal: &mut Rehearsal, line: &Value) -> Value {
    let view = rehearsal.view();
    let text = line.to_string();
    let request = Request::read(&text).map_err(|fault| format!("{text}: {fault:?}")).unwrap();
    let ruling = rehearsal.put(&view, &request, false).unwrap();
    serde_json::to_value(&ruling.account).unwrap()
}

/// `server`, `answer`, or `status code reason`.
pub(super) fn told(account: &Value) -> String {
    let text = |member: &str| account[member].as_str().unwrap_or("-").to_owned();
    match text("verdict").as_str() {
        "allow" => text("server"),
        "answer" => "answer".to_owned(),
        _ => format!("{} {} {}", account["status"], text("code"), text("reason")),
    }
}

/// Requests of one run, and what becomes of each.
fn check(lines: &[(Value, &str)]) -> Vec<Value> {
    let mut rehearsal = rehearsal();
    lines
        .iter()
        .map(|(line, expected)| {
            let account = put(&mut rehearsal, line);
            assert_eq!(told(&account), *expected, "{line}");
            account
        })
        .collect()
}

#[test]
fn every_code_and_the_reasons_behind_it_come_out() {
    const LLAMA: &str = "llama3.2:3b";
    let ok = || chat("wide", LLAMA);
    let get = |path: &str| with(ok(), json!({ "method": "GET", "path": path, "body": null }));
    let body = |body: &str| with(ok(), json!({ "body": body }));
    let users = || and(chat("webui", LLAMA), PASSES, "ann@example.com");
    // Each of its own network where credentials fail, so that failing does not catch up with the next.
    let from = |line: Value, host: u8| with(line, json!({ "src": format!("198.51.100.{host}") }));
    let mut accounts = check(&[
        (ok(), "gpu1"),
        (chat("wide", "QWEN3:8B"), "gpu1"),
        (get("/v1/models"), "answer"),
        (get("/v1/models/library%2Fllama3.2%3A3b"), "answer"),
        (from(chat("unknown", LLAMA), 1), "401 invalid_api_key unknown_key"),
        (from(chat("revoked", LLAMA), 2), "401 invalid_api_key revoked_key"),
        (from(chat("expired", LLAMA), 3), "401 invalid_api_key expired_key"),
        (from(chat("early", LLAMA), 4), "401 invalid_api_key early_key"),
        (from(and(ok(), "x-api-key", "wide"), 5), "401 invalid_api_key several_credentials"),
        (from(and(chat("", LLAMA), "api-key", "a b"), 6), "401 invalid_api_key malformed_credential"),
        (chat("no-plan", LLAMA), "403 not_permitted unknown_plan"),
        (chat("no-team", LLAMA), "403 not_permitted unknown_team"),
        (chat("other-header", LLAMA), "403 not_permitted on_behalf_not_passed"),
        (and(users(), PASSES, "bob@example.com"), "403 not_permitted on_behalf_ambiguous"),
        (get("/api/unknown"), "404 unknown_route unknown_route"),
        (get("/api/%74ags"), "404 unknown_route unsafe_path"),
        (with(ok(), json!({ "path": "/api/chat?model=x" })), "400 ambiguous_body model_in_query"),
        (with(ok(), json!({ "path": "/api/pull" })), "403 not_permitted route_not_in_plan"),
        (
            with(chat("team", ""), json!({ "method": "GET", "path": "/api/tags" })),
            "403 not_permitted route_not_in_plan",
        ),
        (chat("wide", "absent"), "404 model_not_found unknown_model"),
        (chat("team", "qwen3:8b"), "404 model_not_found model_not_in_plan"),
        (chat("wide", "mistral:7b"), "503 no_server no_server"),
        (with(ok(), json!({ "body_size": 900_000 })), "413 body_not_visible body_not_visible"),
        (and(ok(), "Content-Encoding", "gzip"), "415 unsupported_encoding encoding"),
        (body("no JSON"), "400 invalid_body body_syntax"),
        (body("{\"model\":"), "400 invalid_body body_incomplete"),
        (body(&"[".repeat(300)), "400 invalid_body body_syntax"),
        (body(&format!("{{\"a\":{}", "[".repeat(300))), "400 invalid_body body_too_deep"),
        (body("{\"model\":7}"), "400 invalid_body body_wrong_type"),
        (body("{\"model\":\"a\",\"model\":\"b\"}"), "400 ambiguous_body body_duplicate_key"),
        (body("{\"Model\":\"a\"}"), "400 ambiguous_body body_case_variant"),
        (body("{\"model\":\"\\ud800\"}"), "400 invalid_body body_not_utf8"),
        (chat("bounded", LLAMA), "gpu2"),
        (with(chat("bounded", LLAMA), asking_for(101)), "400 exceeds_limit over_bound"),
        (with(ok(), json!({ "method": "" })), "503 overloaded malformed_inquiry"),
    ]);
    let held = json!({ "usage": { "in": 9, "out": 9, "ms": 60_000 } });
    let anonymous = |host: u8| from(chat("", LLAMA), host);
    accounts.extend(check(&[
        (chat("slow", LLAMA), "gpu1"),
        (chat("slow", LLAMA), "gpu2"),
        (chat("slow", LLAMA), "429 rate_limit_exceeded request_rate"),
        (with(chat("one", LLAMA), held.clone()), "gpu1"),
        (chat("one", LLAMA), "429 concurrency_exceeded concurrency"),
        (with(chat("ann", LLAMA), held.clone()), "gpu2"),
        (chat("bob", LLAMA), "429 concurrency_exceeded concurrency_of_team"),
        (with(users(), held.clone()), "gpu1"),
        (and(chat("webui", LLAMA), PASSES, " ANN@example.com"), "429 concurrency_exceeded concurrency_of_user"),
        (and(chat("slowui", LLAMA), PASSES, "ann"), "gpu2"),
        (and(chat("slowui", LLAMA), PASSES, "ann"), "gpu2"),
        (and(chat("slowui", LLAMA), PASSES, "ann"), "429 rate_limit_exceeded request_rate_of_user"),
        (anonymous(1), "gpu2"),
        (anonymous(1), "429 rate_limit_exceeded request_rate_of_address"),
        (with(anonymous(2), held), "gpu2"),
        (anonymous(3), "429 concurrency_exceeded concurrency_of_all_anonymous"),
        (with(chat("frugal", LLAMA), json!({ "usage": { "in": 100, "out": 850 } })), "gpu2"),
        (chat("frugal", LLAMA), "429 quota_exceeded budget"),
        (with(chat("hasty", LLAMA), json!({ "usage": { "in": 100, "out": 1900 } })), "gpu1"),
        (chat("hasty", LLAMA), "429 rate_limit_exceeded token_rate"),
        (with(chat("hasty", LLAMA), asking_for(3000)), "400 exceeds_limit never_fits"),
        (chat("unknown", LLAMA), "401 invalid_api_key unknown_key"),
        (chat("unknown", LLAMA), "401 invalid_api_key unknown_key"),
        (chat("wide", LLAMA), "429 rate_limit_exceeded failed_credentials"),
    ]));
    let codes: BTreeSet<&str> = accounts.iter().filter_map(|account| account["code"].as_str()).collect();
    let all: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes, all);
}

#[test]
fn an_account_has_the_published_members_and_null_where_nothing_was_read() {
    let accounts = check(&[
        (chat("slow", " LLAMA3.2:3B "), "gpu1"),
        (chat("wide", "absent"), "404 model_not_found unknown_model"),
        (chat("team", "qwen3:8b"), "404 model_not_found model_not_in_plan"),
        (chat("revoked", "llama3.2:3b"), "401 invalid_api_key revoked_key"),
    ]);
    let members = [
        "verdict",
        "status",
        "code",
        "reason",
        "caller",
        "plan",
        "requested_model",
        "model",
        "server",
        "reserved_tokens",
        "stream",
        "max_output",
        "num_ctx",
        "keep_alive",
        "headers",
    ];
    for account in &accounts {
        let found: BTreeSet<&str> = account.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(found, BTreeSet::from(members));
    }
    // What the body asks for, and what is held for it: 3 tokens for 9 bytes of prompt and 2 for its template, 77 of output.
    let asked = json!({
        "model": "llama3.2:3b",
        "messages": [{ "role": "user", "content": "123456789" }],
        "stream": false,
        "keep_alive": "5m",
        "options": { "num_predict": 77, "num_ctx": 4096 },
    });
    let wish = with(chat("wide", "llama3.2:3b"), json!({ "body": asked.to_string() }));
    for (account, expected) in [
        (&check(&[(wish, "gpu1")])[0], json!([82, false, 77, 4096, "5m"])),
        (&accounts[1], json!([null, true, null, null, null])),
        (&accounts[3], json!([null, null, null, null, null])),
    ] {
        let found: Vec<Value> = ["reserved_tokens", "stream", "max_output", "num_ctx", "keep_alive"]
            .iter()
            .map(|member| account[*member].clone())
            .collect();
        assert_eq!(Value::Array(found), expected, "{account}");
    }
    let some =
        |account: &Value, names: &[&str]| -> Vec<Value> { names.iter().map(|name| account[name].clone()).collect() };
    let names = ["caller", "plan", "requested_model", "model"];
    assert_eq!(some(&accounts[0], &names), ["slow", "slow", " LLAMA3.2:3B ", "llama3.2:3b"]);
    let headers = json!({
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1s",
    });
    assert_eq!(accounts[0]["headers"], headers);
    assert_eq!(some(&accounts[1], &names), [json!("wide"), json!("wide"), json!("absent"), Value::Null]);
    assert_eq!(some(&accounts[2], &names), ["team", "team", "qwen3:8b", "qwen3:8b"]);
    assert_eq!(some(&accounts[3], &names), [json!("revoked"), Value::Null, Value::Null, Value::Null]);
    assert_eq!(accounts[3]["headers"], json!({ "www-authenticate": "Bearer" }));
}

#[test]
fn time_is_what_the_lines_say() {
    let at = |seconds: i64, key: &str| {
        let at = date::format(date::parse(NOON).unwrap() + seconds * 1000);
        with(chat(key, "llama3.2:3b"), json!({ "at": at }))
    };
    let lasting = |line: Value, ms: u64| with(line, json!({ "usage": { "in": 1, "out": 1, "ms": ms } }));
    // A rate: two at once, one more a second. Without `at`, the time before.
    check(&[
        (at(0, "slow"), "gpu1"),
        (chat("slow", "llama3.2:3b"), "gpu2"),
        (chat("slow", "llama3.2:3b"), "429 rate_limit_exceeded request_rate"),
        (at(1, "slow"), "gpu1"),
        (at(1, "slow"), "429 rate_limit_exceeded request_rate"),
        // Time that goes back gives nothing.
        (at(-3600, "slow"), "429 rate_limit_exceeded request_rate"),
        (at(1, "slow"), "429 rate_limit_exceeded request_rate"),
        (at(3600, "slow"), "gpu2"),
    ]);
    // A slot: held until its usage says that it ended, or not at all.
    check(&[
        (lasting(at(0, "one"), 2_000), "gpu1"),
        (at(1, "one"), "429 concurrency_exceeded concurrency"),
        (at(2, "one"), "gpu2"),
        (at(2, "one"), "gpu1"),
        (lasting(at(2, "one"), 0), "gpu2"),
        (at(2, "one"), "gpu1"),
    ]);
    // However long that is: nothing of the replay's own running ends it sooner.
    check(&[
        (lasting(at(0, "one"), 600_000), "gpu1"),
        (at(120, "one"), "429 concurrency_exceeded concurrency"),
        (at(599, "one"), "429 concurrency_exceeded concurrency"),
        (at(600, "one"), "gpu2"),
    ]);
    // A key ends when the lines' time comes to its end.
    check(&[(at(-1, "expired"), "gpu1"), (at(0, "expired"), "401 invalid_api_key expired_key")]);
}

/// Returns what HAProxy would show of a line.
fn spop_payload(line: &Value, uid: &str) -> Vec<u8> {
    let header = |name: &str| -> (Spop<'_>, Spop<'_>) {
        let named = line["headers"].as_array().unwrap().iter();
        let values: Vec<&str> = named
            .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
            .map(|pair| pair[1].as_str().unwrap())
            .collect();
        let count = i64::try_from(values.len()).unwrap();
        (values.last().map_or(Spop::Null, |value| Spop::String(value.as_bytes())), Spop::Int64(count))
    };
    let (authorization, authorization_n) = header("authorization");
    let (x_api_key, x_api_key_n) = header("x-api-key");
    let (on_behalf, on_behalf_n) = header(PASSES);
    let body = line["body"].as_str().unwrap().as_bytes();
    let len = i64::try_from(body.len()).unwrap();
    let size = line["body_size"].as_i64().unwrap_or(len);
    let src = match line["src"].as_str().map(|src| src.parse().unwrap()) {
        None => Spop::Null,
        Some(IpAddr::V4(v4)) => Spop::Ipv4(v4),
        Some(IpAddr::V6(v6)) => Spop::Ipv6(v6),
    };
    let arguments = [
        (&b"uid"[..], Spop::String(uid.as_bytes())),
        (b"method", Spop::String(line["method"].as_str().unwrap().as_bytes())),
        (b"target", Spop::String(line["path"].as_str().unwrap().as_bytes())),
        (b"src", src),
        (b"authorization", authorization),
        (b"authorization_n", authorization_n),
        (b"x_api_key", x_api_key),
        (b"x_api_key_n", x_api_key_n),
        (b"on_behalf", on_behalf),
        (b"on_behalf_n", on_behalf_n),
        (b"on_behalf_name", Spop::String(PASSES.as_bytes())),
        (b"encoding", header("content-encoding").0),
        (b"body", Spop::Binary(body)),
        (b"body_len", Spop::Int64(len)),
        (b"body_size", Spop::Int64(size)),
    ];
    let mut payload = Vec::new();
    put_message(&mut payload, b"request", &arguments);
    payload
}

fn generated() -> impl Strategy<Value = Vec<(Value, u64)>> {
    let method = prop::sample::select(vec!["POST", "GET", "HEAD", "post"]);
    let path = prop::sample::select(vec![
        "/api/chat",
        "/v1/chat/completions",
        "/v1/messages",
        "/api/show",
        "/api/tags",
        "/v1/models/qwen3:8b",
        "/api/pull",
        "/api//chat",
        "/api/chat?model=a",
        "http://h/api/chat",
        "x",
    ]);
    let key = prop::sample::select(vec![
        "wide",
        "team",
        "slow",
        "one",
        "ann",
        "bob",
        "webui",
        "slowui",
        "other-header",
        "revoked",
        "expired",
        "early",
        "no-plan",
        "no-team",
        "unknown",
        "",
    ]);
    let body = prop_oneof![
        3 => prop::sample::select(vec!["llama3.2:3b", "LLAMA3.2:3b", "qwen3:8b", "mistral:7b", "absent", ""])
            .prop_map(|model| json!({ "model": model }).to_string()),
        1 => prop::sample::select(vec!["", "{}", "[]", "{\"model\":\"a\",\"model\":\"b\"}", "{\"name\":\"qwen3:8b\"}", "{\"model\":7}"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,40}",
    ];
    let more = prop::sample::select(vec![
        None,
        None,
        None,
        Some(("x-api-key", "wide")),
        Some(("AUTHORIZATION", "Bearer wide")),
        Some((PASSES, "ann")),
        Some((PASSES, "a,b")),
        Some(("Content-Encoding", "br")),
        Some(("content-encoding", "identity")),
        Some(("Cookie", "a=b")),
    ]);
    let src = prop::sample::select(vec![json!("192.0.2.1"), json!("192.0.2.2"), json!("2001:db8::1"), Value::Null]);
    let one = (method, path, key, body, more, src, 0_u64..700, prop::bool::weighted(0.1));
    let one = one.prop_map(|(method, path, key, body, more, src, passed_ms, cut)| {
        let mut line = with(chat(key, ""), json!({ "method": method, "path": path, "body": body, "src": src }));
        if cut {
            line["body_size"] = json!(line["body"].as_str().unwrap().len() + 1);
        }
        if let Some((name, value)) = more {
            line = and(line, name, value);
        }
        (line, passed_ms)
    });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_replayed_request_gets_the_verdict_that_haproxy_would_get(lines in generated()) {
        let mut rehearsal = rehearsal();
        let config = compile(CONFIG, "f.toml", Path::new("")).unwrap();
        let state = Arc::new(State::new());
        state.publish_fleet(Arc::new(configured(&config.policy)));
        state.publish_policy(Arc::new(config.policy));
        state.publish_keys(Arc::new(keys()));
        let receipts = Receipts::new([7; 32], 1);
        let gate = Gate::new(GateParts {
            settings: config.settings.of_gate(),
            ..GateParts::new(state, Arc::new(Metrics::new()), Clock::new(), receipts)
        });
        let view = gate.state.view();
        let mut now = Moment { mono_ns: 1_000_000_000, unix_ms: date::parse(NOON).unwrap() / 1000 * 1000 };
        for (number, (line, passed_ms)) in lines.iter().enumerate() {
            // Lines say whole seconds here.
            now = now.plus_ns(passed_ms / 300 * 1_000_000_000);
            let account = put(&mut rehearsal, &with(line.clone(), json!({ "at": date::format(now.unix_ms) })));
            let uid = format!("u{number}");
            let payload = spop_payload(line, &uid);
            let asked = inquiry(Messages::new(&payload).unwrap()).unwrap();
            let decided = gate.decide_at(&view, Question::new(&asked, Port::Spop, now), now).now_or_never().unwrap();
            let expected = match &decided.verdict {
                Verdict::Allow(grant) => grant.server.name.to_string(),
                Verdict::Answer(_) => "answer".to_owned(),
                Verdict::Refuse(refusal) => {
                    format!("{} {} {}", refusal.status(), refusal.code().as_str(), refusal.reason.as_str())
                }
            };
            prop_assert_eq!(told(&account), expected, "{}", line);
            gate.settle_at("", uid.as_bytes(), &ObservedUsage::default(), now);
        }
    }
}

/// Returns a body that asks for so many tokens.
pub(super) fn asking_for(tokens: u32) -> Value {
    json!({ "body": format!("{{\"model\":\"llama3.2:3b\",\"options\":{{\"num_predict\":{tokens}}}}}") })
}
