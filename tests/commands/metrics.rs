//! What the metrics port says, as Prometheus's own tool reads it, in both formats; and the page that lists it.

use crate::harness::client::{Request, Response, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::haproxy::Version;
use crate::harness::redis::Redis;
use crate::harness::scratch::Scratch;
use crate::harness::stack::{Front, Stack};
use herdgate::decision::caller::token::Issuer;
use herdgate::decision::plan::policy::Policy;
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::gate::state::State;
use herdgate::metrics::{Metrics, TextFormat, document};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Runs `promtool check metrics`. Returns whether it was content, and what it said.
fn promtool(text: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().unwrap_or_else(|fault| panic!("promtool (make tools): {fault}"));
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let ended = tool.wait_with_output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn scrape(stack: &Stack, accept: Option<&str>) -> Response {
    let request = Request::get("/metrics").header("Connection", "close");
    let request = accept.into_iter().fold(request, |request, accept| request.header("Accept", accept));
    let answer = send(stack.herdgate.ports.metrics, &request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Returns a daemon behind HAProxy with a ledger's file and a shared store, after some requests of which one was
/// refused.
fn stack(redis: &Redis, scratch: &Scratch) -> Stack {
    let secret = scratch.join("herdgate.secret");
    let ledger =
        format!("\n[ledger]\nstore = \"{}\"\nreplicas = 2\nsecret_file = \"{}\"\n", redis.url(), secret.display());
    let stack = Stack::start_with(&ledger, &[], Front::HaProxy(Version::Debian)).unwrap();
    wait_until("the store is up", Duration::from_secs(10), || {
        stack.herdgate.metric("herdgate_shared_store_up") == Some(1)
    })
    .unwrap();
    let chat = serde_json::json!({
        "model": SHARED_MODEL, "stream": false, "options": { "num_predict": 2 },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    let chat = Request::post("/api/chat", chat.to_string()).header("Connection", "close");
    for _ in 0..3 {
        assert_eq!(stack.send(&chat.clone().key(&stack.keys().team)).unwrap().status, 200);
    }
    assert_eq!(stack.send(&chat.key("sk-nobody")).unwrap().status, 401);
    wait_until("all is settled and written", Duration::from_secs(15), || {
        stack.herdgate.metric("herdgate_slots_open") == Some(0)
            && stack.herdgate.metric("herdgate_ledger_file_written_total").is_some_and(|count| count >= 6)
    })
    .unwrap();
    stack
}

/// Samples by name and labels, the labels in one order; and the names that are described.
fn parse(text: &str) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut samples, mut described) = (BTreeMap::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(described.insert(current.clone()), "{current} is described twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&current), "{line} stands with {current}");
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let mut labels: Vec<&str> = labels.trim_end_matches('"').split("\",").collect();
            labels.sort_unstable();
            let series = format!("{name} {labels:?}");
            assert!(samples.insert(series.clone(), value.to_owned()).is_none(), "{series} stands twice");
        }
    }
    (samples, described)
}

#[test]
fn prometheus_reads_what_a_daemon_says_and_both_formats_say_the_same() {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(&scratch).unwrap();
    let stack = stack(&redis, &scratch);

    let classic = scrape(&stack, None);
    assert_eq!(classic.header("content-type"), Some(CLASSIC));
    let text = classic.text();
    assert_eq!(promtool(&text), (true, String::new()), "{text}");
    let (classic, described) = parse(&text);
    // No issuer is configured here; all else is there.
    let absent: Vec<String> = document::names().into_iter().filter(|name| !described.contains(name)).collect();
    assert_eq!(absent, ["herdgate_issuer_keys", "herdgate_issuer_failures"]);
    let has = |line: &str| assert!(text.lines().any(|seen| seen == line), "{line} is missing:\n{text}");
    has("herdgate_decisions_total{ingress=\"spop\",outcome=\"refuse\",code=\"invalid_api_key\"} 1");
    has("herdgate_settled_total{evidence=\"exact\"} 3");
    has("herdgate_llm_tokens_total{direction=\"output\",evidence=\"exact\"} 6");
    has("herdgate_ledger_file_failing 0");

    let openmetrics =
        scrape(&stack, Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
    assert_eq!(openmetrics.header("content-type"), Some(OPENMETRICS));
    let text = openmetrics.text();
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let (openmetrics, _) = parse(&text);
    assert!(classic.keys().eq(openmetrics.keys()), "{classic:#?}\n{openmetrics:#?}");
    assert!(classic.len() > 250, "only {} samples", classic.len());

    for (accept, content_type) in [
        ("*/*", CLASSIC),
        ("text/html, application/xhtml+xml", CLASSIC),
        ("application/openmetrics-text;q=0.5, text/plain", CLASSIC),
        ("application/openmetrics-text;q=nonsense", CLASSIC),
        ("application/openmetrics-text", OPENMETRICS),
    ] {
        assert_eq!(scrape(&stack, Some(accept)).header("content-type"), Some(content_type), "{accept}");
    }
}

#[test]
fn promtool_has_nothing_to_say_of_metrics_with_names_from_the_configuration() {
    let server = Server {
        name: "a \"quoted\" name".into(),
        url: "http://127.0.0.1:1".into(),
        kind: ServerKind::Ollama,
        maxconn: None,
        slots: None,
        weight: 100,
        models: Vec::new(),
    };
    let issuer = Issuer {
        name: "https://id.example.com/".into(),
        audience: "herdgate".into(),
        algorithms: Vec::new(),
        user_claim: "sub".into(),
        plan: None,
        rules: Vec::new(),
        max_users: 1,
    };
    let policy = Policy { servers: vec![server], issuers: vec![issuer], ..Policy::default() };
    let state = State::new();
    state.publish_policy(Arc::new(policy));
    let text = Metrics::new().render(&state.view(), TextFormat::Classic).unwrap();
    assert!(text.contains("herdgate_issuer_failures{issuer=\"https://id.example.com/\"} 0\n"), "{text}");
    assert!(text.contains(r#"herdgate_server_up{server="a \"quoted\" name"} 0"#), "{text}");
    assert_eq!(promtool(&text), (true, String::new()), "{text}");
}

#[test]
fn promtool_does_find_what_is_wrong() {
    for (text, complaint) in [
        ("# HELP a_things Things.\n# TYPE a_things counter\na_things 1\n", "_total"),
        ("# HELP a_milliseconds_total Time.\n# TYPE a_milliseconds_total counter\na_milliseconds_total 1\n", "seconds"),
        ("# TYPE a_total counter\na_total 1\n", "help"),
        ("a_total 1\na_total 2\n", "a_total"),
        ("# HELP a A.\n# TYPE a info\na 1\n", "info"),
    ] {
        let (content, said) = promtool(text);
        assert!(!content && said.contains(complaint), "{text}: {said}");
    }
}

/// `docs/metrics.md` is written by this test where HERDGATE_BLESS is set.
#[test]
#[allow(clippy::disallowed_methods, reason = "whoever changes a metric says that the page is to be written")]
fn the_reference_page_is_up_to_date() {
    let path = crate::harness::root().join("docs/metrics.md");
    let page = document::markdown();
    if std::env::var_os("HERDGATE_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == page, "docs/metrics.md is stale: run HERDGATE_BLESS=1 cargo test --test commands metrics");
}

/// Words that begin with `herdgate_`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(move |character| !is_part(character)).filter(|word| word.starts_with("herdgate_"))
}

#[test]
fn documents_name_only_metrics_that_there_are() {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let below = |folder: &str| {
        let entries = std::fs::read_dir(crate::harness::root().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    // The proxies' own files have words of that kind, too.
    let proxies: Vec<String> = ["haproxy", "nginx"].into_iter().flat_map(below).map(|path| read(&path)).collect();
    let mut known: BTreeSet<String> = proxies.iter().flat_map(|text| words(text)).map(str::to_owned).collect();
    known.extend(document::names());
    let mut pages = below("docs");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| crate::harness::root().join(name)));
    let mut found = 0;
    for page in pages {
        for word in words(&read(&page)) {
            assert!(known.contains(word), "{}: there is no {word}", page.display());
            found += 1;
        }
    }
    assert!(found > 50, "only {found} names found");
}
