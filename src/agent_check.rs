//! Answers HAProxy's agent-check: the whole state of the one server its line names.
//!
//! HAProxy keeps whatever a reply does not mention, for ever, and also when herdgate is gone. So every reply is complete; a
//! server is reported down only where the probes proved it, never because herdgate has just started; and the words `ready`,
//! `drain` and `maint` are never sent, because they undo what an operator did by hand.

use crate::decision::fleet::ServerState;
use crate::decision::fleet::capacity;
use crate::decision::view::View;
use crate::gate::state::State;
use crate::metrics::{Metrics, Port};
use crate::net::listen::{Bound, ConnectionLimit, Peer, serve as accept};
use crate::net::log_throttle::LogThrottle;
use crate::time::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest line read, in bytes; a longer one names no server.
const LINE_MAX: usize = 256;

/// How long the line may take. HAProxy sends it at once, or (`agent-send` absent) never.
const LINE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long the peer may take to read the reply and close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Most connections at once: 500 servers checked by eight proxies in the same instant.
const CONNECTIONS_MAX: usize = 4096;

/// Answers until `stop`. `proxies` follows how many HAProxy processes share each server's `maxconn`.
pub async fn serve(
    bound: Bound,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    proxies: watch::Receiver<u32>,
    stop: CancellationToken,
) {
    let limit = ConnectionLimit { port: Port::AgentCheck, connections_max: CONNECTIONS_MAX, metrics };
    let throttle = Arc::new((Clock::new(), LogThrottle::default()));
    accept(bound, limit, stop, |stream, peer| {
        let proxies = *proxies.borrow();
        answer(stream, peer, state.clone(), proxies, throttle.clone())
    })
    .await;
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: Peer,
    state: Arc<State>,
    proxies: u32,
    throttle: Arc<(Clock, LogThrottle)>,
) {
    let mut line = [0; LINE_MAX];
    let sent = read_line(&mut stream, &mut line).await;
    let reply = match sent {
        Sent::Line(name) => reply(&state.view(), name, proxies),
        Sent::TooLong => {
            let (clock, throttle) = &*throttle;
            if let Some(passed_over) = throttle.admit(clock.now()) {
                tracing::warn!(%peer, passed_over, "agent-check: a line of more than {LINE_MAX} bytes");
            }
            UNKNOWN_SERVER.to_owned()
        }
    };
    // A peer that resets after the reply is how HAProxy closes; there is nobody to tell about a failed write.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
        stream.write_all(reply.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the peer might lose the reply.
        let mut rest = [0; LINE_MAX];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

enum Sent<'l> {
    /// The bytes before the end of the line, of the stream, or of [`LINE_TIMEOUT`].
    Line(&'l [u8]),
    TooLong,
}

async fn read_line<'l, S: AsyncRead + Unpin>(stream: &mut S, line: &'l mut [u8; LINE_MAX]) -> Sent<'l> {
    let mut len = 0;
    let mut end = None;
    let _ = tokio::time::timeout(LINE_TIMEOUT, async {
        while let Some(room) = line.get_mut(len..).filter(|room| !room.is_empty()) {
            let Ok(count @ 1..) = stream.read(room).await else { break };
            end = room.iter().take(count).position(|byte| matches!(byte, b'\r' | b'\n')).map(|at| len + at);
            len += count;
            if end.is_some() {
                break;
            }
        }
    })
    .await;
    match (end, len) {
        (Some(end), _) => Sent::Line(line.get(..end).unwrap_or_default()),
        (None, LINE_MAX) => Sent::TooLong,
        (None, len) => Sent::Line(line.get(..len).unwrap_or_default()),
    }
}

const UNKNOWN_SERVER: &str = "down #unknown-server\n";

/// Returns the reply to a line, newline included: `up NN%`, `up NN% maxconn:N` or `down #KIND`. An empty line stands for the
/// only server; where there are several the reply is `up`, which changes nothing.
///
/// The weight is a share of the `weight` on HAProxy's own server line. It matters where several servers stand in one
/// backend; with one backend a server, as we ship it, only 0 does: 0 takes the server out and lets requests in flight end. A
/// server that failed real requests keeps 1 %, because it is still the last choice where no other has the model.
///
/// `maxconn` is the configured one, else what the slots allow: those of each loaded model, and of one more, so that a
/// request for a model that is not loaded need not wait for others to end. HAProxy counts it in each process, so each process
/// gets its share, at least 1 (0 would mean unlimited).
pub fn reply(view: &View, name: &[u8], proxies: u32) -> String {
    let servers = &view.policy.servers;
    let server = match (name.trim_ascii(), servers.as_slice()) {
        (b"", [only]) => only,
        (b"", [_, _, ..]) => return "up\n".to_owned(),
        (name, servers) => match servers.iter().find(|server| server.name.as_bytes() == name) {
            Some(server) => server,
            None => return UNKNOWN_SERVER.to_owned(),
        },
    };
    let seen = view.fleet.servers.get(&server.name);
    let state = seen.map_or(ServerState::Unknown, |seen| seen.state);
    let weight = match state {
        ServerState::Down => {
            let kind = seen.and_then(|seen| seen.failure.as_ref()).map_or("probe", |failure| failure.kind);
            return format!("down #{kind}\n");
        }
        ServerState::Draining => 0,
        _ if server.weight == 0 => 0,
        ServerState::Cooldown | ServerState::Trial => 1,
        ServerState::Degraded => 50,
        // Not proven down, also where it was never probed.
        ServerState::Up | ServerState::Busy | ServerState::Unknown => 100,
    };
    match capacity::told(server, seen.map(|seen| &*seen.inventory)) {
        Some(maxconn) => format!("up {weight}% maxconn:{}\n", (maxconn / proxies.max(1)).max(1)),
        None => format!("up {weight}%\n"),
    }
}
