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

/// When a changed setting of the process takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uptake {
    /// With the reload.
    Reload,
    /// With the next start.
    Restart,
}

/// One setting of the process, as opposed to the policy, all of which a reload takes up.
pub struct Setting {
    /// Section and key in the file.
    pub name: &'static str,
    /// When a change of it takes effect.
    pub uptake: Uptake,
    differs: fn(&Settings, &Settings) -> bool,
}

macro_rules! settings {
    ($($name:literal $uptake:ident $($field:ident).+;)*) => {
        [$(Setting {
            name: $name,
            uptake: Uptake::$uptake,
            differs: |old, new| old.$($field).+ != new.$($field).+,
        }),*]
    };
}

/// Every setting of the process, and when a change of it takes effect: the one list of it.
pub const SETTINGS: [Setting; 28] = settings! {
    "listen.spop" Restart listen.spop;
    "listen.http" Restart listen.http;
    "listen.agent_check" Restart listen.agent_check;
    "listen.metrics" Restart listen.metrics;
    "listen.control" Restart listen.control;
    "listen.usage" Restart listen.usage;
    "keys.file" Restart keys.file;
    "keys.allow_readable" Restart keys.allow_readable;
    "keys.pepper_file" Restart keys.pepper_file;
    "auth.failures" Reload failures;
    "probe.interval" Reload probe.interval;
    "probe.fast_interval" Reload probe.fast_interval;
    "probe.rise" Reload probe.rise;
    "probe.fall" Reload probe.fall;
    "probe.deep_interval" Reload probe.deep_interval;
    "probe.deep_timeout" Reload probe.deep_timeout;
    "probe.idle" Reload probe.idle;
    "issuer" Reload issuers;
    "agent_check.proxies" Reload agent_check_proxies;
    "ledger.max_stream" Reload max_stream;
    "ledger.secret_file" Restart secret_file;
    "ledger.path" Restart ledger.path;
    "ledger.keep" Restart ledger.keep_days;
    "ledger.on_damage" Restart ledger.fresh_on_damage;
    "ledger.store" Restart ledger.store;
    "ledger.replicas" Restart ledger.replicas;
    "ledger.on_store_down" Restart ledger.on_store_down;
    // Stored budgets count in its days.
    "ledger.time_zone" Restart ledger.time_zone;
};

/// Returns when a change of a key takes effect: what is no setting of the process is policy, which a reload takes up whole.
pub fn uptake(section: &str, key: &str) -> Uptake {
    let is = |name: &str| name.split_once('.').map_or(name == section, |found| found == (section, key));
    SETTINGS.iter().find(|setting| is(setting.name)).map_or(Uptake::Reload, |setting| setting.uptake)
}

/// Returns the settings that differ and that a running process cannot take up, as they are called in the file.
pub fn needs_restart(running: &Settings, new: &Settings) -> Vec<&'static str> {
    let waits = |setting: &&Setting| setting.uptake == Uptake::Restart && (setting.differs)(running, new);
    SETTINGS.iter().filter(waits).map(|setting| setting.name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::compile::compile;
    use super::super::sections::{SECTIONS, section};
    use super::super::settings::{KeySettings, LedgerSettings, Listen, ProbeSettings};
    use super::*;

    /// Sections of which every key is a setting of the process.
    const WHOLE: [&str; 5] = ["listen", "keys", "probe", "agent_check", "ledger"];

    #[test]
    fn the_list_names_keys_of_the_schema_and_each_once() {
        for (position, Setting { name, .. }) in SETTINGS.iter().enumerate() {
            let (of, key) = name.split_once('.').unwrap_or((name, ""));
            let known = section(of).expect(name);
            assert!(key.is_empty() || known.keys.iter().any(|found| found.name == key), "{name} is not in the schema");
            assert!(SETTINGS[..position].iter().all(|other| other.name != *name), "{name} stands twice");
        }
    }

    #[test]
    fn no_key_of_a_section_of_settings_is_missing_from_the_list() {
        for of in SECTIONS.iter().filter(|of| WHOLE.contains(&of.name)) {
            for key in of.keys.iter().filter(|key| key.enforced) {
                let name = format!("{}.{}", of.name, key.name);
                assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name}: reload or restart?");
            }
        }
    }

    #[test]
    fn every_field_of_the_settings_has_its_entry() {
        // Without `..`: a new field does not compile here, and then has to be counted below.
        let config = compile(
            "[[server]]\nname = \"a\"\nurl = \"http://10.0.0.1:1\"\n[plans.p]\nmodels = [\"*\"]\n",
            "f",
            Path::new(""),
        );
        let Settings { listen, keys, failures, probe, issuers, secret_file, ledger, max_stream, agent_check_proxies } =
            config.unwrap().settings;
        let Listen { spop: _, http: _, agent_check: _, metrics: _, control: _, usage: _ } = listen;
        let KeySettings { file: _, allow_readable: _, pepper_file: _ } = keys;
        let ProbeSettings {
            interval: _,
            fast_interval: _,
            rise: _,
            fall: _,
            deep_interval: _,
            deep_timeout: _,
            idle: _,
        } = probe;
        let LedgerSettings {
            path: _,
            keep_days: _,
            fresh_on_damage: _,
            time_zone: _,
            store: _,
            replicas: _,
            on_store_down: _,
        } = ledger;
        drop((failures, issuers, secret_file, max_stream, agent_check_proxies));
        let fields = 6 + 3 + 7 + 7 + 5;
        assert_eq!(SETTINGS.len(), fields);
    }

    #[test]
    fn what_is_no_setting_is_policy_and_taken_up() {
        let cases = [
            ("plans", "requests", Uptake::Reload),
            ("server", "url", Uptake::Reload),
            ("issuer", "audience", Uptake::Reload),
            ("issuer", "jwks_uri", Uptake::Reload),
            ("agent_check", "proxies", Uptake::Reload),
            ("listen", "spop", Uptake::Restart),
            ("ledger", "time_zone", Uptake::Restart),
            ("ledger", "max_stream", Uptake::Reload),
        ];
        for (of, key, expected) in cases {
            assert_eq!(uptake(of, key), expected, "{of}.{key}");
        }
    }
}
