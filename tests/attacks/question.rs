//! The decision alone, asked in both proxies' words: the arguments that the shipped SPOE file names, and nginx's port.

use crate::harness::root;
use crate::harness::scratch::Scratch;
use crate::wire::{ask, loopback};
use futures_util::FutureExt as _;
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{FleetView, Inventory, Model};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::policy::{ModelPattern, Plan, Policy, RouteClasses};
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::decision::request::name::ModelName;
use herdgate::decision::verdict::Verdict;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::keys::KeyFile;
use herdgate::metrics::{Metrics, Port};
use herdgate::spop::notify::{Messages, put_message};
use herdgate::spop::translate::inquiry;
use herdgate::spop::wire::TypedValue;
use herdgate::time::clock::Clock;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as a client wrote it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The one header by which keys may name their users, in the shipped files.
pub const USER: &str = "x-openwebui-user-email";

/// `name=fetch` of the shipped question.
fn arguments() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("haproxy/spoe-herdgate.conf")).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("args ")).unwrap();
    let line = line.replace("\"${HERDGATE_ON_BEHALF-x-openwebui-user-email}\"", USER);
    line.split(' ').map(|argument| argument.split_once('=').unwrap()).map(|(n, f)| (n.into(), f.into())).collect()
}

/// Returns the headers that the shipped question reads.
pub fn headers_read() -> BTreeSet<String> {
    let header = |fetch: &str| Some(fetch.strip_prefix("req.fhdr(")?.strip_suffix(')')?.to_owned());
    arguments().iter().filter_map(|(_, fetch)| header(fetch)).collect()
}

/// Returns the headers that nginx's files hand to herdgate or use to ask it.
pub fn headers_nginx_reads(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("nginx").join(file)).unwrap();
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
    words.filter_map(|word| word.strip_prefix("$http_")).map(|name| name.replace('_', "-")).collect()
}

/// Returns the payload HAProxy would send for a request. `more` are arguments that no herdgate knows.
fn payload(asked: &Asked, more: &[(String, String)], rotate: usize) -> Vec<u8> {
    let values = |name: &str| -> Vec<&str> {
        let same = asked.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.trim_matches([' ', '\t'])).collect()
    };
    let shipped = arguments();
    let size = i64::try_from(asked.body.len()).unwrap();
    let mut arguments: Vec<(&[u8], TypedValue<'_>)> = Vec::new();
    for (name, fetch) in &shipped {
        let inner = |kind: &str| fetch.strip_prefix(kind).and_then(|rest| rest.strip_suffix(')'));
        let value = match fetch.as_str() {
            "unique-id" => TypedValue::String(b"u"),
            "method" => TypedValue::String(asked.method.as_bytes()),
            "url" => TypedValue::String(asked.target.as_bytes()),
            "src" => TypedValue::Ipv4(Ipv4Addr::new(192, 0, 2, 7)),
            "req.body" => TypedValue::Binary(&asked.body),
            "req.body_len" | "req.body_size" => TypedValue::Int64(size),
            _ => match (inner("req.fhdr("), inner("req.fhdr_cnt("), inner("str(")) {
                (Some(header), ..) => {
                    values(header).last().map_or(TypedValue::Null, |value| TypedValue::String(value.as_bytes()))
                }
                (_, Some(header), _) => TypedValue::Int64(i64::try_from(values(header).len()).unwrap()),
                (.., Some(text)) => TypedValue::String(text.as_bytes()),
                _ => panic!("the shipped question asks for `{fetch}`, which nothing here knows"),
            },
        };
        arguments.push((name.as_bytes(), value));
    }
    arguments.extend(more.iter().map(|(name, value)| (name.as_bytes(), TypedValue::String(value.as_bytes()))));
    let turn = rotate % arguments.len();
    arguments.rotate_left(turn);
    let mut payload = Vec::new();
    put_message(&mut payload, b"request", &arguments);
    payload
}

/// Returns the decision over HAProxy's question: `allow`, `answer` or `refuse STATUS CODE`.
pub fn over_spop(gate: &Gate, asked: &Asked, more: &[(String, String)], rotate: usize) -> String {
    let payload = payload(asked, more, rotate);
    let question = match inquiry(Messages::new(&payload).unwrap()) {
        Ok(question) => question,
        Err(fault) => return format!("refuse 503 {fault}"),
    };
    let now = Moment { mono_ns: 1_000_000_000, unix_ms: 1 };
    let view = gate.state.view();
    match gate.decide_at(&view, Question::new(&question, Port::Spop, now), now).now_or_never().unwrap().verdict {
        Verdict::Allow(grant) => format!("allow {}", grant.pool.map_or("?", |pool| pool.name.as_str())),
        Verdict::Answer(_) => "answer".to_owned(),
        Verdict::Refuse(refusal) => format!("refuse {} {}", refusal.status(), refusal.code().as_str()),
    }
}

/// Returns the decision over nginx's port, which is shown every header here: the shipped files show it a list.
pub async fn over_http(port: SocketAddr, asked: &Asked) -> String {
    let mut head = format!(
        "POST /handoff HTTP/1.1\r\nhost: herdgate\r\ncontent-length: {}\r\nx-herdgate-method: {}\r\n\
         x-herdgate-uri: {}\r\nx-herdgate-source: 192.0.2.7\r\nx-herdgate-uid: u\r\nx-herdgate-on-behalf-name: {USER}\r\n",
        asked.body.len(),
        asked.method,
        asked.target
    );
    for (name, value) in &asked.headers {
        let name = if name.eq_ignore_ascii_case(USER) { "x-herdgate-on-behalf" } else { name };
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let said = ask(port, &[head.as_bytes(), &asked.body].concat()).await.unwrap();
    match said.status {
        200 if said.header("x-accel-redirect").is_some() => "allow".to_owned(),
        200 => "answer".to_owned(),
        status => format!("refuse {status}"),
    }
}

/// nginx's port over a gate.
pub fn serve(gate: Arc<Gate>) -> (SocketAddr, DropGuard) {
    let (bound, address) = loopback();
    let stop = CancellationToken::new();
    tokio::spawn(herdgate::nginx::serve(bound, gate, stop.clone()));
    (address, stop.drop_guard())
}

/// The secret of the key that names its users.
pub const WEBUI: &str = "hg_webui";

/// Returns a gate with the servers and plans of the end-to-end runs, and keys whose secrets are `team`, `all` and
/// [`WEBUI`].
pub fn gate(team: &str, all: &str) -> Gate {
    let state = Arc::new(State::new());
    let plan = |name: &str, models: &[&str]| Plan {
        name: name.into(),
        models: models.iter().map(|pattern| ModelPattern::new(pattern)).collect(),
        routes: RouteClasses { inference: true, catalog: true },
        ..Plan::default()
    };
    let server = |name: &str| Server {
        name: name.into(),
        url: format!("http://{name}:11434").into(),
        kind: ServerKind::Ollama,
        maxconn: None,
        slots: None,
        weight: 100,
        models: Vec::new(),
    };
    state.publish_policy(Arc::new(Policy {
        plans: vec![plan("team", &["llama3.2:3b", "qwen2.5:0.5b"]), plan("all", &["*", "mistral:7b"])],
        servers: ["ollama1", "ollama2", "ollama3"].map(server).into(),
        recheck_s: 5,
        ..Policy::default()
    }));
    // By way of a key file, as keys come into the world.
    let scratch = Scratch::new().unwrap();
    let mut text = String::new();
    for (name, secret, plan) in [("team", team, "team"), ("all", all, "all"), ("webui", WEBUI, "team")] {
        let digest: String = sha2::Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!(
            "[[key]]\nname = \"{name}\"\nplan = \"{plan}\"\nsha256 = \"{digest}\"\ncreated = \"2026-01-01T00:00:00Z\"\n"
        );
    }
    text += &format!("on_behalf_of = \"{USER}\"\n");
    let file = scratch.write("keys.toml", &text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let keys = herdgate::keys::load(&KeyFile::new(&file)).unwrap_or_else(|_| panic!("{text}"));
    state.publish_keys(Arc::new(keys));
    let mut fleet = FleetView::default();
    for (name, models) in
        [("ollama1", &["llama3.2:3b", "qwen2.5:0.5b"][..]), ("ollama2", &["llama3.2:3b"]), ("ollama3", &["mistral:7b"])]
    {
        let mut track = ServerTrack::default();
        track.report(
            Ok(Inventory { models: models.iter().map(|name| model(name)).collect(), ..Inventory::default() }),
            1,
            1,
        );
        fleet.servers.insert(name.into(), track.view());
    }
    state.publish_fleet(Arc::new(fleet));
    Gate::new(GateParts::new(state, Arc::new(Metrics::new()), Clock::new(), Receipts::new([7; 32], 1)))
}

fn model(name: &str) -> Model {
    Model {
        name: ModelName::canonical(name),
        listed: name.into(),
        digest: "".into(),
        size: 0,
        modified_at: "".into(),
        created: 0,
        owned_by: "".into(),
        details: "".into(),
        capabilities: "".into(),
        remote: false,
    }
}
