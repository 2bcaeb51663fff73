//! Everything together: servers, herdgate and one proxy in front.

use super::Fault;
use super::client::{self, Request, Response};
use super::deadline::wait_until;
use super::fleet::Fleet;
use super::haproxy::{self, HaProxy};
use super::herdgate::{Herdgate, Keys};
use super::nginx::{self, Mode, Nginx};
use super::scratch::Scratch;
use std::net::SocketAddr;
use std::time::Duration;

/// Which proxy stands in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// HAProxy.
    HaProxy(haproxy::Version),
    /// nginx.
    Nginx(nginx::Version, Mode),
}

/// A running proxy.
#[derive(Debug)]
pub enum Proxy {
    /// HAProxy.
    HaProxy(HaProxy),
    /// nginx.
    Nginx(Nginx),
}

impl Proxy {
    /// Returns where clients connect.
    pub fn address(&self) -> SocketAddr {
        match self {
            Proxy::HaProxy(proxy) => proxy.address,
            Proxy::Nginx(proxy) => proxy.address,
        }
    }

    /// Log lines: of HAProxy since the last call, of nginx since its start.
    pub fn log_lines(&self) -> Vec<String> {
        match self {
            Proxy::HaProxy(proxy) => proxy.log_lines(),
            Proxy::Nginx(proxy) => proxy.log_lines(),
        }
    }
}

/// The parts, ended in this order.
#[derive(Debug)]
pub struct Stack {
    /// The proxy.
    pub proxy: Proxy,
    /// herdgate.
    pub herdgate: Herdgate,
    /// The servers.
    pub fleet: Fleet,
    /// The files of the run.
    pub scratch: Scratch,
}

/// Tokens of the simulators, 50 ms apart.
pub const TOKENS_PER_SECOND: u32 = 20;

impl Stack {
    /// Starts everything on the shipped files, and waits until a model list comes through.
    pub fn start(front: Front) -> Result<Stack, Fault> {
        Stack::start_edited(&[], front)
    }

    /// Returns the same with each first of `edits` replaced by the second in the proxy's file.
    pub fn start_edited(edits: &[(&str, &str)], front: Front) -> Result<Stack, Fault> {
        Stack::start_with("", edits, front)
    }

    /// Returns the same with `addition` at the end of herdgate's configuration.
    pub fn start_with(addition: &str, edits: &[(&str, &str)], front: Front) -> Result<Stack, Fault> {
        let scratch = Scratch::new()?;
        let fleet = Fleet::start(&scratch, TOKENS_PER_SECOND)?;
        let mut herdgate = Herdgate::new_with(&scratch, &fleet, addition)?;
        herdgate.start()?;
        let ports = &herdgate.ports;
        let proxy = match front {
            Front::HaProxy(version) if edits.is_empty() => {
                Proxy::HaProxy(HaProxy::start(version, &scratch, ports, &fleet)?)
            }
            Front::HaProxy(version) => Proxy::HaProxy(HaProxy::start_edited(edits, version, &scratch, ports, &fleet)?),
            Front::Nginx(version, mode) => {
                Proxy::Nginx(Nginx::start_edited(edits, version, mode, &scratch, ports, &fleet)?)
            }
        };
        let stack = Stack { proxy, herdgate, fleet, scratch };
        if !matches!(front, Front::Nginx(_, Mode::AuthRequest)) {
            stack.wait_for_service()?;
        }
        Ok(stack)
    }

    /// Waits until a model list comes through.
    pub fn wait_for_service(&self) -> Result<(), Fault> {
        let mut last = String::new();
        let list = Request::get("/v1/models").key(&self.keys().team).header("Connection", "close");
        wait_until("a model list", Duration::from_secs(15), || match self.send(&list) {
            Ok(answer) if answer.status == 200 => true,
            Ok(answer) => {
                last = format!("{} {}", answer.status, answer.text());
                false
            }
            Err(fault) => {
                last = fault;
                false
            }
        })
        .map_err(|fault| format!("{fault}; last: {last}"))
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.herdgate.keys
    }

    /// Sends a request through the proxy.
    pub fn send(&self, request: &Request) -> Result<Response, Fault> {
        client::send(self.proxy.address(), request)
    }
}
