//! Debian's nginx on the shipped files; only addresses in the site file are replaced.

use super::fleet::Servers;
use super::herdgate::Ports;
use super::process::Process;
use super::scratch::{Scratch, edit};
use super::{Fault, port, root};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = "/usr/sbin/nginx";

/// Which of the shipped modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `handoff.conf`
    Handoff,
    /// `auth_request.conf`
    AuthRequest,
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The process.
    pub process: Process,
    access_log: PathBuf,
}

impl Nginx {
    /// The version line.
    pub fn line() -> Result<String, Fault> {
        let said = Command::new(PROGRAM)
            .arg("-v")
            .output()
            .map_err(|fault| format!("{PROGRAM}: {fault}: run `make tools`"))?;
        Ok(String::from_utf8_lossy(&said.stderr).trim().to_owned())
    }

    /// Starts it on the shipped files.
    pub fn start(mode: Mode, scratch: &Scratch, ports: &Ports, servers: &dyn Servers) -> Result<Nginx, Fault> {
        Nginx::start_without(&[], mode, scratch, ports, servers)
    }

    /// Starts it with `lines` taken out of `herdgate_server.conf`.
    pub fn start_without(
        lines: &[&str],
        mode: Mode,
        scratch: &Scratch,
        ports: &Ports,
        servers: &dyn Servers,
    ) -> Result<Nginx, Fault> {
        // The shipped file has `user www-data`.
        if !rustix::process::geteuid().is_root() {
            return Err("nginx needs root here: the shipped file has user www-data".to_owned());
        }
        let folder = scratch.copy(&root().join("nginx"), "nginx")?;
        let address = port::free()?;
        let access_log = scratch.join("nginx-access.log");
        let read =
            |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|fault| format!("nginx/{name}: {fault}"));

        let mut site = read("herdgate.conf")?;
        site = edit(&site, "127.0.0.1:9902;", &format!("{};", ports.http))?;
        let shipped = ["127.0.0.1:11434;", "127.0.0.1:11435;", "127.0.0.1:11436;"];
        for ((_, address), shipped) in servers.addresses().into_iter().zip(shipped) {
            site = edit(&site, shipped, &format!("{address};"))?;
        }
        site = edit(&site, "listen 8080;", &format!("listen {address};"))?;
        site = edit(&site, "/var/log/nginx/herdgate.log", &access_log.display().to_string())?;
        if mode == Mode::AuthRequest {
            site = edit(&site, "    include handoff.conf;", "    include auth_request.conf;")?;
        }
        scratch.write("nginx/herdgate.conf", &site)?;

        let mut server = read("herdgate_server.conf")?;
        for line in lines {
            server = edit(&server, line, "")?;
        }
        scratch.write("nginx/herdgate_server.conf", &server)?;

        let error_log = scratch.join("nginx-error.log");
        let mut command = Command::new(PROGRAM);
        command.arg("-e").arg(&error_log).arg("-c").arg(folder.join("nginx.conf"));
        let pid = scratch.join("nginx.pid");
        command.args(["-g", &format!("daemon off; pid {};", pid.display())]);
        let mut process = Process::start("nginx", command, &scratch.join("nginx.log"))?;
        process.wait_until_ready(Duration::from_secs(10), |_| TcpStream::connect(address).is_ok())?;
        Ok(Nginx { address, process, access_log })
    }

    /// The access log.
    pub fn log_lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.access_log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}
