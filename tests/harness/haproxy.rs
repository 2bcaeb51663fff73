//! HAProxy on the shipped files: Debian's own, and a newer one through the loader of the tree it came in.

use super::fleet::Fleet;
use super::herdgate::Ports;
use super::process::Process;
use super::scratch::{Scratch, edit};
use super::{Fault, port, root};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Which HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `/usr/sbin/haproxy`, 2.6 on Debian 12: the SPOE engine of HAProxy up to 3.0.
    Debian,
    /// `target/tools/sid`: the engine of HAProxy 3.1 and later.
    Newer,
}

impl Version {
    /// How to run it.
    pub fn command(self) -> Result<Command, Fault> {
        let (program, arguments): (PathBuf, Vec<PathBuf>) = match self {
            Version::Debian => ("/usr/sbin/haproxy".into(), Vec::new()),
            Version::Newer => {
                let tree = root().join("target/tools/sid");
                let libraries = tree.join("usr/lib/x86_64-linux-gnu");
                let loader = tree.join("lib64/ld-linux-x86-64.so.2");
                (loader, vec!["--library-path".into(), libraries, tree.join("usr/sbin/haproxy")])
            }
        };
        if !program.exists() {
            return Err(format!("{} is missing: run `make tools`", program.display()));
        }
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }

    /// The first line of `haproxy -v`.
    pub fn line(self) -> Result<String, Fault> {
        let said = self.command()?.arg("-v").output().map_err(|fault| format!("haproxy -v: {fault}"))?;
        Ok(String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned())
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
    pub fn start(version: Version, scratch: &Scratch, ports: &Ports, fleet: &Fleet) -> Result<HaProxy, Fault> {
        HaProxy::start_on(&root().join("haproxy/haproxy.cfg"), version, scratch, ports, fleet)
    }

    /// Starts it on a copy in which `line` is taken out of `haproxy.cfg`.
    pub fn start_without(
        line: &str,
        version: Version,
        scratch: &Scratch,
        ports: &Ports,
        fleet: &Fleet,
    ) -> Result<HaProxy, Fault> {
        let folder = scratch.copy(&root().join("haproxy"), "haproxy")?;
        let config = folder.join("haproxy.cfg");
        let text = std::fs::read_to_string(&config).map_err(|fault| format!("{}: {fault}", config.display()))?;
        scratch.write("haproxy/haproxy.cfg", &edit(&text, line, "")?)?;
        HaProxy::start_on(&config, version, scratch, ports, fleet)
    }

    /// Starts it on any file that reads the variables of the shipped one.
    pub fn start_on(
        file: &Path,
        version: Version,
        scratch: &Scratch,
        ports: &Ports,
        fleet: &Fleet,
    ) -> Result<HaProxy, Fault> {
        // The file is run as Debian runs it: chroot, then `user haproxy`.
        if !rustix::process::geteuid().is_root() {
            return Err("HAProxy needs root here: the shipped file has chroot and user haproxy".to_owned());
        }
        let address = port::free()?;
        let log = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(|fault| format!("log: {fault}"))?;
        log.set_nonblocking(true).map_err(|fault| format!("log: {fault}"))?;
        let log_address = log.local_addr().map_err(|fault| format!("log: {fault}"))?;

        let mut command = version.command()?;
        command.arg("-db").arg("-f").arg(file);
        command.env("HERDGATE_BIND", address.to_string());
        command.env("HERDGATE_SPOP", ports.spop.to_string());
        command.env("HERDGATE_HTTP", ports.http.to_string());
        command.env("HERDGATE_AGENT_ADDR", ports.agent_check.ip().to_string());
        command.env("HERDGATE_AGENT_PORT", ports.agent_check.port().to_string());
        command.env("HAPROXY_LOG", log_address.to_string());
        command.env("HAPROXY_STATS", scratch.join("haproxy.sock"));
        for server in &fleet.servers {
            command.env(server.name.to_uppercase(), server.address.to_string());
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
