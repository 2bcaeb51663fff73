//! Loops beside the ports: usage lines, expiry, waiters, and the record of last uses.

use super::Wiring;
use crate::gate::Gate;
use crate::gate::state::State;
use crate::{keys, settle};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often waiters are tended where no slot ends meanwhile: their time may be over, or a server be back.
const TEND_INTERVAL: Duration = Duration::from_millis(200);

/// How often slots are expired.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

impl Wiring {
    /// Starts the loops that receive usage lines, and that expire what no line settled.
    pub(super) fn settle(&self, sockets: Vec<settle::UsageSocket>) {
        for socket in sockets {
            self.tasks.spawn(settle::serve(socket, self.gate.clone(), self.traffic.clone(), self.stop.clone()));
        }
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(EXPIRY_INTERVAL);
            let mut silent = false;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let standing = gate.expire();
                if standing.silent != std::mem::replace(&mut silent, standing.silent) {
                    if standing.silent {
                        tracing::error!(open = standing.open, "usage lines have stopped coming; slots end by time");
                    } else {
                        tracing::info!(open = standing.open, "usage lines come again");
                    }
                }
            }
        });
    }

    /// Starts the loop that tends waiters, and refuses them at the end.
    pub(super) fn tend(&self) {
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(TEND_INTERVAL);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = tick.tick() => gate.tend_waiters(),
                }
            }
            gate.close_waiters();
        });
    }

    /// Starts the loop that writes down when secrets were last used.
    pub(super) fn write_uses(&self, path: PathBuf) {
        let (gate, state, stop) = (self.gate.clone(), self.state.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(keys::used::WRITE_EVERY);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let (gate, state, path) = (gate.clone(), state.clone(), path.clone());
                // A file system that hangs must not hold up decisions.
                let _ = tokio::task::spawn_blocking(move || write_uses(&gate, &state, &path)).await;
            }
        });
    }
}

/// Writes down when secrets were last used, where that has changed.
pub(super) fn write_uses(gate: &Gate, state: &State, path: &Path) {
    let view = state.view();
    let exists: HashSet<u64> = view.keys.fingerprints().collect();
    let Some(uses) = gate.last_used.changed(|fingerprint| exists.contains(&fingerprint)) else { return };
    if let Err(error) = keys::used::write(path, &uses) {
        gate.last_used.not_written();
        tracing::warn!(file = %path.display(), %error, "when keys were last used could not be written down");
    }
}
