//! nginx of several versions on the shipped files; only addresses in the site file are replaced.

use super::fleet::Servers;
use super::herdgate::Ports;
use super::process::Process;
use super::release::Place;
use super::scratch::{Scratch, edit};
use super::{Fault, port, root};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: 1.22.
    Debian,
    /// 1.26, Debian trixie's. Only for the matrix.
    Trixie,
    /// Debian sid's: 1.30 or later. Only for the matrix.
    Newer,
}

impl Version {
    fn place(self) -> Place {
        match self {
            Version::Debian => Place::Machine("/usr/sbin/nginx"),
            Version::Trixie => Place::Tree("trixie", "usr/sbin/nginx"),
            Version::Newer => Place::Tree("sid-nginx", "usr/sbin/nginx"),
        }
    }

    /// Returns the series it must be of, from and to.
    pub fn series(self) -> RangeInclusive<(u32, u32)> {
        match self {
            Version::Debian => (1, 22)..=(1, 22),
            Version::Trixie => (1, 26)..=(1, 26),
            Version::Newer => (1, 30)..=(u32::MAX, u32::MAX),
        }
    }

    /// Returns the line of `nginx -v`.
    pub fn line(self) -> Result<String, Fault> {
        self.place().line()
    }

    /// Returns whether it reads this `nginx.conf` and what that includes, and what it says about that. What it writes
    /// goes to `scratch`.
    pub fn check_file(self, file: &Path, scratch: &Scratch) -> Result<(bool, String), Fault> {
        let mut command = self.place().command()?;
        command.arg("-t").arg("-c").arg(file).arg("-e").arg(scratch.join("nginx-error.log"));
        command.args(["-g", &format!("pid {};", scratch.join("nginx.pid").display())]);
        let said = command.output().map_err(|fault| format!("nginx -t: {fault}"))?;
        Ok((said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned()))
    }
}

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
    error_log: PathBuf,
}

impl Nginx {
    /// Starts it on the shipped files.
    pub fn start(
        version: Version,
        mode: Mode,
        scratch: &Scratch,
        ports: &Ports,
        servers: &dyn Servers,
    ) -> Result<Nginx, Fault> {
        Nginx::start_edited(&[], version, mode, scratch, ports, servers)
    }

    /// Starts it with each first of `edits` replaced by the second in `herdgate_server.conf`.
    pub fn start_edited(
        edits: &[(&str, &str)],
        version: Version,
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
        site = edit(&site, "127.0.0.1:9904,", &format!("{},", ports.usage))?;
        site = edit(&site, "listen 8080;", &format!("listen {address};"))?;
        site = edit(&site, "/var/log/nginx/herdgate.log", &access_log.display().to_string())?;
        if mode == Mode::AuthRequest {
            site = edit(&site, "    include handoff.conf;", "    include auth_request.conf;")?;
        }
        scratch.write("nginx/herdgate.conf", &site)?;

        let mut server = read("herdgate_server.conf")?;
        for (from, to) in edits {
            server = edit(&server, from, to)?;
        }
        scratch.write("nginx/herdgate_server.conf", &server)?;

        let error_log = scratch.join("nginx-error.log");
        let mut command = version.place().command()?;
        command.arg("-e").arg(&error_log).arg("-c").arg(folder.join("nginx.conf"));
        let pid = scratch.join("nginx.pid");
        command.args(["-g", &format!("daemon off; pid {};", pid.display())]);
        let mut process = Process::start("nginx", command, &scratch.join("nginx.log"))?;
        process.wait_until_ready(Duration::from_secs(10), |_| TcpStream::connect(address).is_ok())?;
        Ok(Nginx { address, process, access_log, error_log })
    }

    /// Returns the error log.
    pub fn error_lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.error_log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Returns the access log.
    pub fn log_lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.access_log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}
