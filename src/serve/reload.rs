//! What follows the files of the running daemon: probes, issuers, keys, and the configuration. What of it a reload takes up
//! and what needs a restart is one list, [`crate::config::reload::SETTINGS`].

use super::{ServeFault, Wiring};
use crate::config::{self, Config, Settings};
use crate::files::watch::FileWatch;
use crate::gate::audit;
use crate::jwks;
use crate::keys::{self, KeyFile};
use crate::probe::{self, Client, Schedule, Senses};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use tokio::sync::watch;

impl Wiring {
    /// Starts the loops that keep the View current: the probes, the configuration and the keys.
    pub(super) fn follow(
        &self,
        config_watch: Option<FileWatch>,
        keys_watch: FileWatch,
        key_file: KeyFile,
        settings: Settings,
        proxies: watch::Sender<u32>,
    ) -> Result<(), ServeFault> {
        let client = Client::new().map_err(|error| ServeFault::System {
            doing: "setting up the probes".to_owned(),
            error: io::Error::other(error),
        })?;
        let (schedule, scheduled) = watch::channel(schedule(&settings));
        let senses = Senses {
            client,
            clock: self.gate.clock.clone(),
            traffic: self.traffic.clone(),
            calibrations: self.gate.calibrations.clone(),
            drained: self.admin.drains().follow(),
        };
        self.tasks.spawn(probe::run(self.state.clone(), senses, scheduled, self.stop.clone()));

        let (sources, sourced) = watch::channel(sources(&settings));
        let fetching = jwks::Fetching {
            state: self.state.clone(),
            wanted: self.gate.wanted(),
            metrics: self.metrics.clone(),
            clock: self.gate.clock.clone(),
            pace: jwks::FetchPace::default(),
        };
        self.tasks.spawn(jwks::run(fetching, sourced, self.stop.clone()));

        let (state, admin, gate) = (self.state.clone(), self.admin.clone(), self.gate.clone());
        let path = key_file.path.clone();
        self.follow_until_stopped(
            "keys",
            keys::watch::follow(keys_watch, key_file, move |keys| {
                let before = state.view().keys.clone();
                state.publish_keys(Arc::new(keys));
                admin.keys_loaded();
                let view = state.view();
                gate.retain_keys(&view);
                let owner = std::fs::metadata(&path).ok().map(|file| file.uid());
                audit::keys_changed(&before.changes(&view.keys, audit::KEY_CHANGES_MAX), owner);
            }),
        );

        let Some(config_watch) = config_watch else { return Ok(()) };
        let (state, gate, admin, metrics) =
            (self.state.clone(), self.gate.clone(), self.admin.clone(), self.metrics.clone());
        self.follow_until_stopped(
            "configuration",
            config::reload::follow(config_watch, settings, move |reloaded| {
                metrics.config_reload(reloaded.is_some());
                let Some(Config { settings, policy }) = reloaded else { return };
                state.publish_policy(Arc::new(policy));
                gate.retain_pools(&state.view());
                gate.apply(&settings.of_gate());
                proxies.send_replace(settings.agent_check_proxies);
                admin.config_loaded();
                // After the policy, so that the probes find the new servers.
                schedule.send_replace(self::schedule(&settings));
                sources.send_replace(self::sources(&settings));
            }),
        );
        Ok(())
    }

    fn follow_until_stopped(
        &self,
        what: &'static str,
        following: impl Future<Output = io::Result<()>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = following => {
                    if let Err(error) = ended {
                        tracing::error!(what, %error, "changes are no longer followed; restart to take them up");
                    }
                }
            }
        });
    }
}

fn schedule(settings: &Settings) -> Schedule {
    let config::settings::ProbeSettings { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle } =
        settings.probe.clone();
    Schedule { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle }
}

/// Returns where the keys of issuers come from.
fn sources(settings: &Settings) -> Vec<jwks::KeySource> {
    let source = |issuer: &config::settings::IssuerSource| {
        let config::settings::IssuerSource { issuer, jwks_uri, ca_file, proxy } = issuer.clone();
        jwks::KeySource { issuer, jwks_uri, ca_file, proxy }
    };
    settings.issuers.iter().map(source).collect()
}
