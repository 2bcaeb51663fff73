//! `herdgate explain`: the steps of a request tried here, and of one that a running daemon remembers.

use futures_util::FutureExt as _;
use herdgate::admin::{Admin, serve};
use herdgate::config;
use herdgate::decision::caller::blocks::{Block, BlockKind};
use herdgate::decision::fleet::ServerState;
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::gate::receipt::Receipts;
use herdgate::gate::recent::HELD;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::keys::{self, KeyFile};
use herdgate::metrics::{Metrics, Port};
use herdgate::net::listen::{Address, bind};
use herdgate::time::clock::Clock;
use herdgate::trial::configured;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

const CONFIG: &str = r#"
[[server]]
name = "gpu1"
url = "http://10.0.1.10:11434"
models = ["llama3.2:3b", "qwen3:8b"]
[[server]]
name = "gpu2"
url = "http://10.0.1.11:11434"
models = ["llama3.2:3b"]
[plans.team]
models = ["llama3.*"]
requests = "60/min"
burst = 2
concurrency = 3
[plans.member]
models = ["*"]
[teams.research]
plan = "member"
"#;

const LLAMA: &str = r#"{"model":"LLAMA3.2:3b"}"#;

/// A folder with a configuration and keys, in which the command is run; removed when the test is over.
struct Site {
    folder: PathBuf,
    /// Of key `alice`.
    secret: String,
}

impl Site {
    fn new(name: &str) -> Site {
        // Short, because of the control socket in it.
        let folder = std::env::temp_dir().join(format!("hg-explain-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("herdgate.toml"), CONFIG).unwrap();
        let mut site = Site { folder, secret: String::new() };
        let new = |line: &str| site.run(&line.split(' ').collect::<Vec<_>>(), "").1;
        let secret = new("key new --name alice --plan team --team research --print").trim().to_owned();
        new("key new --name webui --plan team --on-behalf-of x-user --user-plan member --print");
        new("key new --name late --plan team --not-before 2100-01-01T00:00:00Z --print");
        new("key new --name gone --plan team --print");
        new("key revoke gone");
        site.secret = secret;
        site
    }

    /// Exit status, standard output, standard error.
    fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_herdgate"))
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Explains, with the last argument given whole; expects the exit status, and what is told in this order.
    fn check(&self, arguments: &str, body: &str, status: i32, told: &[&str]) {
        let mut words: Vec<&str> = ["explain"].into_iter().chain(arguments.split(' ')).collect();
        if !body.is_empty() {
            words.extend(["-d", body]);
        }
        let (found, out, err) = self.run(&words, "");
        assert_eq!(found, status, "{arguments}: {out}{err}");
        let mut rest = out.as_str();
        for part in told {
            let Some(at) = rest.find(part) else { panic!("{arguments}: no \"{part}\" in its place in:\n{out}") };
            rest = &rest[at + part.len()..];
        }
        // The same in JSON, and steps that end where the decision ended.
        words.push("--json");
        let (found, out, _) = self.run(&words, "");
        assert_eq!(found, status, "{out}");
        let json: Value = serde_json::from_str(&out).unwrap();
        let passed: Vec<bool> = json["steps"].as_array().unwrap().iter().map(|step| step["passed"] == true).collect();
        let refused = json["verdict"] == "refuse";
        assert_eq!(passed.iter().filter(|passed| !**passed).count(), usize::from(refused), "{out}");
        assert_eq!(passed.last().copied().unwrap_or(false), !refused, "{out}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn each_step_says_what_it_found_and_the_last_one_why() {
    let site = Site::new("steps");
    let chat = "POST /api/chat --key alice";
    site.check(
        chat,
        LLAMA,
        0,
        &[
            "route    ok  POST /api/chat is endpoint chat, of class inference\n",
            "caller   ok  authorization of key \"alice\" on plan \"team\", of team \"research\" (plan \"member\")\n",
            "plan     ok  plan \"team\" on inference endpoints\n",
            "body     ok  23 bytes\n",
            "model    ok  \"LLAMA3.2:3b\" is llama3.2:3b, on gpu1 (up), gpu2 (up); \"llama3.*\" of plan \"team\"\n",
            "limits   ok  key 60 requests in 60 s (2 at once), 3 in flight; team unlimited\n",
            "server   ok  gpu1, else gpu2, out of gpu1 (up), gpu2 (up)\n",
            "allowed, to gpu1\n",
        ],
    );
    site.check("GET /v1/models --key alice", "", 0, &["endpoint v1_models, of class catalog", "answered by herdgate"]);
    site.check("GET /v1/models/llama3.2%3A3b --key alice", "", 0, &["model    ok", "answered by herdgate"]);
    for (arguments, body, told) in [
        (
            "POST /api/%63hat --key alice",
            LLAMA,
            &["route    NO  POST /api/%63hat: two servers", "refused: 404 unknown_route"][..],
        ),
        ("POST /api/chat", LLAMA, &["caller   NO  no credential: no credential, and", "refused: 401"]),
        ("POST /api/chat -H api-key:hg_x", LLAMA, &["caller   NO  api-key: no key has this secret"]),
        ("POST /api/chat --key gone", LLAMA, &["caller   NO  authorization of key \"gone\": the key was revoked"]),
        ("POST /api/chat --key late", LLAMA, &["caller   NO  authorization of key \"late\": the key is not valid yet"]),
        (
            "POST /api/chat --key webui",
            LLAMA,
            &["caller   NO", "header that the proxy does not pass on", "403 not_permitted"],
        ),
        (
            "DELETE /api/delete --key alice",
            LLAMA,
            &["plan     NO  plan \"team\" on admin endpoints: the plan's routes"],
        ),
        (
            chat,
            "{\"model\":",
            &["body     NO  9 bytes: it ends before its JSON does", "400 invalid_body (body_incomplete)"],
        ),
        (chat, "{\"model\":\"mistral\"}", &["model    NO  \"mistral\": no server of the fleet has this model"]),
        (
            chat,
            "{\"model\":\"qwen3:8b\"}",
            &[
                "model    NO  \"qwen3:8b\" is qwen3:8b, on gpu1 (up): the plan's models do not list it",
                "refused: 404 model_not_found (model_not_in_plan)",
                "the client reads: {\"error\":\"model 'qwen3:8b' not found\"}",
            ],
        ),
    ] {
        site.check(arguments, body, 1, told);
    }
    let late = "POST /api/chat --key late --at 2100-01-01T00:00:00Z";
    site.check(late, LLAMA, 0, &["allowed, to gpu1"]);
    let webui = "POST /api/chat --key webui --passes x-user -H X-User:ann@example.com --src 2001:db8::1";
    site.check(webui, LLAMA, 0, &["asking for the user that x-user names (plan \"member\")", "user unlimited"]);
}

#[test]
fn bodies_and_headers_come_from_files_and_standard_input_too() {
    let site = Site::new("files");
    fs::write(site.folder.join("body.json"), LLAMA).unwrap();
    fs::write(site.folder.join("headers"), format!("Authorization: Bearer {}\n\nX-Other: 1\n", site.secret)).unwrap();
    site.check("POST /api/chat -H @headers -d @body.json", "", 0, &["authorization of key \"alice\"", "allowed"]);
    let (status, out, _) = site.run(&["explain", "POST", "/api/chat", "--key", "alice", "-d", "@-"], LLAMA);
    assert!(status == 0 && out.contains("allowed, to gpu1"), "{out}");
    fs::write(site.folder.join("odd"), b"\xff").unwrap();
    site.check("POST /api/chat --key alice -d @odd", "", 1, &["body     NO  1 bytes: it is not one JSON object"]);
    for (arguments, complaint) in [
        ("explain POST /api/chat --key nobody", "there is no key \"nobody\""),
        ("explain POST /api/chat --key alice -H x-api-key:a", "--key stands for a credential"),
        ("explain POST /api/chat -H s3cret", "a header is \"NAME: VALUE\""),
        ("explain POST /api/chat -d @absent", "absent: cannot be read"),
        ("explain POST /api/chat --at noon", "\"at\" is not a time"),
        ("explain POST /api/chat --src here", "invalid value 'here'"),
        ("explain abc", "the 32 hex digits"),
        ("explain 0123456789abcdef0123456789abcdef --key alice", "the 32 hex digits"),
        ("explain", "required arguments"),
        ("--config - explain POST /api/chat -d @-", "standard input holds the body"),
    ] {
        let (status, out, err) = site.run(&arguments.split(' ').collect::<Vec<_>>(), "");
        assert_eq!((status, out.as_str()), (2, ""), "{arguments}: {err}");
        assert!(err.contains(complaint) && !err.contains("s3cret"), "{arguments}: {err}");
    }
    let (status, _, err) = site.run(&["explain", "0123456789abcdef0123456789abcdef"], "");
    assert!(status == 1 && err.contains("no daemon answers on unix:"), "{err}");
}

#[test]
fn no_secret_and_no_prompt_is_told() {
    const PLANTED: &str = "pl4ntedSecret";
    let site = Site::new("secrets");
    let ours = format!("hg_{PLANTED}");
    let prompt = format!("{{\"model\":\"llama3.2:3b\",\"prompt\":\"{PLANTED}\"}}");
    for (path, header, body) in [
        (format!("/api/chat?key={PLANTED}"), format!("Authorization: Bearer {}", site.secret), prompt.clone()),
        (format!("/api/{ours}"), format!("X-Api-Key: {PLANTED}"), prompt.clone()),
        ("/api/chat".to_owned(), format!("Authorization: Basic {PLANTED}"), prompt),
        ("/api/chat".to_owned(), format!("Authorization: Bearer {}", site.secret), format!("{{\"{PLANTED}\"")),
        ("/api/chat".to_owned(), format!("{PLANTED} {PLANTED}: x"), String::new()),
    ] {
        for more in [&[][..], &["--json"]] {
            let asked = ["explain", "POST", &path, "-H", &header, "-d", &body];
            let (_, out, err) = site.run(&[&asked[..], more].concat(), "");
            let text = out + &err;
            assert!(!text.contains(PLANTED) && !text.contains(&site.secret), "{path} {header}: {text}");
        }
    }
}

/// A gate and its control socket, without probes: the fleet is what a test says.
struct Daemon {
    gate: Gate,
    _stop: DropGuard,
}

fn daemon(site: &Site) -> Daemon {
    let config = config::load(&site.folder.join("herdgate.toml")).unwrap();
    let keys = keys::load(&KeyFile::new(&site.folder.join("keys.toml"))).unwrap();
    let state = Arc::new(State::new());
    state.publish_fleet(Arc::new(configured(&config.policy)));
    state.publish_policy(Arc::new(config.policy));
    state.publish_keys(Arc::new(keys));
    let (metrics, clock) = (Arc::new(Metrics::new()), Clock::new());
    let gate = Gate::new(GateParts::new(state.clone(), metrics.clone(), clock.clone(), Receipts::new([7; 32], 1)));
    let admin = Arc::new(Admin::new(state, metrics, clock).with_recent(gate.recent.clone()));
    let stop = CancellationToken::new();
    for (port, socket) in [(Port::Control, "herdgate.sock"), (Port::Metrics, "metrics.sock")] {
        let bound = bind(&Address::Unix(site.folder.join(socket)), 0o660).unwrap();
        tokio::spawn(serve(bound, admin.clone(), port, stop.clone()));
    }
    Daemon { gate, _stop: stop.drop_guard() }
}

/// Decides on a chat; answers its id.
fn decide(gate: &Gate, secret: &str, target: &str, body: &str) -> String {
    let authorization = format!("Bearer {secret}");
    let inquiry = Inquiry {
        uid: b"",
        method: b"POST",
        target: target.as_bytes(),
        source: "192.0.2.7".parse().ok(),
        authorization: HeaderField::once(authorization.as_bytes()),
        x_api_key: HeaderField::default(),
        api_key: HeaderField::default(),
        on_behalf: OnBehalf::default(),
        encoding: None,
        body: BodyShown::Bytes { seen: body.as_bytes(), size: body.len() as u64 },
    };
    let view = gate.state.view();
    gate.decide(&view, Question::new(&inquiry, Port::Spop, gate.clock.now()))
        .now_or_never()
        .unwrap()
        .id
        .as_str()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_tells_of_the_last_decisions_over_the_control_socket_alone() {
    const PLANTED: &str = "pl4ntedSecret";
    let site = Site::new("past");
    let Daemon { gate, _stop } = daemon(&site);
    let prompt = format!("{{\"model\":\"LLAMA3.2:3b\",\"prompt\":\"{PLANTED}\"}}");
    let allowed = decide(&gate, &site.secret, &format!("/api/chat?key={PLANTED}"), &prompt);
    let unknown = decide(&gate, PLANTED, "/api/chat", LLAMA);
    let outside = decide(&gate, &site.secret, "/v1/chat/completions", r#"{"model":"qwen3:8b"}"#);
    let unread = decide(&gate, &site.secret, "/api/chat", "{\"model\":");
    let limited: Vec<String> = (0..2).map(|_| decide(&gate, &site.secret, "/api/chat", LLAMA)).collect();
    let head = format!("{allowed}, at 2");
    site.check(
        &allowed,
        "",
        0,
        &[
            &head,
            "by spop, from 192.0.2.7\n",
            "route    ok  POST /api/chat is endpoint chat\n",
            "caller   ok  \"alice\", of team \"research\"\n",
            "model    ok  \"llama3.2:3b\"\n",
            "limits   ok  1 of 2 left\n",
            "server   ok  gpu1, else gpu2\n",
            "allowed, to gpu1\n",
        ],
    );
    for (id, told) in [
        (&unknown, &["caller   NO  no key has this secret", "refused: 401 invalid_api_key (unknown_key)"][..]),
        (&outside, &["model    NO  \"qwen3:8b\": the plan's models", "does not exist or you do not have access"]),
        (&unread, &["body     NO  at byte 9: it ends before", "ends before its JSON does (after 9 bytes)"]),
        (&limited[1], &["limits   NO  0 of 2 left: the key's request rate", "429 rate_limit_exceeded (request_rate)"]),
    ] {
        site.check(id, "", 1, told);
    }
    site.check(&allowed.to_uppercase(), "", 0, &[&allowed]);
    for id in [&allowed, &unknown] {
        let (_, out, err) = site.run(&["explain", id, "--json"], "");
        assert!(!out.contains(PLANTED) && !err.contains(PLANTED) && !out.contains(&site.secret), "{out}");
    }
    let (status, _, err) = site.run(&["explain", "0123456789abcdef0123456789abcdef"], "");
    assert!(status == 1 && err.contains("no such decision among the last 4096"), "{err}");

    // Whoever may read the metrics learns nothing of callers.
    for (socket, expected) in [("herdgate.sock", "HTTP/1.1 200"), ("metrics.sock", "HTTP/1.1 404")] {
        let mut stream = UnixStream::connect(site.folder.join(socket)).unwrap();
        let request = format!("GET /decisions/{allowed} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(expected), "{socket}: {answer}");
    }

    // Only so many are kept.
    (0..HELD).for_each(|_| drop(decide(&gate, PLANTED, "/api/chat", LLAMA)));
    assert!(site.run(&["explain", &allowed], "").2.contains("no such decision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn live_takes_servers_and_blocks_as_the_daemon_has_them() {
    let site = Site::new("live");
    let Daemon { gate, _stop } = daemon(&site);
    let chat = "POST /api/chat --key alice --live";
    site.check(chat, LLAMA, 0, &["on gpu1 (up), gpu2 (up)", "allowed, to gpu1"]);
    let set = |name: &str, state: ServerState| {
        let mut fleet = gate.state.view().fleet.as_ref().clone();
        fleet.servers.get_mut(name).unwrap().state = state;
        gate.state.publish_fleet(Arc::new(fleet));
    };
    set("gpu1", ServerState::Down);
    site.check(chat, LLAMA, 0, &["on gpu1 (down), gpu2 (up)", "allowed, to gpu2"]);
    set("gpu2", ServerState::Draining);
    site.check(chat, LLAMA, 1, &["server   NO  gpu1 (down), gpu2 (draining): none of the servers", "503 no_server"]);
    site.check("POST /api/chat --key alice", LLAMA, 0, &["allowed, to gpu1"]);
    let until = gate.clock.now().plus_ns(3_600_000_000_000);
    let block = Block { kind: BlockKind::Key, name: "alice".into(), until };
    assert!(gate.state.change_blocks(|view| view.blocks.with(block, gate.clock.now())));
    site.check(chat, LLAMA, 1, &["caller   NO  authorization of key \"alice\": an operator has blocked it"]);
}

/// The configuration is read from where it stands, so paths in it hold wherever the command is run.
#[test]
fn the_configuration_may_stand_elsewhere() {
    let site = Site::new("elsewhere");
    let config = site.folder.join("herdgate.toml");
    let ran = Command::new(env!("CARGO_BIN_EXE_herdgate"))
        .args(["explain", "POST", "/api/chat", "--key", "alice", "-d", LLAMA, "--config"])
        .arg(&config)
        .current_dir(Path::new("/"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
}
