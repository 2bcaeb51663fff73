//! The metrics port and the control socket over real sockets.

use crate::wire::{self, Client, ask};
use herdgate::admin::{Admin, serve};
use herdgate::decision::caller::token::{FetchStatus, Issuer, LoadedRing, Ring};
use herdgate::decision::fleet::track::{Depth, ServerTrack};
use herdgate::decision::fleet::{Failure, FleetView, Inventory, Model};
use herdgate::decision::plan::policy::{ModelPattern, Plan, Policy};
use herdgate::decision::reason::Code;
use herdgate::decision::request::name::ModelName;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts};
use herdgate::metrics::{DecisionLabel, FrameLabel, Metrics, Port};
use herdgate::net::listen::{Address, SOCKET_MODE, bind};
use herdgate::time::clock::Clock;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

struct Running {
    address: SocketAddr,
    admin: Arc<Admin>,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    _stop: DropGuard,
}

fn start() -> Running {
    let (state, metrics) = (Arc::new(State::new()), Arc::new(Metrics::new()));
    let admin = Arc::new(Admin::new(state.clone(), metrics.clone(), Clock::new()));
    let (bound, address) = wire::loopback();
    let stop = CancellationToken::new();
    tokio::spawn(serve(bound, admin.clone(), Port::Metrics, stop.clone()));
    Running { address, admin, state, metrics, _stop: stop.drop_guard() }
}

fn policy() -> Policy {
    let plan = Plan { name: "team".into(), models: vec![ModelPattern::new("llama3.*")], ..Plan::default() };
    let servers =
        vec![wire::server("a", "http://user:pa55word@127.0.0.1:1"), wire::server("b\"\n", "http://127.0.0.1:2")];
    Policy { plans: vec![plan], servers, ..Policy::default() }
}

/// Returns a fleet in which this many servers have been probed with success.
fn fleet(probed: usize) -> FleetView {
    let servers = policy().servers.into_iter().take(probed).map(|server| {
        let mut track = ServerTrack::default();
        track.report(Ok(Inventory { version: Some("0.30.1".into()), ..Inventory::default() }), 1, 1);
        (server.name, track.view())
    });
    FleetView { servers: servers.collect() }
}

async fn get(address: SocketAddr, path: &str) -> wire::Said {
    ask(address, format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap()
}

async fn scrape(address: SocketAddr) -> wire::Said {
    let request = "GET /metrics HTTP/1.1\r\nhost: h\r\naccept: application/openmetrics-text\r\n\r\n";
    ask(address, request.as_bytes()).await.unwrap()
}

/// OpenMetrics text as series → value, held to the rules that scrapers hold it to.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families: Vec<&str> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            assert!(lines.next().is_none(), "text after the end");
            return series;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} is described twice");
            families.push(name);
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            assert!(name.starts_with(families.last().unwrap()), "{line} is outside of its family");
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} stands twice");
        }
    }
    panic!("no # EOF")
}

#[tokio::test]
async fn every_route_is_read_only() {
    let running = start();
    for path in ["/metrics", "/status", "/livez", "/readyz"] {
        for (method, refused) in [("GET", false), ("HEAD", false), ("POST", true), ("DELETE", true), ("BREW", true)] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n");
            let said = ask(running.address, request.as_bytes()).await.unwrap();
            assert_eq!(said.status == 405, refused, "{method} {path}: {said:?}");
            assert_eq!(said.header("allow").is_some(), refused, "{method} {path}");
            assert_ne!(said.header("content-length"), Some("0"), "{method} {path}");
        }
    }
    // Commands are the control socket's.
    for path in ["/block", "/unblock"] {
        let command = "{\"kind\":\"user\",\"name\":\"ann\",\"seconds\":60}";
        let request = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{command}", command.len());
        assert_eq!(ask(running.address, request.as_bytes()).await.unwrap().status, 404, "{path}");
        assert!(running.state.view().blocks.list(Clock::new().now()).is_empty());
    }
    for path in ["/", "/handoff", "/metrics/", "/Metrics", "/status/x", "/%6detrics"] {
        assert_eq!(get(running.address, path).await.status, 404, "{path}");
    }
}

/// The key of RFC 8037 appendix A.2.
const KEY_SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[tokio::test]
async fn an_issuers_keys_are_shown_and_readiness_waits_for_the_first() {
    let running = start();
    let issuer = Issuer {
        name: "https://id.example.com/".into(),
        audience: "herdgate".into(),
        algorithms: Vec::new(),
        user_claim: "sub".into(),
        plan: None,
        rules: Vec::new(),
        max_users: 1,
    };
    running.state.publish_policy(Arc::new(Policy { issuers: vec![issuer], servers: Vec::new(), ..policy() }));
    running.admin.config_loaded();
    running.admin.keys_loaded();
    let expect = async |ready: u16, status: &str, metric: &str| {
        assert_eq!(get(running.address, "/readyz").await.status, ready);
        let said = get(running.address, "/status").await;
        let text = said.text();
        assert!(text.contains(status), "{text}");
        assert!(get(running.address, "/metrics").await.text().contains(metric), "{metric}");
    };
    let absent =
        r#""issuers":[{"issuer":"https://id.example.com/","keys":0,"age_s":null,"failure":null,"failures":0}]"#;
    expect(503, absent, "herdgate_issuer_keys{issuer=\"https://id.example.com/\"} 0").await;
    let (ring, _) = Ring::read(KEY_SET.as_bytes()).unwrap();
    let loaded = Some(LoadedRing { ring: Arc::new(ring), confirmed_ns: u64::MAX });
    let fetched = FetchStatus { loaded, failure: Some("status"), failures: 2 };
    running.state.publish_rings(|rings| rings.with(&"https://id.example.com/".into(), fetched));
    let there = r#""keys":1,"age_s":0,"failure":"status","failures":2}]"#;
    expect(200, there, "herdgate_issuer_failures{issuer=\"https://id.example.com/\"} 2").await;
}

#[tokio::test]
async fn a_command_that_makes_no_sense_changes_nothing() {
    let (state, clock) = (State::new(), Clock::new());
    let obey = async |path: &str, command: String| {
        herdgate::admin::control::obey(&state, &clock, path, http_body_util::Full::new(bytes::Bytes::from(command)))
            .await
    };
    for (command, status, why) in [
        (String::new(), 400, "cannot be read"),
        ("{}".to_owned(), 400, "cannot be read"),
        ("{\"kind\":\"user\",\"name\":\"ann\",\"seconds\":60,\"x\":1}".to_owned(), 400, "cannot be read"),
        (" ".repeat(5_000), 400, "did not arrive whole"),
        ("{\"kind\":\"team\",\"name\":\"ann\",\"seconds\":60}".to_owned(), 400, "only a key or a user"),
        ("{\"kind\":\"user\",\"name\":\"ann\",\"seconds\":0}".to_owned(), 400, "from 1s to 30d"),
        ("{\"kind\":\"user\",\"name\":\"ann\",\"seconds\":2592001}".to_owned(), 400, "from 1s to 30d"),
        ("{\"kind\":\"user\",\"name\":\" \",\"seconds\":60}".to_owned(), 400, "cannot be the name"),
        ("{\"kind\":\"user\",\"name\":\"a,b\",\"seconds\":60}".to_owned(), 400, "cannot be the name"),
        ("{\"kind\":\"key\",\"name\":\"ann\",\"seconds\":60}".to_owned(), 404, "no key named"),
    ] {
        let said = obey("/block", command.clone()).await;
        assert!(said.0 == status && said.1.contains(why), "{command:.80}: {said:?}");
        assert!(state.view().blocks.list(clock.now()).is_empty());
    }
    let ann = "{\"kind\":\"user\",\"name\":\" Ann \",\"seconds\":60}".to_owned();
    assert_eq!(obey("/block", ann.clone()).await, (200, "user \"ann\" is blocked for 60 s\n".to_owned()));
    assert_eq!(state.view().blocks.list(clock.now()).len(), 1);
    assert_eq!(obey("/unblock", ann.clone()).await.0, 200);
    assert_eq!(obey("/unblock", ann).await.0, 404);
}

#[tokio::test]
async fn readiness_waits_for_configuration_keys_and_every_server() {
    let running = start();
    let expect = async |status: u16, word: &str| {
        let said = get(running.address, "/readyz").await;
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.text().contains(word), "{}", said.text());
        assert_eq!(get(running.address, "/livez").await.status, 200);
    };
    expect(503, "configuration").await;
    running.state.publish_policy(Arc::new(policy()));
    running.admin.config_loaded();
    expect(503, "keys").await;
    running.admin.keys_loaded();
    expect(503, "a, b").await;
    running.state.publish_fleet(Arc::new(fleet(1)));
    expect(503, "probed to an end yet: b").await;
    running.state.publish_fleet(Arc::new(fleet(2)));
    expect(200, "ready").await;
}

#[tokio::test]
async fn status_tells_servers_and_plans_and_no_secret() {
    let running = start();
    running.state.publish_policy(Arc::new(policy()));
    running.state.publish_fleet(Arc::new(fleet(1)));
    running.admin.config_loaded();
    let said = get(running.address, "/status").await;
    let status: serde_json::Value = serde_json::from_slice(&said.body).unwrap();
    assert_eq!(status["servers"][0]["name"], "a");
    assert_eq!(status["servers"][0]["state"], "up");
    assert_eq!(status["servers"][0]["version"], "0.30.1");
    assert_eq!(status["servers"][1]["name"], "b\"\n");
    assert_eq!(status["servers"][1]["state"], "unknown");
    assert_eq!(status["plans"][0]["models"][0], "llama3.*");
    assert_eq!(status["keys"], 0);
    assert!(status["config_loaded_unix_ms"].as_i64().unwrap() > 0);
    assert!(!said.text().contains("pa55word"), "{}", said.text());
}

#[tokio::test]
async fn a_degraded_server_and_a_quarantined_model_are_told() {
    let running = start();
    let names = ["x", "y", "z"];
    let servers = names.iter().map(|name| wire::server(name, "http://127.0.0.1:1")).collect();
    running.state.publish_policy(Arc::new(Policy { servers, ..policy() }));
    let tracked = names.iter().map(|name| {
        let model = Model {
            name: ModelName::canonical("m"),
            listed: "m".into(),
            digest: if *name == "y" { "odd" } else { "even" }.into(),
            size: 1,
            modified_at: "".into(),
            created: 0,
            owned_by: "".into(),
            details: "".into(),
            capabilities: "".into(),
            remote: false,
        };
        let mut track = ServerTrack::default();
        track.report(Ok(Inventory { models: vec![model], ..Inventory::default() }), 1, 2);
        if *name == "x" {
            let failure = Failure { kind: "generation", detail: "m: no token within 10s".into() };
            track.report_depth(Depth::Failed(failure), 1, 2);
        }
        ((*name).into(), track.view())
    });
    running.state.publish_fleet(Arc::new(FleetView { servers: tracked.collect() }));
    let status: serde_json::Value = serde_json::from_slice(&get(running.address, "/status").await.body).unwrap();
    let servers = &status["servers"];
    assert_eq!((&servers[0]["state"], &servers[0]["failure"]["kind"]), (&"degraded".into(), &"generation".into()));
    let expected = serde_json::json!([{ "model": "m:latest", "digest": "odd", "expected": "even" }]);
    assert_eq!((&servers[1]["state"], &servers[1]["quarantined"]), (&"up".into(), &expected));
    assert_eq!(servers[2]["quarantined"], serde_json::json!([]));
    let scraped = get(running.address, "/metrics").await;
    let lines = [
        r#"herdgate_servers{state="degraded"} 1"#,
        r#"herdgate_server_up{server="x"} 1"#,
        r#"herdgate_quarantined_models{server="y"} 1"#,
    ];
    for line in lines {
        assert!(scraped.text().lines().any(|seen| seen == line), "{line} is missing:\n{}", scraped.text());
    }
}

#[tokio::test]
async fn what_is_recorded_is_what_is_scraped() {
    let running = start();
    running.state.publish_policy(Arc::new(policy()));
    running.state.publish_fleet(Arc::new(fleet(1)));
    for (position, code) in Code::ALL.into_iter().enumerate() {
        for _ in 0..=position {
            running.metrics.decision(Port::Http, DecisionLabel::Refuse(code), 1_500);
        }
    }
    running.metrics.decision(Port::Spop, DecisionLabel::Allow, 1_000);
    running.metrics.decision(Port::Spop, DecisionLabel::Answer, 500_000_000);
    // Not a port that decides: counted nowhere.
    running.metrics.decision(Port::Control, DecisionLabel::Allow, 1);
    for (position, frame) in FrameLabel::ALL.into_iter().enumerate() {
        (0..=position).for_each(|_| running.metrics.frame(frame));
    }
    running.metrics.connection_rejected(Port::Spop);
    running.metrics.config_reload(false);
    let said = scrape(running.address).await;
    assert!(said.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let series = parse(said.text());
    let value = |name: &str| *series.get(name).unwrap_or_else(|| panic!("no {name} in {series:#?}"));
    for (position, code) in Code::ALL.into_iter().enumerate() {
        let name =
            format!("herdgate_decisions_total{{ingress=\"http\",outcome=\"refuse\",code=\"{}\"}}", code.as_str());
        assert_eq!(value(&name), position as f64 + 1.0);
    }
    for (position, frame) in FrameLabel::ALL.into_iter().enumerate() {
        assert_eq!(value(&format!("herdgate_spop_frames_total{{kind=\"{}\"}}", frame.as_str())), position as f64 + 1.0);
    }
    let cases = [
        (r#"herdgate_decisions_total{ingress="spop",outcome="allow",code="none"}"#, 1.0),
        (r#"herdgate_decisions_total{ingress="spop",outcome="answer",code="none"}"#, 1.0),
        (r#"herdgate_decision_duration_seconds_count{ingress="spop"}"#, 2.0),
        (r#"herdgate_decision_duration_seconds_count{ingress="http"}"#, 105.0),
        (r#"herdgate_decision_duration_seconds_bucket{le="0.000001",ingress="spop"}"#, 1.0),
        (r#"herdgate_decision_duration_seconds_bucket{le="0.1",ingress="spop"}"#, 1.0),
        (r#"herdgate_decision_duration_seconds_bucket{le="+Inf",ingress="spop"}"#, 2.0),
        (r#"herdgate_decision_duration_seconds_bucket{le="0.000001",ingress="http"}"#, 0.0),
        (r#"herdgate_decision_duration_seconds_bucket{le="0.000002",ingress="http"}"#, 105.0),
        (r#"herdgate_connections{port="metrics"}"#, 1.0),
        (r#"herdgate_connections_accepted_total{port="metrics"}"#, 1.0),
        (r#"herdgate_connections_rejected_total{port="spop"}"#, 1.0),
        (r#"herdgate_servers{state="up"}"#, 1.0),
        (r#"herdgate_servers{state="down"}"#, 0.0),
        (r#"herdgate_servers{state="busy"}"#, 0.0),
        (r#"herdgate_servers{state="degraded"}"#, 0.0),
        (r#"herdgate_quarantined_models{server="a"}"#, 0.0),
        (r#"herdgate_servers{state="unknown"}"#, 1.0),
        (r#"herdgate_server_up{server="a"}"#, 1.0),
        (r#"herdgate_server_up{server="b\"\n"}"#, 0.0),
        (r#"herdgate_config_reloads_total{result="failed"}"#, 1.0),
        (r#"herdgate_config_reloads_total{result="ok"}"#, 0.0),
        ("herdgate_keys", 0.0),
        (r#"herdgate_build_info{version="0.1.0"}"#, 1.0),
    ];
    for (name, expected) in cases {
        assert_eq!(value(name), expected, "{name}");
    }
    assert_eq!(value(r#"herdgate_decision_duration_seconds_sum{ingress="spop"}"#), 0.500_001);
}

/// litellm#12159, PR 39136, PR 27272: names that clients invented grew the series for ever.
#[tokio::test]
async fn ten_thousand_junk_requests_add_no_series() {
    let running = start();
    running.state.publish_policy(Arc::new(policy()));
    let gate = Arc::new(Gate::new(GateParts::new(
        running.state.clone(),
        running.metrics.clone(),
        Clock::new(),
        Receipts::new([7; 32], 1),
    )));
    let (bound, http) = wire::loopback();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(herdgate::nginx::serve(bound, gate, stop));
    let before = parse(scrape(running.address).await.text());
    let mut client = Client::connect(http).await;
    for junk in 0..10_000 {
        let body = format!("{{\"model\":\"junk-{junk}\"}}");
        let request = format!(
            "POST /{} HTTP/1.1\r\nhost: h\r\nx-herdgate-method: M{junk}\r\nx-herdgate-uri: /junk/{junk}\r\n\
             x-herdgate-source: 192.0.2.1\r\nx-herdgate-uid: {junk}\r\nauthorization: Bearer {junk}\r\n\
             content-length: {}\r\n\r\n{body}",
            ["handoff", "auth", "junk", "catalog"][junk % 4],
            body.len()
        );
        if !client.send(request.as_bytes()).await || client.answer(false).await.is_none_or(|said| said.status < 400) {
            // A path that does not read its body ends the connection; the next request needs a new one.
            client = Client::connect(http).await;
        }
    }
    let after = parse(scrape(running.address).await.text());
    let names = |series: &BTreeMap<String, f64>| series.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert_ne!(before, after, "nothing was counted at all");
}

#[tokio::test]
async fn garbage_leaves_the_metrics_port_serving() {
    let running = start();
    wire::pelt(running.address).await;
    assert_eq!(get(running.address, "/livez").await.status, 200);
}

async fn over_unix(path: &std::path::Path) -> std::io::Result<String> {
    let mut stream = tokio::net::UnixStream::connect(path).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

#[tokio::test]
async fn the_control_socket_is_for_its_group_and_replaces_only_a_dead_one() {
    let running = start();
    let folder = std::env::temp_dir().join(format!("herdgate-control-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("herdgate.sock");
    let address = Address::Unix(path.clone());
    // Left behind by a process that was killed: dropping a std listener keeps the file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = bind(&address, SOCKET_MODE).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(bound, running.admin.clone(), Port::Control, stop.clone()));
    assert!(over_unix(&path).await.unwrap().starts_with("HTTP/1.1 200"));
    let occupied = bind(&address, SOCKET_MODE).err().expect("a second daemon takes the socket over");
    assert_eq!(occupied.kind(), std::io::ErrorKind::AddrInUse);
    assert!(over_unix(&path).await.unwrap().starts_with("HTTP/1.1 200"), "the first lost its socket");
    stop.cancel();
    serving.await.unwrap();
    assert!(!path.exists(), "the socket stays behind");
    std::fs::write(&path, "a file").unwrap();
    assert!(bind(&address, SOCKET_MODE).is_err(), "a file was taken for a socket");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    std::fs::remove_dir_all(&folder).unwrap();
}
