//! A grant to a user behind a key of a team that is raised, limits and slots of all three taken, touches the heap not once.

use crate::{ALLOCATOR, alone};
use futures_util::FutureExt as _;
use herdgate::config::compile::compile;
use herdgate::decision::caller::keyset::{Behalf, Digest, Key, KeySet, Pepper, TemporaryPlan};
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{FleetView, Inventory, Model};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::request::name::ModelName;
use herdgate::decision::verdict::Verdict;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::ledger::tokens::observed::ObservedUsage;
use herdgate::metrics::{Metrics, Port, SettleLabel};
use herdgate::time::clock::Clock;
use stats_alloc::Region;
use std::path::Path;
use std::sync::Arc;

const CONFIG: &str = r#"
[[server]]
name = "s1"
url = "http://10.0.1.10:11434"
[plans.wide]
models = ["*"]
requests = ["100M/s", "500M/min"]
concurrency = 8
max_output = 4096
left_open = "refuse"
max_context = 8192
keep_alive = "30m"
raw = false
max_images = 1
max_image_size = 100
[plans.wider]
models = ["*"]
requests = ["200M/s", "1000M/min"]
concurrency = 9
budget = ["900M/day"]
[teams.research]
plan = "wide"
[auth]
failures = "30/min"
"#;

#[test]
fn ten_thousand_grants_to_key_user_and_team_are_decided_without_an_allocation() {
    let _alone = alone();
    let gate = gate();
    let view = gate.state.view();
    let body =
        br#"{"model":"llama3.2:3b","options":{"num_predict":4096,"num_ctx":8192},"keep_alive":"30m","raw":false}"#;
    let inquiry = Inquiry {
        uid: b"8f1e0000-0000-0000-0000-000000000000",
        method: b"POST",
        target: b"/api/chat",
        source: "192.0.2.1".parse().ok(),
        authorization: HeaderField::once(b"Bearer secret"),
        x_api_key: HeaderField::default(),
        api_key: HeaderField::default(),
        on_behalf: OnBehalf { header: b"x-user", field: HeaderField::once(b"Ann@Example.com") },
        encoding: None,
        body: BodyShown::Bytes { seen: body, size: body.len() as u64 },
    };
    let mut rounds: Vec<usize> = Vec::with_capacity(4);
    for _ in 0..4 {
        let mut allocations = 0;
        for _ in 0..10_000 {
            let region = Region::new(ALLOCATOR);
            let decided =
                gate.decide(&view, Question::new(&inquiry, Port::Spop, gate.clock.now())).now_or_never().unwrap();
            let change = region.change();
            allocations += change.allocations + change.reallocations;
            assert!(matches!(decided.verdict, Verdict::Allow(_)), "{:?}", decided.verdict);
            let receipt = decided.receipt.expect("a grant's receipt");
            assert_eq!(gate.settle(&receipt, inquiry.uid, &ObservedUsage::default()), SettleLabel::Released);
        }
        rounds.push(allocations);
    }
    // The test harness has a thread of its own, which may allocate in one round; ours would in every one.
    assert_eq!(rounds.iter().min(), Some(&0), "{rounds:?}");
}

fn gate() -> Gate {
    let config = compile(CONFIG, "f.toml", Path::new("")).unwrap();
    let state = Arc::new(State::new());
    state.publish_policy(Arc::new(config.policy));
    let mut keys = KeySet::default();
    let plan = keys.intern_plan("wide").unwrap();
    let pepper = Pepper::new(b"pepper");
    let key = Key {
        name: "webui".into(),
        plan,
        team: keys.intern_team("research"),
        not_before_unix_ms: None,
        expires_unix_ms: None,
        revoked: false,
        scope: Scope::of("key", b"webui"),
        on_behalf: Some(Box::new(Behalf { header: "x-user".into(), plan })),
    };
    let raised = TemporaryPlan { plan: keys.intern_plan("wider").unwrap(), until_unix_ms: i64::MAX };
    assert!(keys.raise(key.scope, raised) && keys.insert(Digest::of(b"secret"), key));
    state.publish_keys(Arc::new(keys.with_pepper(Some(pepper))));
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
