//! A policy with an API key, five limits and eight servers, and the question that is put to it.

use crate::bodies;
use crate::harness::Fault;
use crate::harness::scratch::Scratch;
use herdgate::config;
use herdgate::decision::caller::keyset::{Digest, Key, KeySet};
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{FleetView, Inventory, Model};
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::request::name::ModelName;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts};
use herdgate::metrics::Metrics;
use herdgate::spop::frame::{Flags, FrameHeader, FrameKind};
use herdgate::spop::hello::HaproxyHello;
use herdgate::spop::notify::write_notify;
use herdgate::spop::session::Session;
use herdgate::spop::wire::TypedValue;
use herdgate::time::clock::Clock;
use sha2::Digest as _;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

const SECRET: &str = "hg_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const SERVERS: usize = 8;

/// Returns a gate whose view has everything in it.
pub fn gate() -> Result<Gate, Fault> {
    let state = Arc::new(State::new());
    let config = config::load(&configuration()?.1).map_err(|problems| format!("{problems:?}"))?;
    state.publish_policy(Arc::new(config.policy));

    let mut keys = KeySet::default();
    let plan = keys.intern_plan("team").ok_or("no room for a plan")?;
    let key = Key {
        name: "ann".into(),
        plan,
        team: None,
        not_before_unix_ms: None,
        expires_unix_ms: None,
        revoked: false,
        scope: Scope(u128::MAX / 3),
        on_behalf: None,
    };
    keys.insert(Digest(sha2::Sha256::digest(SECRET.as_bytes()).into()), key);
    state.publish_keys(Arc::new(keys));

    let mut fleet = FleetView::default();
    for position in 0..SERVERS {
        let mut track = ServerTrack::default();
        track.report(Ok(Inventory { models: vec![model()], ..Inventory::default() }), 1, 1);
        fleet.servers.insert(format!("gpu{position}").into(), track.view());
    }
    state.publish_fleet(Arc::new(fleet));
    Ok(Gate::new(GateParts::new(state, Arc::new(Metrics::new()), Clock::new(), Receipts::new([7; 32], 1))))
}

/// Returns the configuration in a file; the directory lives as long as the first value.
fn configuration() -> Result<(Scratch, std::path::PathBuf), Fault> {
    let mut text = String::from(
        r#"[listen]
spop = "127.0.0.1:9901"
[keys]
file = "keys.toml"
[plans.team]
models = ["llama3.*"]
routes = ["inference", "catalog"]
requests = ["10M/s", "500M/min", "1000M/h", "1000M/day", "900M/day"]
"#,
    );
    for position in 0..SERVERS {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[server]]\nname = \"gpu{position}\"\nurl = \"http://127.0.0.1:{}\"\nkind = \"ollama\"\n",
            11_434 + position
        );
    }
    let scratch = Scratch::new()?;
    let path = scratch.write("herdgate.toml", &text)?;
    Ok((scratch, path))
}

fn model() -> Model {
    Model {
        name: ModelName::canonical("llama3.2:3b"),
        listed: "llama3.2:3b".into(),
        digest: "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72".into(),
        size: 2_019_393_189,
        modified_at: "".into(),
        created: 0,
        owned_by: "library".into(),
        details: "".into(),
        capabilities: "".into(),
        remote: false,
    }
}

/// Returns a session after HELLO.
pub fn session() -> Session {
    let mut session = Session::new(300_000);
    let (mut hello, mut output) = (Vec::new(), Vec::new());
    let capabilities = b"pipelining";
    HaproxyHello { versions: b"2.0", max_frame_size: 262_140, capabilities, engine_id: None, healthcheck: false }
        .write(&mut hello);
    session.step(&hello, &mut output);
    session
}

/// HAProxy's identifier of the question.
pub const UID: &[u8] = b"8f1e0000-0000-0000-0000-000000000000";

/// Returns the question as HAProxy puts it: every argument of `spoe-herdgate.conf`, 1 KiB of body.
pub fn question() -> Vec<u8> {
    let body = bodies::chat();
    let length = TypedValue::Int64(i64::try_from(body.len()).unwrap_or(0));
    let bearer = format!("Bearer {SECRET}");
    let mut question = Vec::new();
    write_notify(
        &mut question,
        FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 5, frame: 1 },
        b"request",
        &[
            (b"uid", TypedValue::String(UID)),
            (b"method", TypedValue::String(b"POST")),
            (b"target", TypedValue::String(b"/v1/chat/completions")),
            (b"src", TypedValue::Ipv4(Ipv4Addr::LOCALHOST)),
            (b"authorization", TypedValue::String(bearer.as_bytes())),
            (b"authorization_n", TypedValue::Int64(1)),
            (b"x_api_key", TypedValue::Null),
            (b"x_api_key_n", TypedValue::Int64(0)),
            (b"api_key", TypedValue::Null),
            (b"api_key_n", TypedValue::Int64(0)),
            (b"encoding", TypedValue::Null),
            (b"body", TypedValue::Binary(&body)),
            (b"body_len", length),
            (b"body_size", length),
        ],
    );
    question
}
