//! Commands of the control socket: `POST /block`, `/unblock`, `/forget`, `/servers/NAME/drain` and `/undrain`. Whoever can write to
//! the socket (owner and group) may send them.

use super::{Admin, TEXT, plain};
use crate::decision::caller::blocks::{BLOCK_MAX_S, BLOCKS_MAX, Block, BlockKind};
use crate::decision::caller::on_behalf;
use crate::gate::audit;
use crate::gate::state::State;
use crate::ledger::journal::Keeper;
use crate::net::http::HttpAnswer;
use crate::time::clock::Clock;
use http_body_util::{BodyExt, Limited};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use std::sync::Arc;

/// Largest command, in bytes.
const COMMAND_MAX: usize = 4096;

/// HTTP status, and a line for the operator.
pub type ControlReply = (u16, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlCommand {
    kind: String,
    name: String,
    #[serde(default)]
    seconds: u64,
}

/// Returns whether [`obey`] takes commands at this path.
pub fn is_command(path: &str) -> bool {
    matches!(path, "/block" | "/unblock")
}

/// Reads the command of a request to `path` and carries it out.
pub async fn obey<B>(state: &State, clock: &Clock, path: &str, body: B) -> ControlReply
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(body) = Limited::new(body, COMMAND_MAX).collect().await else {
        return (400, "the command did not arrive whole\n".to_owned());
    };
    let Ok(command) = serde_json::from_slice::<ControlCommand>(&body.to_bytes()) else {
        return (400, "the command cannot be read\n".to_owned());
    };
    match (BlockKind::parse(&command.kind), path) {
        (Some(kind), "/block") => block(state, clock, kind, &command.name, command.seconds),
        (Some(kind), _) => unblock(state, clock, kind, &command.name),
        (None, _) => (400, "only a key or a user can be blocked\n".to_owned()),
    }
}

/// Reads a user's name and has the keeper forget it: `POST /forget`.
pub async fn forget<B>(keeper: Option<Arc<dyn Keeper>>, body: B) -> ControlReply
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ForgetBody {
        user: String,
    }
    let Ok(body) = Limited::new(body, COMMAND_MAX).collect().await else {
        return (400, "the command did not arrive whole\n".to_owned());
    };
    let Ok(ForgetBody { user }) = serde_json::from_slice(&body.to_bytes()) else {
        return (400, "the command cannot be read\n".to_owned());
    };
    let Some(keeper) = keeper else { return (409, "[ledger] path is off: nothing is kept\n".to_owned()) };
    if user.is_empty() {
        return (400, "the user has no name\n".to_owned());
    }
    match tokio::task::spawn_blocking(move || keeper.forget(&user)).await {
        Ok(Ok(done)) => (200, format!("{done}\n")),
        Ok(Err(what)) => (500, format!("{what}\n")),
        Err(_) => (500, "the ledger failed\n".to_owned()),
    }
}

fn block(state: &State, clock: &Clock, kind: BlockKind, name: &str, seconds: u64) -> ControlReply {
    let now = clock.now();
    if !(1..=BLOCK_MAX_S).contains(&seconds) {
        return (400, "a block lasts from 1s to 30d\n".to_owned());
    }
    let name = match comparable(kind, name) {
        Ok(name) => name,
        Err(reply) => return reply,
    };
    if kind == BlockKind::Key && !state.view().keys.iter().any(|key| *key.name == *name) {
        return (404, format!("there is no key named \"{}\"\n", audit::printable(name.as_bytes())));
    }
    let until = now.plus_ns(seconds.saturating_mul(1_000_000_000));
    let block = || Block { kind, name: name.as_str().into(), until };
    if !state.change_blocks(|view| view.blocks.with(block(), now)) {
        return (409, format!("{BLOCKS_MAX} blocks are in force; no more are held\n"));
    }
    audit::commanded("blocked", kind.as_str(), &name, Some(seconds));
    (200, format!("{} \"{}\" is blocked for {seconds} s\n", kind.as_str(), audit::printable(name.as_bytes())))
}

fn unblock(state: &State, clock: &Clock, kind: BlockKind, name: &str) -> ControlReply {
    let now = clock.now();
    let name = match comparable(kind, name) {
        Ok(name) => name,
        Err(reply) => return reply,
    };
    let shown = audit::printable(name.as_bytes());
    if !state.change_blocks(|view| view.blocks.without(kind, &name, now)) {
        return (404, format!("{} \"{shown}\" is not blocked\n", kind.as_str()));
    }
    audit::commanded("unblocked", kind.as_str(), &name, None);
    (200, format!("{} \"{shown}\" is let in again\n", kind.as_str()))
}

/// Answers `POST /servers/NAME/drain` and `/undrain`: `order` is what follows `/servers/`.
pub(super) fn set_drained(admin: &Admin, method: &Method, order: &str) -> HttpAnswer {
    let Some((name, drained)) = order.rsplit_once('/').and_then(|(name, word)| match word {
        "drain" => Some((name, true)),
        "undrain" => Some((name, false)),
        _ => None,
    }) else {
        return plain(StatusCode::NOT_FOUND, TEXT, "unknown path\n");
    };
    if method != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST changes it\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return answer;
    }
    let view = admin.state.view();
    let Some(server) = view.policy.servers.iter().find(|server| *server.name == *name) else {
        let names: Vec<&str> = view.policy.servers.iter().map(|server| &*server.name).collect();
        return plain(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("there is no such server; there are: {}\n", names.join(", ")),
        );
    };
    if admin.drains.set(&server.name, drained) {
        tracing::info!(server = %server.name, drained, "an operator changed whether the server takes requests");
    }
    plain(StatusCode::OK, TEXT, if drained { "draining\n" } else { "takes requests again\n" })
}

/// Returns the name in the form that decisions compare.
fn comparable(kind: BlockKind, name: &str) -> Result<String, ControlReply> {
    let refused = || (400, "this cannot be the name of a key or a user\n".to_owned());
    match kind {
        BlockKind::Key => Some(name.to_owned()).filter(|name| !name.is_empty() && name.len() <= 64),
        BlockKind::User => on_behalf::UserName::new(name.as_bytes())
            .filter(|name| !name.is_empty())
            .and_then(|name| String::from_utf8(name.as_bytes().to_vec()).ok()),
    }
    .ok_or_else(refused)
}
