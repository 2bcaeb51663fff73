//! Whole decisions as data: one inquiry, one line of verdict, and the body a client would read.

use futures_util::FutureExt as _;
use herdgate::decision::answer::catalog;
use herdgate::decision::answer::dialect::refusal_body;
use herdgate::decision::caller::keyset::{Digest, Key, KeySet};
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{Failure, FleetView, Inventory, LoadedModel, Model, Preference};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::{Quota, Scope, Terms};
use herdgate::decision::plan::policy::{ModelPattern, Plan, Policy, RouteClasses};
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::decision::request::body::BodyReader;
use herdgate::decision::request::name::ModelName;
use herdgate::decision::verdict::Verdict;
use herdgate::decision::view::View;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{DEADLINE_NS, Gate, GateParts, Question};
use herdgate::metrics::{Metrics, Port};
use herdgate::time::clock::Clock;
use sha2::Digest as _;
use std::num::NonZeroU64;
use std::sync::Arc;

const CHAT: &str = "POST /api/chat";
const LLAMA: &str = r#"{"model":"llama3.2:3b"}"#;

/// `request` is `METHOD target`; `key` the credential or empty. The expectation is `allow first second`, `answer body` or
/// `refuse status code reason retry-after body`.
fn check(gate: &Gate, request: &str, key: &str, body: &str, expected: &str) {
    assert_eq!(decide(gate, request, key, body, at(0)), expected, "{request} {key} {body}");
}

#[test]
fn a_caller_reaches_the_servers_that_have_its_model_in_turn() {
    let gate = gate();
    for expected in ["allow s1 s2", "allow s2 s1", "allow s1 s2"] {
        check(&gate, CHAT, "unlimited", LLAMA, expected);
    }
    check(&gate, "POST /v1/chat/completions", "unlimited", r#"{"model":"qwen3:8b"}"#, "allow s2 -");
    check(&gate, "POST /api/show", "unlimited", r#"{"name":"qwen3:8b"}"#, "allow s2 -");
    check(&gate, "POST /api/show", "unlimited", r#"{"model":"","name":"qwen3:8b"}"#, "allow s2 -");
}

/// olla#144: a server that fails at once has nothing on its way, and so looks like the freest.
#[test]
fn olla_144_a_server_that_failed_real_requests_is_chosen_last_and_then_one_at_a_time() {
    let gate = gate();
    let prefer = |preference: Preference| {
        let mut fleet = FleetView::clone(&gate.state.view().fleet);
        fleet.servers.get_mut("s1").unwrap().preference = preference;
        gate.state.publish_fleet(Arc::new(fleet));
    };
    prefer(Preference::Last);
    (0..4).for_each(|_| check(&gate, CHAT, "unlimited", LLAMA, "allow s2 s1"));
    prefer(Preference::OneAtATime);
    let tried = (0..6).map(|_| decide(&gate, CHAT, "unlimited", LLAMA, at(0)));
    assert_eq!(tried.filter(|verdict| verdict == "allow s1 s2").count(), 1, "one request at a time tries it");
    prefer(Preference::Sound);
    check(&gate, CHAT, "unlimited", LLAMA, "allow s1 s2");
}

#[test]
fn every_spelling_of_a_model_reaches_its_pool() {
    for name in ["LLAMA3.2:3B", " llama3.2:3b ", "library/llama3.2:3b", "registry.ollama.ai/library/llama3.2:3b"] {
        check(&gate(), CHAT, "unlimited", &format!(r#"{{"model":"{name}"}}"#), "allow s1 s2");
    }
}

#[test]
fn refusals_before_the_body() {
    let gate = gate();
    let unauthorized = r#"{"error":"a valid API key is required"}"#;
    check(&gate, CHAT, "", LLAMA, &format!("refuse 401 invalid_api_key no_credential - {unauthorized}"));
    check(&gate, CHAT, "nobody", LLAMA, &format!("refuse 401 invalid_api_key unknown_key - {unauthorized}"));
    check(&gate, CHAT, "revoked", LLAMA, &format!("refuse 401 invalid_api_key revoked_key - {unauthorized}"));
    check(&gate, CHAT, "expired", LLAMA, &format!("refuse 401 invalid_api_key expired_key - {unauthorized}"));
    check(
        &gate,
        CHAT,
        "orphan",
        LLAMA,
        r#"refuse 403 not_permitted unknown_plan - {"error":"your plan does not permit this request"}"#,
    );
    check(&gate, "POST /api/%70ull", "", "", r#"refuse 404 unknown_route unsafe_path - {"error":"unknown route"}"#);
    check(
        &gate,
        "POST /api/pull",
        "unlimited",
        LLAMA,
        r#"refuse 403 not_permitted route_not_in_plan - {"error":"this endpoint is not offered to you through this gateway"}"#,
    );
    check(
        &gate,
        CHAT,
        "lister",
        LLAMA,
        r#"refuse 403 not_permitted route_not_in_plan - {"error":"this endpoint is not offered to you through this gateway"}"#,
    );
    check(
        &gate,
        "POST /v1/chat/completions?model=x",
        "unlimited",
        LLAMA,
        r#"refuse 400 ambiguous_body model_in_query - {"error":{"message":"the model must be named in the request body, not in the query","type":"invalid_request_error","param":null,"code":"ambiguous_body"}}"#,
    );
}

/// LiteLLM GHSA-69x8-hrgq-fjj8: stored hashes were shown, and accepted as login.
#[test]
fn ghsa_69x8_hrgq_fjj8_a_digest_never_authenticates() {
    let digest: String = sha2::Sha256::digest(b"unlimited").iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = r#"refuse 401 invalid_api_key unknown_key - {"error":"a valid API key is required"}"#;
    check(&gate(), CHAT, &digest, LLAMA, expected);
}

#[test]
fn an_unknown_model_and_one_outside_the_plan_get_the_same_answer() {
    let gate = gate();
    for (model, reason) in [("mistral", "unknown_model"), ("qwen3:8b", "model_not_in_plan")] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let expected = format!(r#"refuse 404 model_not_found {reason} - {{"error":"model '{model}' not found"}}"#);
        check(&gate, CHAT, "team", &body, &expected);
    }
    let long = "m".repeat(300);
    let found = decide(&gate, CHAT, "team", &format!(r#"{{"model":"{long}"}}"#), at(0));
    assert!(found.starts_with("refuse 404 model_not_found unknown_model"), "{found}");
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_refused() {
    let gate = gate();
    for (body, start) in [
        (r#"{"model":"llama3.2:3b","model":"qwen3:8b"}"#, "refuse 400 ambiguous_body body_duplicate_key -"),
        (r#"{"model":"llama3.2:3b","Model":"qwen3:8b"}"#, "refuse 400 ambiguous_body body_case_variant -"),
        (r#"{"MODEL":"llama3.2:3b"}"#, "refuse 400 ambiguous_body body_case_variant -"),
        (r#"{"model":7}"#, "refuse 400 invalid_body body_wrong_type -"),
        (r#"{"messages":[]}"#, "refuse 400 invalid_body body_wrong_type -"),
        (r#"{"model":"llama3.2:3b""#, "refuse 400 invalid_body body_incomplete -"),
        (r#"{"model":"llama3.2:3b"} x"#, "refuse 400 invalid_body body_syntax -"),
        ("", "refuse 400 invalid_body body_incomplete -"),
    ] {
        let found = decide(&gate, CHAT, "unlimited", body, at(0));
        assert!(found.starts_with(start), "{body}: {found}");
    }
}

#[test]
fn a_prefix_is_never_decided_on() {
    let gate = gate();
    let view = gate.state.view();
    let whole = format!(r#"{{"model":"llama3.2:3b","prompt":"{}"}}"#, "x".repeat(9_000));
    let invisible = "refuse 413 body_not_visible body_not_visible";
    for (seen, size, expected) in [
        (whole.as_bytes(), whole.len(), "allow"),
        (whole.as_bytes(), whole.len() + 1, invisible),
        (&whole.as_bytes()[..8_000], whole.len(), invisible),
        (&whole.as_bytes()[..8_000], 8_000, invisible),
        (&whole.as_bytes()[..100], 100, "refuse 400 invalid_body body_incomplete"),
    ] {
        let shown = BodyShown::Bytes { seen, size: size as u64 };
        let found = describe(&gate, &view, &inquiry("POST", "/api/chat", "unlimited", shown), at(0), at(0));
        assert!(found.starts_with(expected), "{} of {size}: {found}", seen.len());
    }
    let shown = BodyShown::TooLarge;
    let found = describe(&gate, &view, &inquiry("POST", "/api/chat", "unlimited", shown), at(0), at(0));
    assert!(found.starts_with(invisible), "{found}");
}

#[test]
fn only_a_plan_that_may_use_every_model_passes_without_a_body() {
    let gate = gate();
    let view = gate.state.view();
    for (key, expected) in [("unlimited", "allow s1 s2"), ("team", "refuse 403 not_permitted body_hidden")] {
        let found = describe(&gate, &view, &inquiry("POST", "/api/chat", key, BodyShown::Hidden), at(0), at(0));
        assert!(found.starts_with(expected), "{key}: {found}");
    }
}

/// Ollama sends the prompts of some models to another company: those with a tag `cloud`, and those its list gives a
/// `remote_host` (Ollama `server/routes.go`, ollama#16308). `*` permits neither, with a body or without.
#[test]
fn a_pattern_permits_no_model_that_leaves_the_fleet() {
    let gate = gate();
    for (model, seen) in [
        ("qwen3:8b", "allow s2 -"),
        ("elsewhere:1b", "refuse 404 model_not_found model_not_in_plan"),
        ("gpt-oss:120b-cloud", "refuse 404 model_not_found model_not_in_plan"),
    ] {
        let mut fleet = FleetView::default();
        for (name, models) in [("s1", &["llama3.2:3b"][..]), ("s2", &[model])] {
            let mut track = ServerTrack::default();
            track.report(Ok(inventory(models, "2026-11-21T10:00:00Z", "0.30.1")), 1, 1);
            fleet.servers.insert(name.into(), track.view());
        }
        gate.state.publish_fleet(Arc::new(fleet));
        let found = decide(&gate, CHAT, "unlimited", &format!(r#"{{"model":"{model}"}}"#), at(0));
        assert!(found.starts_with(seen), "{model}: {found}");
        let view = gate.state.view();
        let found = describe(&gate, &view, &inquiry("POST", "/api/chat", "unlimited", BodyShown::Hidden), at(0), at(0));
        let hidden = if seen.starts_with("allow") { "allow" } else { "refuse 403 not_permitted body_hidden" };
        assert!(found.starts_with(hidden), "without a body, {model}: {found}");
    }
}

#[test]
fn an_encoded_body_is_refused_unless_the_encoding_is_identity() {
    let gate = gate();
    let view = gate.state.view();
    let shown = BodyShown::Bytes { seen: LLAMA.as_bytes(), size: LLAMA.len() as u64 };
    for (encoding, expected) in [
        ("identity", "allow"),
        ("Identity", "allow"),
        ("", "allow"),
        ("zstd", "refuse 415"),
        ("gzip, identity", "refuse 415"),
    ] {
        let mut inquiry = inquiry("POST", "/api/chat", "unlimited", shown);
        inquiry.encoding = Some(encoding.as_bytes());
        let found = describe(&gate, &view, &inquiry, at(0), at(0));
        assert!(found.starts_with(expected), "{encoding}: {found}");
    }
}

#[test]
fn a_burst_over_the_rate_is_refused_with_an_honest_time_to_come_back() {
    let gate = gate();
    for expected in ["allow s1 s2", "allow s2 s1", "allow s1 s2"] {
        check(&gate, CHAT, "team", LLAMA, expected);
    }
    let refused =
        r#"refuse 429 rate_limit_exceeded request_rate 10 {"error":"rate limit exceeded, try again in 10 s"}"#;
    check(&gate, CHAT, "team", LLAMA, refused);
    let (early, later) = (at(9_999_000_000), at(10_000_000_000));
    assert!(decide(&gate, CHAT, "team", LLAMA, early).starts_with("refuse 429"));
    assert!(decide(&gate, CHAT, "team", LLAMA, later).starts_with("allow"));
    // Another caller on the same plan has books of its own, and the catalog takes nothing.
    assert!(decide(&gate, CHAT, "team2", LLAMA, at(0)).starts_with("allow"));
    assert!(decide(&gate, "GET /api/tags", "team", "", at(0)).starts_with("answer"));
}

/// LiteLLM #39309: rejected calls were charged.
#[test]
fn litellm_39309_a_request_that_no_server_can_take_is_not_charged() {
    let gate = gate();
    let refused =
        r#"refuse 503 no_server no_server 5 {"error":"no server is available for model 'gemma3:latest' right now"}"#;
    for _ in 0..10 {
        check(&gate, CHAT, "team", r#"{"model":"gemma3"}"#, refused);
    }
    assert!(decide(&gate, CHAT, "team", LLAMA, at(0)).starts_with("allow"));
}

#[test]
fn a_verdict_after_its_deadline_is_a_refusal_that_takes_nothing() {
    let gate = gate();
    let view = gate.state.view();
    let shown = BodyShown::Bytes { seen: LLAMA.as_bytes(), size: LLAMA.len() as u64 };
    let inquiry = inquiry("POST", "/api/chat", "team", shown);
    for _ in 0..10 {
        let found = describe(&gate, &view, &inquiry, at(0), at(DEADLINE_NS));
        assert!(found.starts_with("refuse 503 overloaded deadline_missed 1"), "{found}");
    }
    assert!(describe(&gate, &view, &inquiry, at(0), at(DEADLINE_NS - 1)).starts_with("allow"));
}

#[test]
fn before_the_fleet_is_known_an_unknown_model_may_yet_turn_up() {
    let gate = gate();
    let empty = Arc::new(FleetView::default());
    gate.state.publish_fleet(empty);
    let found = decide(&gate, CHAT, "unlimited", LLAMA, at(0));
    assert_eq!(
        found,
        r#"refuse 503 no_server fleet_unknown 5 {"error":"no server is available for model 'llama3.2:3b' right now"}"#
    );
    let found = decide(&gate, CHAT, "team", r#"{"model":"qwen3:8b"}"#, at(0));
    assert!(found.starts_with("refuse 404"), "outside the plan it is not found, whatever the fleet: {found}");
}

#[test]
fn the_catalog_shows_the_union_of_the_fleet_as_far_as_the_plan_goes() {
    let gate = gate();
    check(
        &gate,
        "GET /v1/models",
        "team",
        "",
        r#"answer {"object":"list","data":[{"id":"gemma3:latest","object":"model","created":7,"owned_by":"library"},{"id":"llama3.2:3b","object":"model","created":7,"owned_by":"library"}]}"#,
    );
    check(
        &gate,
        "GET /v1/models/LLAMA3.2%3A3b",
        "team",
        "",
        r#"answer {"id":"llama3.2:3b","object":"model","created":7,"owned_by":"library"}"#,
    );
    check(
        &gate,
        "GET /v1/models/qwen3:8b",
        "team",
        "",
        r#"refuse 404 model_not_found model_not_in_plan - {"error":{"message":"The model `qwen3:8b` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    );
    let tags = decide(&gate, "GET /api/tags", "lister", "", at(0));
    let parsed: serde_json::Value = serde_json::from_str(tags.strip_prefix("answer ").unwrap()).unwrap();
    let names: Vec<_> =
        parsed["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gemma3:latest", "llama3.2:3b", "qwen3:8b"]);
    check(&gate, "HEAD /", "team", "", "answer Ollama is running");
    check(&gate, "GET /api/version", "team", "", r#"answer {"version":"0.9.6"}"#);
    let ps = decide(&gate, "GET /api/ps", "team", "", at(0));
    assert!(ps.contains("2026-11-21T11:00:00Z") && !ps.contains("2026-11-21T10:00:00Z"), "the longest stay wins: {ps}");
    assert!(!ps.contains("qwen3"), "{ps}");
}

/// W6, oauth2-proxy GHSA-5hvv-m4w4-gf6v: no path or header exempts anybody, the health path included.
#[test]
fn ghsa_5hvv_m4w4_gf6v_no_path_is_exempt_from_a_key() {
    for path in ["/", "/api/version", "/api/tags", "/v1/models", "/api/ps"] {
        let found = decide(&gate(), &format!("GET {path}"), "", "", at(0));
        assert!(found.starts_with("refuse 401"), "{path}: {found}");
    }
}

#[test]
fn the_verdict_does_not_depend_on_how_the_body_was_shown() {
    for body in [LLAMA, r#"{"model":"mistral"}"#, r#"{"model":1}"#, r#"{"model":"llama3.2:3b","MODEL":"x"}"#, "{", ""] {
        let (one, two) = (gate(), gate());
        let (view_one, view_two) = (one.state.view(), two.state.view());
        let mut reader = BodyReader::new();
        body.bytes().for_each(|byte| reader.push(&[byte]));
        let read = reader.finish();
        let bytes = BodyShown::Bytes { seen: body.as_bytes(), size: body.len() as u64 };
        assert_eq!(
            describe(&one, &view_one, &inquiry("POST", "/api/chat", "unlimited", bytes), at(0), at(0)),
            describe(&two, &view_two, &inquiry("POST", "/api/chat", "unlimited", BodyShown::Read(&read)), at(0), at(0)),
            "{body}"
        );
    }
}

fn decide(gate: &Gate, request: &str, key: &str, body: &str, now: Moment) -> String {
    let (method, target) = request.split_once(' ').unwrap();
    let view = gate.state.view();
    let shown = BodyShown::Bytes { seen: body.as_bytes(), size: body.len() as u64 };
    describe(gate, &view, &inquiry(method, target, key, shown), now, now)
}

fn describe(gate: &Gate, view: &View, inquiry: &Inquiry<'_>, received: Moment, now: Moment) -> String {
    let decided = gate.decide_at(view, Question::new(inquiry, Port::Spop, received), now).now_or_never().unwrap();
    match &decided.verdict {
        Verdict::Allow(grant) => {
            format!("allow {} {}", grant.server.name, grant.server2.map_or("-", |server| &server.name))
        }
        Verdict::Answer(answer) => format!("answer {}", catalog::render(view, answer).body),
        Verdict::Refuse(refusal) => format!(
            "refuse {} {} {} {} {}",
            refusal.status(),
            refusal.code().as_str(),
            refusal.reason.as_str(),
            refusal.retry_after_s.map_or("-".to_owned(), |seconds| seconds.to_string()),
            refusal_body(refusal, decided.dialect)
        ),
    }
}

fn inquiry<'a>(method: &'a str, target: &'a str, key: &str, body: BodyShown<'a>) -> Inquiry<'a> {
    let authorization = match key {
        "" => HeaderField::default(),
        key => HeaderField::once(Box::leak(format!("Bearer {key}").into_boxed_str()).as_bytes()),
    };
    Inquiry {
        uid: b"u",
        method: method.as_bytes(),
        target: target.as_bytes(),
        source: None,
        authorization,
        x_api_key: HeaderField::default(),
        api_key: HeaderField::default(),
        on_behalf: OnBehalf::default(),
        encoding: None,
        body,
    }
}

/// Two live servers and one that is down: s1 has llama, s2 has llama and qwen, s3 (down) has gemma.
fn gate() -> Gate {
    let state = Arc::new(State::new());
    let plan = |name: &str, models: &[&str], inference: bool, requests: Vec<Quota>| Plan {
        name: name.into(),
        models: models.iter().map(|pattern| ModelPattern::new(pattern)).collect(),
        routes: RouteClasses { inference, catalog: true },
        terms: Terms { requests, ..Terms::default() },
        ..Plan::default()
    };
    let some = |value| NonZeroU64::new(value).unwrap();
    let quota = Quota { count: some(6), period_ns: some(60_000_000_000), burst: some(3) };
    let server = |name: &str| Server {
        name: name.into(),
        url: format!("http://{name}:11434").into(),
        kind: ServerKind::Ollama,
        maxconn: None,
        slots: None,
        weight: 100,
        models: vec![],
    };
    state.publish_policy(Arc::new(Policy {
        plans: vec![
            plan("unlimited", &["*"], true, vec![]),
            plan("team", &["llama3.*", "gemma3"], true, vec![quota]),
            plan("lister", &["*"], false, vec![]),
        ],
        servers: ["s1", "s2", "s3"].map(server).into(),
        recheck_s: 5,
        ..Policy::default()
    }));
    let mut keys = KeySet::default();
    let made = [
        ("unlimited", "unlimited"),
        ("team", "team"),
        ("team2", "team"),
        ("lister", "lister"),
        ("revoked", "team"),
        ("expired", "team"),
        ("orphan", "gone"),
    ];
    for (position, (name, plan)) in made.iter().enumerate() {
        let plan = keys.intern_plan(plan).unwrap();
        let key = Key {
            name: (*name).into(),
            plan,
            team: None,
            not_before_unix_ms: None,
            on_behalf: None,
            expires_unix_ms: (*name == "expired").then_some(0.into()),
            revoked: *name == "revoked",
            scope: Scope(position as u128),
        };
        assert!(keys.insert(Digest(sha2::Sha256::digest(name.as_bytes()).into()), key));
    }
    state.publish_keys(Arc::new(keys));
    let mut fleet = FleetView::default();
    for (name, models, live, expires) in [
        ("s1", &["llama3.2:3b"][..], true, "2026-11-21T10:00:00Z"),
        ("s2", &["llama3.2:3b", "qwen3:8b"], true, "2026-11-21T11:00:00Z"),
        ("s3", &["gemma3"], false, "2026-11-21T12:00:00Z"),
    ] {
        let mut track = ServerTrack::default();
        track.report(Ok(inventory(models, expires, if name == "s1" { "0.30.1" } else { "0.9.6" })), 1, 1);
        if !live {
            track.report(Err(Failure { kind: "connect", detail: "refused".into() }), 1, 1);
        }
        fleet.servers.insert(name.into(), track.view());
    }
    state.publish_fleet(Arc::new(fleet));
    Gate::new(GateParts::new(state, Arc::new(Metrics::new()), Clock::new(), Receipts::new([7; 32], 1)))
}

fn inventory(models: &[&str], expires: &str, version: &str) -> Inventory {
    let canonical = |name: &str| ModelName::canonical(name);
    Inventory {
        models: models
            .iter()
            .map(|name| Model {
                name: canonical(name),
                listed: canonical(name).as_str().into(),
                digest: "d".repeat(64).into(),
                size: 9,
                modified_at: "2026-01-01T00:00:00Z".into(),
                created: 7,
                owned_by: "library".into(),
                details: "".into(),
                capabilities: "".into(),
                remote: name.starts_with("elsewhere"),
            })
            .collect(),
        loaded: models
            .iter()
            .map(|name| LoadedModel {
                name: canonical(name),
                listed: canonical(name).as_str().into(),
                digest: "d".repeat(64).into(),
                size: 9,
                size_vram: 9,
                details: "".into(),
                expires_at: expires.into(),
                context_length: 4096,
            })
            .collect(),
        version: Some(version.into()),
        full: false,
    }
}

fn at(ns: u64) -> Moment {
    Moment { mono_ns: 1_000_000_000 + ns, unix_ms: 1 }
}
