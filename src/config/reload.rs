//! Takes up a changed configuration while the daemon runs; a bad one changes nothing.

use super::compile::Config;
use super::settings::Settings;
use crate::files::problem::Problems;
use crate::files::watch::FileWatch;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// Time between two looks at the file.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Follows the file until dropped: on SIGHUP, and when it changed, it is read again. A good one goes to `publish`; a
/// bad one to the log, and `publish` is told `None`. `watch` must be older than the reading of `running`, the settings the
/// process was started with.
///
/// # Errors
/// Where the signal handler cannot be installed.
pub async fn follow(
    mut watch: FileWatch,
    running: Settings,
    mut publish: impl FnMut(Option<Config>),
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            // Standard input was read to its end at the start; there is nothing to read again.
            received = hangup.recv() => received.is_some() && !super::is_stdin(watch.path()),
            _ = tick.tick() => {
                // On a file system that hangs, a look may block; it must not block the decisions.
                match tokio::task::spawn_blocking(move || { let due = watch.look(); (watch, due) }).await {
                    Ok((returned, due)) => { watch = returned; due }
                    Err(fault) => return Err(std::io::Error::other(fault)),
                }
            }
        };
        if due {
            let path = watch.path().to_owned();
            match read_again(path).await {
                Ok(config) => {
                    for setting in needs_restart(&running, &config.settings) {
                        warn!(setting, "takes effect after a restart");
                    }
                    info!(
                        file = %watch.path().display(),
                        servers = config.policy.servers.len(),
                        plans = config.policy.plans.len(),
                        "configuration reloaded"
                    );
                    publish(Some(config));
                }
                Err(problems) => {
                    log_refused(&problems);
                    publish(None);
                }
            }
        }
    }
}

async fn read_again(path: PathBuf) -> Result<Config, Problems> {
    let file = path.display().to_string();
    let load = move || super::load(Path::new(&path));
    match tokio::task::spawn_blocking(load).await {
        Ok(result) => result,
        Err(fault) => Err(Problems::whole_file(&file, format!("could not be read: {fault}"), None)),
    }
}

fn log_refused(problems: &Problems) {
    error!(file = %problems.file, problems = problems.count(), "configuration refused; the last good one stays");
    for problem in &problems.items {
        let (line, column) = problem.position.map_or((0, 0), |position| (position.line, position.column));
        error!(file = %problems.file, line, column, hint = problem.hint.as_deref(), "{}", problem.what);
    }
}

/// Returns the settings that differ and that a running process cannot take up, as they are called in the file.
pub fn needs_restart(running: &Settings, new: &Settings) -> Vec<&'static str> {
    let (old_listen, new_listen) = (&running.listen, &new.listen);
    [
        ("listen.spop", old_listen.spop != new_listen.spop),
        ("listen.http", old_listen.http != new_listen.http),
        ("listen.agent_check", old_listen.agent_check != new_listen.agent_check),
        ("listen.metrics", old_listen.metrics != new_listen.metrics),
        ("listen.control", old_listen.control != new_listen.control),
        ("listen.usage", old_listen.usage != new_listen.usage),
        ("keys.file", running.keys.file != new.keys.file),
        ("keys.allow_readable", running.keys.allow_readable != new.keys.allow_readable),
        ("keys.pepper_file", running.keys.pepper_file != new.keys.pepper_file),
        ("ledger.secret_file", running.secret_file != new.secret_file),
        ("ledger.store", running.ledger.store != new.ledger.store),
        ("ledger.replicas", running.ledger.replicas != new.ledger.replicas),
        ("ledger.on_store_down", running.ledger.on_store_down != new.ledger.on_store_down),
        ("ledger.path", running.ledger.path != new.ledger.path),
        ("ledger.keep", running.ledger.keep_days != new.ledger.keep_days),
        ("ledger.time_zone", running.ledger.time_zone != new.ledger.time_zone),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}
