//! NOTIFY arguments to an inquiry, and verdicts to variables.

use futures_util::FutureExt as _;
use herdgate::decision::fleet::roster::Roster;
use herdgate::decision::fleet::{FleetView, Inventory, Model, Preference, ServerState, ServerView};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry};
use herdgate::decision::plan::limits::Holder;
use herdgate::decision::plan::policy::{PlanIndex, Policy};
use herdgate::decision::plan::priority::QueuePlace;
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::decision::reason::Reason;
use herdgate::decision::request::endpoint::{Dialect, Endpoint};
use herdgate::decision::request::name::ModelName;
use herdgate::decision::verdict::{Grant, LimitStanding, LocalAnswer, Refusal, Verdict};
use herdgate::decision::view::View;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::{Decision, Gate, GateParts, Question};
use herdgate::metrics::{Metrics, Port};
use herdgate::spop::ack::{AckAction, AckWriter, Actions, VariableScope, write_ack};
use herdgate::spop::answerer::Answerer;
use herdgate::spop::frame::{Split, split};
use herdgate::spop::notify::{Messages, put_message};
use herdgate::spop::translate::{QuestionError, inquiry, put_bare_refusal, put_refusal, put_verdict};
use herdgate::spop::wire::{TypedValue, WireError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

type Argument<'a> = (&'a str, TypedValue<'a>);

/// What every question carries.
const WHOLE: [Argument<'static>; 2] =
    [("method", TypedValue::String(b"POST")), ("target", TypedValue::String(b"/api/chat?x=%20"))];

#[test]
fn a_whole_question_becomes_an_inquiry() {
    let arguments = [
        ("uid", TypedValue::String(b"8f1e")),
        ("method", TypedValue::String(b"POST")),
        ("target", TypedValue::String(b"http://gpu/api/chat")),
        ("src", TypedValue::Ipv4(Ipv4Addr::new(192, 0, 2, 7))),
        ("authorization", TypedValue::String(b"Bearer \xff")),
        ("authorization_n", TypedValue::Int64(2)),
        ("x_api_key", TypedValue::Null),
        ("x_api_key_n", TypedValue::Int64(0)),
        ("api_key", TypedValue::String(b"")),
        ("api_key_n", TypedValue::Int64(1)),
        ("encoding", TypedValue::String(b"gzip")),
        ("body", TypedValue::Binary(b"{}")),
        ("body_len", TypedValue::Int64(2)),
        ("body_size", TypedValue::Int64(9)),
        // Not ours, unnamed, and more than once.
        ("", TypedValue::Null),
        ("", TypedValue::Bool(true)),
        ("later", TypedValue::Null),
        ("later", TypedValue::Null),
    ];
    with(&[("request", &arguments)], |found| {
        let found = found.unwrap();
        assert_eq!(found.uid, b"8f1e");
        assert_eq!((found.method, found.target), (&b"POST"[..], &b"http://gpu/api/chat"[..]));
        assert_eq!(found.source, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))));
        assert_field(found.authorization, Some(b"Bearer \xff"), 2);
        assert_field(found.x_api_key, None, 0);
        assert_field(found.api_key, Some(b""), 1);
        assert_eq!(found.encoding, Some(&b"gzip"[..]));
        assert_body(found.body, b"{}", 9);
    });
}

#[test]
fn absent_null_and_empty_are_alike() {
    let nothing = [
        vec![],
        ["uid", "src", "authorization", "authorization_n", "encoding", "body", "body_len", "body_size"]
            .map(|name| (name, TypedValue::Null))
            .to_vec(),
        vec![
            ("uid", TypedValue::String(b"")),
            ("authorization", TypedValue::String(b"")),
            ("authorization_n", TypedValue::Int64(0)),
            ("encoding", TypedValue::String(b"")),
            ("body", TypedValue::Binary(b"")),
            ("body_len", TypedValue::Int64(0)),
            ("body_size", TypedValue::Int64(0)),
        ],
    ];
    for rest in nothing {
        let arguments = [&WHOLE[..], &rest].concat();
        with(&[("request", &arguments)], |found| {
            let found = found.unwrap();
            assert_eq!((found.uid, found.source, found.encoding), (&b""[..], None, None));
            assert!(!found.authorization.is_present());
            assert_body(found.body, b"", 0);
        });
    }
}

#[test]
fn the_header_that_names_a_user_comes_with_its_name_and_count() {
    let name = ("on_behalf_name", TypedValue::String(b"x-user"));
    let value = ("on_behalf", TypedValue::String(b"ann"));
    let count = |count| ("on_behalf_n", TypedValue::Int64(count));
    type Case<'c> = (Vec<Argument<'c>>, Option<&'c [u8]>, u32);
    let cases: [Case<'_>; 4] = [
        (vec![name, value, count(1)], Some(b"ann"), 1),
        (vec![name, value, count(2)], Some(b"ann"), 2),
        (vec![name, ("on_behalf", TypedValue::Null), count(0)], None, 0),
        (vec![name], None, 0),
    ];
    for (rest, value, count) in cases {
        with(&[("request", &[&WHOLE[..], &rest].concat())], |found| {
            let on_behalf = found.unwrap().on_behalf;
            assert_eq!(on_behalf.header, b"x-user");
            assert_field(on_behalf.field, value, count);
        });
    }
    for (rest, malformed) in [
        (vec![name, value], QuestionError::Missing("on_behalf")),
        (vec![name, value, count(0)], QuestionError::Contradiction("on_behalf")),
        (vec![name, name], QuestionError::Repeated("on_behalf_name")),
    ] {
        with(&[("request", &[&WHOLE[..], &rest].concat())], |found| assert_eq!(found.unwrap_err(), malformed));
    }
}

#[test]
fn the_larger_size_is_believed() {
    let cases = [(2, 2, 2), (2, 100, 100), (100, 2, 100), (0, 0, 2), (1, 1, 2)];
    for (len, size, expected) in cases {
        let rest = [
            ("body", TypedValue::Binary(b"{}")),
            ("body_len", TypedValue::Int64(len)),
            ("body_size", TypedValue::Int64(size)),
        ];
        let arguments = [&WHOLE[..], &rest].concat();
        with(&[("request", &arguments)], |found| assert_body(found.unwrap().body, b"{}", expected));
    }
    // A size without bytes is a body that cannot be seen.
    let arguments = [&WHOLE[..], &[("body", TypedValue::Null), ("body_size", TypedValue::Int64(7))]].concat();
    with(&[("request", &arguments)], |found| assert_body(found.unwrap().body, b"", 7));
}

#[test]
fn an_address_may_be_of_either_kind() {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
    let arguments = [&WHOLE[..], &[("src", TypedValue::Ipv6(v6))]].concat();
    with(&[("request", &arguments)], |found| assert_eq!(found.unwrap().source, Some(IpAddr::V6(v6))));
}

#[test]
fn an_odd_question_is_malformed_and_says_why() {
    let method = WHOLE[0];
    let target = WHOLE[1];
    let text = |name| (name, TypedValue::String(b"x"));
    let number = |name, number| (name, TypedValue::Int64(number));
    let cases: Vec<(Vec<Argument<'_>>, QuestionError)> = vec![
        (vec![], QuestionError::Missing("method")),
        (vec![method], QuestionError::Missing("target")),
        (vec![target], QuestionError::Missing("method")),
        (vec![("method", TypedValue::Null), target], QuestionError::Missing("method")),
        (vec![("method", TypedValue::String(b"")), target], QuestionError::Missing("method")),
        (vec![method, ("target", TypedValue::Int64(1))], QuestionError::WrongType("target")),
        (vec![method, target, method], QuestionError::Repeated("method")),
        (vec![method, target, ("body", TypedValue::Null), ("body", TypedValue::Null)], QuestionError::Repeated("body")),
        (vec![method, target, text("src")], QuestionError::WrongType("src")),
        (vec![method, target, number("uid", 1)], QuestionError::WrongType("uid")),
        (vec![method, target, text("authorization")], QuestionError::Missing("authorization")),
        (vec![method, target, text("api_key"), number("api_key_n", 0)], QuestionError::Contradiction("api_key")),
        (vec![method, target, text("x_api_key"), number("x_api_key_n", -1)], QuestionError::WrongType("x_api_key")),
        (vec![method, target, text("body"), number("body_size", 1)], QuestionError::Missing("body_len")),
        (vec![method, target, text("body"), number("body_len", 1)], QuestionError::Missing("body_size")),
        (vec![method, target, number("body_size", -1)], QuestionError::WrongType("body_size")),
        (vec![method, target, text("body_len")], QuestionError::WrongType("body_len")),
    ];
    for (arguments, expected) in cases {
        with(&[("request", &arguments)], |found| assert_eq!(found.err(), Some(expected), "{expected}"));
    }
    with(&[], |found| assert_eq!(found.err(), Some(QuestionError::NoRequest)));
    with(&[("other", &WHOLE)], |found| assert_eq!(found.err(), Some(QuestionError::NoRequest)));
    with(&[("request", &WHOLE), ("request", &WHOLE)], |found| {
        assert_eq!(found.err(), Some(QuestionError::SeveralRequests));
    });
    with(&[("other", &[]), ("request", &WHOLE), ("other", &[])], |found| assert!(found.is_ok()));
}

/// The gate's answer, which is ready when first polled.
fn answer(gate: &Gate, messages: Result<Messages<'_>, WireError>, ack: &mut AckWriter<'_>) -> Option<QuestionError> {
    gate.answer(messages, gate.now(), |fill| fill(ack)).now_or_never().unwrap()
}

#[test]
fn a_malformed_question_is_refused_by_the_gate_in_a_proper_answer() {
    let gate = gate();
    for messages in [Err(WireError::Truncated), Messages::new(b"")] {
        let mut malformed = None;
        let variables = variables(|ack| malformed = answer(&gate, messages, ack));
        assert!(malformed.is_some());
        assert_eq!(variables[..3], ["verdict=refuse", "status=503", "code=overloaded"]);
    }
}

#[test]
fn a_well_formed_question_is_decided_by_the_gate() {
    let gate = gate();
    let mut payload = Vec::new();
    put_message(&mut payload, b"request", &WHOLE.map(|(name, value)| (name.as_bytes(), value)));
    let mut malformed = None;
    let messages = Messages::new(&payload);
    let variables = variables(|ack| malformed = answer(&gate, messages, ack));
    assert_eq!(malformed, None);
    assert!(variables.iter().any(|variable| variable.starts_with("verdict=")), "{variables:?}");
    assert!(variables.iter().any(|variable| variable.starts_with("id=")), "{variables:?}");
}

#[test]
fn a_grant_sets_what_applies() {
    let server = |name: &str| Server {
        name: name.into(),
        url: "http://127.0.0.1:1".into(),
        kind: ServerKind::Ollama,
        maxconn: None,
        slots: None,
        weight: 100,
        models: Vec::new(),
    };
    let (first, second) = (server("gpu1"), server("gpu2"));
    let roster = roster("llama3:8b", &first);
    let bare =
        Grant { server: &first, server2: None, pool: None, requests: None, tokens: None, place: QueuePlace::default() };
    let full = Grant {
        server: &first,
        server2: Some(&second),
        pool: roster.get("llama3:8b"),
        requests: Some(LimitStanding { limit: 20, remaining: 19, reset_ns: 360_000_000_000 }),
        place: QueuePlace { class: Some(-1), offset_ms: 30_250 },
        tokens: Some(LimitStanding { limit: 9000, remaining: 8999, reset_ns: 90_000_000_000 }),
    };
    let cases = [
        (bare, vec!["verdict=allow", "server=gpu1"]),
        (
            full,
            vec![
                "verdict=allow",
                "server=gpu1",
                "server2=gpu2",
                "model=llama3:8b",
                "priority_class=-1",
                "priority_offset=30250",
                "limit_requests=20",
                "remaining_requests=19",
                "reset_requests=6m0s",
                "limit_tokens=9000",
                "remaining_tokens=8999",
                "reset_tokens=1m30s",
            ],
        ),
    ];
    for (grant, expected) in cases {
        check(Verdict::Allow(grant), None, &expected);
    }
}

#[test]
fn an_answer_carries_its_receipt() {
    let answer = LocalAnswer { endpoint: Endpoint::Tags, plan: PlanIndex(0), pool: None, head: false };
    check(Verdict::Answer(answer), Some("r1"), &["verdict=answer", "receipt=r1"]);
}

#[test]
fn a_refusal_says_when_to_come_back_and_forbids_retries_only_above_a_minute() {
    let refusal = |retry_after_s| Refusal { retry_after_s, ..Refusal::new(Reason::RequestRate(Holder::Key)) };
    let cases = [
        (None, vec![]),
        (Some(1), vec!["retry_after=1"]),
        (Some(60), vec!["retry_after=60"]),
        (Some(61), vec!["retry_after=61", "should_retry=false"]),
    ];
    for (retry_after_s, rest) in cases {
        let found = variables(|ack| put_refusal(ack, &refusal(retry_after_s), Dialect::OpenAi));
        assert_eq!(found[..3], ["verdict=refuse", "status=429", "code=rate_limit_exceeded"]);
        assert!(found[3].starts_with("body="));
        assert_eq!(found[4..], rest);
    }
}

#[test]
fn a_bare_refusal_fits_the_smallest_frame() {
    assert_eq!(variables(put_bare_refusal), ["verdict=refuse", "status=503", "code=overloaded"]);
    let mut out = Vec::new();
    assert_eq!(write_ack(&mut out, u64::MAX, u64::MAX, 256, put_bare_refusal), Ok(()));
}

/// Checks the variables of a verdict; `id` is set with each.
fn check(verdict: Verdict<'_>, receipt: Option<&str>, expected: &[&str]) {
    let gate = gate();
    let view = View::default();
    let mut payload = Vec::new();
    put_message(&mut payload, b"request", &WHOLE.map(|(name, value)| (name.as_bytes(), value)));
    let inquiry = inquiry(Messages::new(&payload).unwrap()).unwrap();
    let some = gate.decide(&view, Question::new(&inquiry, Port::Spop, gate.now())).now_or_never().unwrap();
    let decided = Decision {
        verdict,
        id: some.id,
        dialect: some.dialect,
        receipt: None,
        caller: None,
        key: None,
        reserved: None,
        ticket: None,
    };
    let mut found = variables(|ack| put_verdict(ack, &decided, receipt));
    let id = format!("id={}", some.id.as_str());
    let position = found.iter().position(|variable| *variable == id).expect("an id");
    found.remove(position);
    assert_eq!(found, expected);
}

/// What an answer sets, as `name=value`; all of it must be of the transaction.
fn variables(fill: impl FnOnce(&mut AckWriter<'_>)) -> Vec<String> {
    let mut out = Vec::new();
    write_ack(&mut out, 1, 1, 16_380, fill).unwrap();
    let Ok(Split::Whole { frame, .. }) = split(&out, 16_380) else { panic!("whole") };
    Actions::new(frame.payload)
        .map(|action| {
            let Ok(AckAction::Set(VariableScope::Transaction, name, value)) = action else { panic!("set-var of txn") };
            let value = match value {
                TypedValue::Int64(number) => number.to_string(),
                other => String::from_utf8(other.bytes().expect("text").to_vec()).unwrap(),
            };
            format!("{}={value}", std::str::from_utf8(name).unwrap())
        })
        .collect()
}

fn with(messages: &[(&str, &[Argument<'_>])], check: impl FnOnce(Result<Inquiry<'_>, QuestionError>)) {
    let mut payload = Vec::new();
    for (name, arguments) in messages {
        let arguments: Vec<_> = arguments.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        put_message(&mut payload, name.as_bytes(), &arguments);
    }
    check(inquiry(Messages::new(&payload).unwrap()));
}

fn assert_field(field: HeaderField<'_>, value: Option<&[u8]>, count: u32) {
    assert_eq!((field.value, field.count), (value, count));
}

fn assert_body(body: BodyShown<'_>, expected: &[u8], expected_size: u64) {
    let BodyShown::Bytes { seen, size } = body else { panic!("{body:?}") };
    assert_eq!((seen, size), (expected, expected_size));
}

fn gate() -> Gate {
    Gate::new(GateParts::new(Arc::default(), Arc::new(Metrics::new()), Default::default(), Receipts::new([7; 32], 1)))
}

fn roster(model: &str, server: &Server) -> Roster {
    let model = Model {
        name: ModelName::canonical(model),
        listed: model.into(),
        digest: "".into(),
        size: 0,
        modified_at: "".into(),
        created: 0,
        owned_by: "".into(),
        details: "".into(),
        capabilities: "".into(),
        remote: false,
    };
    let inventory = Inventory { models: vec![model], ..Inventory::default() };
    let view = ServerView {
        state: ServerState::Up,
        preference: Preference::Sound,
        inventory: Arc::new(inventory),
        failure: None,
    };
    let fleet = FleetView { servers: [(server.name.clone(), view)].into() };
    Roster::new(&Policy { servers: vec![server.clone()], recheck_s: 5, ..Policy::default() }, &fleet)
}
