//! The listeners: bound before anything is served, then each given what it answers from.

use super::{ServeFault, Wiring};
use crate::config::Settings;
use crate::metrics::Port;
use crate::net::listen::{self, Address, Bound, SOCKET_MODE};
use crate::{admin, agent_check, nginx, settle, spop};
use tokio::sync::watch;

/// The listeners. All are bound before any serves, because a daemon that is half up is worse than one that says what is wrong.
pub(super) struct Ports {
    spop: Option<Bound>,
    http: Option<Bound>,
    agent_check: Option<Bound>,
    metrics: Option<Bound>,
    control: Option<Bound>,
    pub(super) usage: Vec<settle::UsageSocket>,
}

impl Ports {
    pub(super) async fn bind(settings: &Settings) -> Result<Ports, ServeFault> {
        let bind = |name: &'static str, address: &Option<Address>| match address {
            None => Ok(None),
            Some(address) => {
                let bound = listen::bind(address, SOCKET_MODE)
                    .map_err(ServeFault::system(format!("listening on {address} ([listen] {name})")))?;
                tracing::info!(port = name, %address, "listening");
                Ok(Some(bound))
            }
        };
        let listen = &settings.listen;
        let usage = |address: &Address| {
            let bound = settle::bind(address, SOCKET_MODE)
                .map_err(ServeFault::system(format!("listening on {address} ([listen] usage)")))?;
            tracing::info!(port = "usage", %address, "listening");
            Ok(bound)
        };
        Ok(Ports {
            spop: bind("spop", &listen.spop)?,
            http: bind("http", &listen.http)?,
            agent_check: bind("agent_check", &listen.agent_check)?,
            metrics: bind("metrics", &listen.metrics)?,
            control: bind("control", &listen.control)?,
            usage: listen.usage.iter().map(usage).collect::<Result<_, ServeFault>>()?,
        })
    }
}

impl Wiring {
    /// Serves the bound ports until the daemon stops. `proxies` follows `[agent_check] proxies`.
    pub(super) fn listen(&self, ports: Ports, proxies: watch::Receiver<u32>) {
        let stop = || self.stop.clone();
        if let Some(bound) = ports.spop {
            self.tasks.spawn(spop::listener::serve(bound, self.gate.clone(), stop(), spop::limits::Limits::default()));
        }
        if let Some(bound) = ports.http {
            self.tasks.spawn(nginx::serve(bound, self.gate.clone(), stop()));
        }
        if let Some(bound) = ports.agent_check {
            let (state, metrics) = (self.state.clone(), self.metrics.clone());
            self.tasks.spawn(agent_check::serve(bound, state, metrics, proxies, stop()));
        }
        if let Some(bound) = ports.metrics {
            self.tasks.spawn(admin::serve(bound, self.admin.clone(), Port::Metrics, stop()));
        }
        if let Some(bound) = ports.control {
            self.tasks.spawn(admin::serve(bound, self.admin.clone(), Port::Control, stop()));
        }
    }
}
