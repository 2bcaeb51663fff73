//! Who is limited with whom, decision by decision: keys, users behind a key, teams, networks without a key, failed
//! credentials and blocks.

use futures_util::FutureExt as _;
use herdgate::config::compile::compile;
use herdgate::decision::caller::blocks::{Block, BlockKind};
use herdgate::decision::caller::keyset::{Behalf, Digest, Key, KeySet, Pepper};
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{FleetView, Inventory, Model};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::request::name::ModelName;
use herdgate::decision::verdict::Verdict;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::ledger::users::USERS_MAX;
use herdgate::metrics::{Metrics, Port};
use herdgate::time::clock::Clock;
use std::path::Path;
use std::sync::Arc;

const S: u64 = 1_000_000_000;

const CONFIG: &str = r#"
[[server]]
name = "s1"
url = "http://10.0.1.10:11434"
[plans.free]
models = ["*"]
[plans.three]
models = ["*"]
requests = "60/h"
burst = 3
[plans.pair]
models = ["*"]
concurrency = 2
[teams.three]
plan = "three"
[teams.pair]
plan = "pair"
"#;

const HEADER: &str = "x-openwebui-user-email";

/// A question: who asks, on whose behalf, from where.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    key: &'a str,
    user: Option<&'a str>,
    source: &'a str,
    at_s: u64,
}

fn asked<'a>(key: &'a str, user: Option<&'a str>) -> Asked<'a> {
    Asked { key, user, source: "192.0.2.1", at_s: 0 }
}

/// `allow`, or status, reason and seconds to wait.
fn ask(gate: &Gate, asked: Asked<'_>) -> String {
    ask_with(
        gate,
        asked,
        OnBehalf {
            header: HEADER.as_bytes(),
            field: asked.user.map(|user| HeaderField::once(user.as_bytes())).unwrap_or_default(),
        },
    )
}

fn ask_with(gate: &Gate, Asked { key, source, at_s, .. }: Asked<'_>, on_behalf: OnBehalf<'_>) -> String {
    let view = gate.state.view();
    let bearer = format!("Bearer {key}");
    let body = br#"{"model":"llama3.2:3b"}"#;
    let inquiry = Inquiry {
        uid: b"u",
        method: b"POST",
        target: b"/api/chat",
        source: source.parse().ok(),
        authorization: if key.is_empty() { HeaderField::default() } else { HeaderField::once(bearer.as_bytes()) },
        x_api_key: HeaderField::default(),
        api_key: HeaderField::default(),
        on_behalf,
        encoding: None,
        body: BodyShown::Bytes { seen: body, size: body.len() as u64 },
    };
    let now = at(at_s);
    match gate.decide_at(&view, Question::new(&inquiry, Port::Spop, now), now).now_or_never().unwrap().verdict {
        Verdict::Refuse(refusal) => {
            let wait = refusal.retry_after_s.map_or(String::new(), |seconds| format!(" {seconds}"));
            format!("{} {}{wait}", refusal.status(), refusal.reason.as_str())
        }
        Verdict::Allow(_) => "allow".to_owned(),
        Verdict::Answer(_) => "answer".to_owned(),
    }
}

fn script(gate: &Gate, steps: &[(Asked<'_>, &str)]) {
    for (step, (asked, expected)) in steps.iter().enumerate() {
        assert_eq!(ask(gate, *asked), *expected, "step {step}: {} {:?} {}", asked.key, asked.user, asked.source);
    }
}

#[test]
fn a_key_is_valid_from_its_beginning_to_its_end() {
    let gate = gate("");
    for (key, at_s, expected) in [
        ("early", 9, "401 early_key"),
        ("early", 10, "allow"),
        ("ending", 9, "allow"),
        ("ending", 10, "401 expired_key"),
    ] {
        assert_eq!(ask(&gate, Asked { at_s, ..asked(key, None) }), expected, "{key} {at_s}");
    }
}

#[test]
fn two_secrets_of_a_key_share_its_limits() {
    let gate = gate("");
    let (one, two) = (asked("rare", None), asked("rare-second", None));
    script(
        &gate,
        &[(one, "allow"), (two, "allow"), (one, "allow"), (two, "429 request_rate 60"), (one, "429 request_rate 60")],
    );
}

#[test]
fn a_secret_is_found_with_the_pepper_and_without() {
    let gate = gate("");
    for key in ["rare", "peppered"] {
        assert_eq!(ask(&gate, asked(key, None)), "allow", "{key}");
    }
    // The digest that is looked up is not that of the secret alone.
    let digest: String =
        Pepper::new(b"pepper").digest(b"peppered").0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ask(&gate, asked(&digest, None)), "401 unknown_key");
}

#[test]
fn users_behind_a_key_are_limited_each_and_case_and_space_are_nothing() {
    let gate = gate("");
    let user = |name| asked("webui", Some(name));
    script(
        &gate,
        &[
            (user("ann@x"), "allow"),
            (user("ANN@x"), "allow"),
            (user(" ann@x\t"), "allow"),
            (user("ann@x"), "429 request_rate_of_user 60"),
            (user("bob@x"), "allow"),
            // Another key's users are others.
            (asked("webui2", Some("ann@x")), "allow"),
            // A key that names no header is moved by none, neither into Ann's limits nor out of its own.
            (asked("free", Some("ann@x")), "allow"),
            (asked("rare", Some("a")), "allow"),
            (asked("rare", Some("b")), "allow"),
            (asked("rare", Some("c")), "allow"),
            (asked("rare", Some("d")), "429 request_rate 60"),
        ],
    );
}

#[test]
fn nobody_escapes_by_naming_nobody() {
    let gate = gate("");
    let nobody = asked("webui", None);
    let empty = asked("webui", Some("  "));
    script(
        &gate,
        &[
            (nobody, "allow"),
            (empty, "allow"),
            (nobody, "allow"),
            (empty, "429 request_rate_of_user 60"),
            (nobody, "429 request_rate_of_user 60"),
        ],
    );
}

#[test]
fn a_user_who_could_be_two_is_refused_for_its_key_and_ignored_for_others() {
    let gate = gate("");
    let twice = OnBehalf { header: HEADER.as_bytes(), field: HeaderField { value: Some(b"ann"), count: 2 } };
    let other = OnBehalf { header: b"x-user", field: HeaderField::once(b"ann") };
    let joined = OnBehalf { header: HEADER.as_bytes(), field: HeaderField::once(b"ann, bob") };
    for (key, on_behalf, expected) in [
        ("webui", twice, "403 on_behalf_ambiguous"),
        ("webui", joined, "403 on_behalf_ambiguous"),
        ("webui", other, "403 on_behalf_not_passed"),
        ("webui", OnBehalf::default(), "403 on_behalf_not_passed"),
        ("free", twice, "allow"),
        ("free", joined, "allow"),
        ("free", OnBehalf::default(), "allow"),
    ] {
        assert_eq!(ask_with(&gate, asked(key, None), on_behalf), expected, "{key}");
    }
}

#[test]
fn users_past_the_bound_share_one_limit() {
    let gate = gate("");
    for number in 0..USERS_MAX {
        assert_eq!(ask(&gate, asked("webui", Some(&format!("user{number}")))), "allow", "{number}");
    }
    let late = |name| asked("webui", Some(name));
    script(
        &gate,
        &[
            (late("late1"), "allow"),
            (late("late2"), "allow"),
            (late("late3"), "allow"),
            (late("late4"), "429 request_rate_of_user 60"),
            (late("user0"), "allow"),
            (asked("webui2", Some("late4")), "allow"),
        ],
    );
}

#[test]
fn a_teams_callers_share_its_limits_beside_their_own() {
    let gate = gate("");
    let [ann, bob] = ["team-ann", "team-bob"].map(|key| asked(key, None));
    script(
        &gate,
        &[
            (ann, "allow"),
            (bob, "allow"),
            (ann, "allow"),
            (bob, "429 request_rate_of_team 60"),
            (ann, "429 request_rate_of_team 60"),
            (asked("free", None), "allow"),
            (asked("lost-team", None), "403 unknown_team"),
        ],
    );
}

/// All or none: a request that the team's limit refuses takes nothing from its caller's.
#[test]
fn what_one_limit_refuses_is_not_taken_from_another() {
    let gate = gate("");
    let drain = asked("team-ann", None);
    script(&gate, &[(drain, "allow"), (drain, "allow"), (drain, "allow")]);
    let both = asked("team-rare", None);
    for _ in 0..5 {
        assert_eq!(ask(&gate, both), "429 request_rate_of_team 60");
    }
    // A minute later the team may once, and its caller has all three of its own still: the team refuses next.
    assert_eq!(ask(&gate, Asked { at_s: 60, ..both }), "allow");
    assert_eq!(ask(&gate, Asked { at_s: 60, ..both }), "429 request_rate_of_team 60");
}

#[test]
fn a_teams_concurrency_counts_all_its_callers_requests() {
    let gate = gate("");
    let [ann, bob] = ["pair-ann", "pair-bob"].map(|key| asked(key, None));
    script(&gate, &[(ann, "allow"), (bob, "allow")]);
    for asked in [ann, bob] {
        assert!(ask(&gate, asked).starts_with("429 concurrency_of_team "));
    }
    assert_eq!(ask(&gate, asked("free", None)), "allow");
}

#[test]
fn without_an_anonymous_plan_who_presents_nothing_is_refused() {
    assert_eq!(ask(&gate(""), asked("", None)), "401 no_credential");
}

#[test]
fn anonymous_callers_are_limited_by_network() {
    let gate = gate("[auth]\nanonymous = \"three\"\n");
    let from = |source| Asked { source, ..asked("", None) };
    script(
        &gate,
        &[
            (from("192.0.2.1"), "allow"),
            (from("::ffff:192.0.2.1"), "allow"),
            (from("192.0.2.1"), "allow"),
            (from("::ffff:192.0.2.1"), "429 request_rate_of_address 60"),
            (from("192.0.2.2"), "allow"),
            (from("2001:db8::1"), "allow"),
            (from("2001:db8::2"), "allow"),
            (from("2001:db8::ffff:3"), "allow"),
            (from("2001:db8::4"), "429 request_rate_of_address 60"),
            (from("2001:db8:0:1::4"), "allow"),
            // A wrong key is not taken for none.
            (Asked { key: "wrong", ..from("192.0.2.9") }, "401 unknown_key"),
            (Asked { key: "free", ..from("192.0.2.1") }, "allow"),
        ],
    );
}

#[test]
fn all_anonymous_callers_together_are_held_to_a_rate_and_to_so_many_at_once() {
    let from = |number: usize| format!("192.0.2.{number}");
    let rate = gate("[auth]\nanonymous = \"free\"\nanonymous_requests = \"4/h\"\n");
    for number in 0..4 {
        assert_eq!(ask(&rate, Asked { source: &from(number), ..asked("", None) }), "allow");
    }
    let fifth = from(5);
    assert_eq!(ask(&rate, Asked { source: &fifth, ..asked("", None) }), "429 request_rate_of_all_anonymous 900");
    let crowd = gate("[auth]\nanonymous = \"free\"\nanonymous_concurrency = 4\n");
    for number in 0..4 {
        assert_eq!(ask(&crowd, Asked { source: &from(number), ..asked("", None) }), "allow");
    }
    assert!(ask(&crowd, Asked { source: &fifth, ..asked("", None) }).starts_with("429 concurrency_of_all_anonymous "));
    assert_eq!(ask(&crowd, asked("free", None)), "allow", "keys are no anonymous callers");
}

#[test]
fn who_fails_too_often_waits_and_nothing_is_looked_up() {
    let gate = gate("[auth]\nfailures = \"3/min\"\n");
    let from = |source, key, at_s| Asked { source, key, at_s, user: None };
    script(
        &gate,
        &[
            (from("192.0.2.1", "wrong", 0), "401 unknown_key"),
            (from("192.0.2.1", "free", 0), "allow"),
            (from("192.0.2.1", "", 0), "401 no_credential"),
            (from("192.0.2.1", "", 0), "401 no_credential"),
            (from("192.0.2.1", "two words", 0), "401 malformed_credential"),
            (from("::ffff:192.0.2.1", "revoked", 0), "401 revoked_key"),
            (from("192.0.2.1", "wrong", 0), "429 failed_credentials 20"),
            (from("192.0.2.1", "free", 5), "429 failed_credentials 15"),
            (from("192.0.2.1", "", 5), "401 no_credential"),
            (from("192.0.2.2", "wrong", 5), "401 unknown_key"),
            (from("192.0.2.1", "free", 20), "allow"),
            (from("2001:db8::1", "wrong", 20), "401 unknown_key"),
            (from("2001:db8::2", "wrong", 20), "401 unknown_key"),
            (from("2001:db8::3", "wrong", 20), "401 unknown_key"),
            (from("2001:db8::4", "free", 20), "429 failed_credentials 20"),
            (from("2001:db8:0:1::4", "free", 20), "allow"),
        ],
    );
}

#[test]
fn a_block_shuts_out_a_key_or_a_user_and_is_over_by_itself() {
    let gate = gate("");
    let block = |kind, name: &str, until_s| {
        let block = Block { kind, name: name.into(), until: at(until_s) };
        assert!(gate.state.change_blocks(|view| view.blocks.with(block, at(0))));
    };
    block(BlockKind::Key, "rare", 10);
    block(BlockKind::User, "ann@x", 20);
    for (key, user, at_s, expected) in [
        ("rare", None, 0, "403 blocked"),
        ("rare-second", None, 9, "403 blocked"),
        ("rare", None, 10, "allow"),
        ("webui", Some("Ann@X"), 10, "403 blocked"),
        ("webui2", Some("ann@x"), 19, "403 blocked"),
        ("webui", Some("bob@x"), 10, "allow"),
        ("free", Some("ann@x"), 10, "allow"),
        ("webui", Some("ann@x"), 20, "allow"),
    ] {
        assert_eq!(ask(&gate, Asked { at_s, ..asked(key, user) }), expected, "{key} {user:?} {at_s}");
    }
    // Blocks outlive what else is published.
    gate.state.publish_keys(Arc::new(keys()));
    assert_eq!(ask(&gate, asked("rare", None)), "403 blocked");
    assert!(gate.state.change_blocks(|view| view.blocks.without(BlockKind::Key, "rare", at(0))));
    assert_eq!(ask(&gate, asked("rare", None)), "allow");
}

#[test]
fn a_changed_key_file_is_told_by_name() {
    let (before, mut after) = (keys(), KeySet::default());
    let plan = after.intern_plan("free").unwrap();
    for (name, revoked) in [("free", false), ("rare", true), ("new", false)] {
        let digest = Digest::of(name.as_bytes());
        let old = before.get(&digest).cloned();
        let fresh = Key { name: name.into(), plan, ..before.get(&Digest::of(b"free")).unwrap().clone() };
        assert!(after.insert(digest, Key { revoked, plan, ..old.unwrap_or(fresh) }));
    }
    let found: Vec<String> =
        before.changes(&after, 100).first.iter().map(|change| format!("{} {}", change.name, change.what)).collect();
    assert_eq!(found[..2], ["rare revoked", "new added"], "the free key is on the plan it was");
    assert_eq!(found.len(), before.len());
    assert!(found[2..].iter().all(|change| change.ends_with(" removed")), "{found:?}");
    assert_eq!(before.changes(&keys(), 100).total, 0);
    assert_eq!((before.changes(&after, 1).first.len(), before.changes(&after, 1).total), (1, found.len()));
}

#[test]
fn the_last_use_of_a_secret_is_known_and_a_failed_one_is_none() {
    let gate = gate("");
    let fingerprint = |secret: &str| Digest::of(secret.as_bytes()).fingerprint();
    for key in ["free", "wrong", "revoked"] {
        ask(&gate, Asked { at_s: 7, ..asked(key, None) });
    }
    assert_eq!(gate.last_used.changed(|_| true), Some(vec![(fingerprint("free"), 7)]));
}

fn keys() -> KeySet {
    let mut keys = KeySet::default();
    // Secret, name, plan, team, plan of users.
    let made = [
        ("free", "free", "free", None, None),
        ("rare", "rare", "three", None, None),
        ("rare-second", "rare", "three", None, None),
        ("peppered", "peppered", "free", None, None),
        ("early", "early", "free", None, None),
        ("ending", "ending", "free", None, None),
        ("revoked", "revoked", "free", None, None),
        ("webui", "webui", "free", None, Some("three")),
        ("webui2", "webui2", "free", None, Some("three")),
        ("team-ann", "team-ann", "free", Some("three"), None),
        ("team-bob", "team-bob", "free", Some("three"), None),
        ("team-rare", "team-rare", "three", Some("three"), None),
        ("pair-ann", "pair-ann", "free", Some("pair"), None),
        ("pair-bob", "pair-bob", "free", Some("pair"), None),
        ("lost-team", "lost-team", "free", Some("gone"), None),
    ];
    let pepper = Pepper::new(b"pepper");
    for (secret, name, plan, team, users) in made {
        let digest =
            if secret == "peppered" { pepper.digest(secret.as_bytes()) } else { Digest::of(secret.as_bytes()) };
        let on_behalf =
            users.map(|plan| Box::new(Behalf { header: HEADER.into(), plan: keys.intern_plan(plan).unwrap() }));
        let key = Key {
            name: name.into(),
            plan: keys.intern_plan(plan).unwrap(),
            team: team.map(|team| keys.intern_team(team).unwrap()),
            not_before_unix_ms: (name == "early").then_some(10_000.into()),
            expires_unix_ms: (name == "ending").then_some(10_000.into()),
            revoked: name == "revoked",
            scope: Scope::of("key", name.as_bytes()),
            on_behalf,
        };
        assert!(keys.insert(digest, key));
    }
    keys.with_pepper(Some(pepper))
}

fn gate(addition: &str) -> Gate {
    let config = compile(&format!("{CONFIG}{addition}"), "f.toml", Path::new("")).unwrap();
    let state = Arc::new(State::new());
    state.publish_policy(Arc::new(config.policy));
    state.publish_keys(Arc::new(keys()));
    let model = Model {
        name: ModelName::canonical("llama3.2:3b"),
        listed: "llama3.2:3b".into(),
        digest: "d".repeat(64).into(),
        size: 9,
        modified_at: "2026-01-01T00:00:00Z".into(),
        created: 7,
        owned_by: "library".into(),
        details: "".into(),
        capabilities: "".into(),
        remote: false,
    };
    let mut track = ServerTrack::default();
    track.report(Ok(Inventory { models: vec![model], ..Inventory::default() }), 1, 1);
    state.publish_fleet(Arc::new(FleetView { servers: [("s1".into(), track.view())].into_iter().collect() }));
    let receipts = Receipts::new([7; 32], 1);
    Gate::new(GateParts {
        settings: config.settings.of_gate(),
        ..GateParts::new(state, Arc::new(Metrics::new()), Clock::new(), receipts)
    })
}

fn at(s: u64) -> Moment {
    Moment { mono_ns: (1 + s) * S, unix_ms: i64::try_from(s).unwrap() * 1_000 }
}
