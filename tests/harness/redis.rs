//! A real Redis (Debian's `redis-server`) on a free loopback port, which keeps nothing on disk. herdgate is a user of it with the
//! permissions that are documented and no others; the tests look into it as its administrator.

use super::deadline::wait_until;
use super::process::Process;
use super::scratch::Scratch;
use super::{Fault, port};
use herdgate::shared_store::acl;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// The administrator's password.
const ADMINISTRATOR: &str = "administrator";

/// The database that is used: not the first, so that choosing one is tried too.
const DATABASE: u8 = 3;

/// A running server.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    folder: std::path::PathBuf,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start(scratch: &Scratch) -> Result<Redis, Fault> {
        let (address, folder) = (port::free()?, scratch.path().to_owned());
        let process = start(address, &folder)?;
        Ok(Redis { address, process, folder })
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) -> Result<(), Fault> {
        self.process.kill();
        self.process = start(self.address, &self.folder)?;
        Ok(())
    }

    /// Its address as herdgate's configuration has it.
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs one command as the administrator, over a connection of its own.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Fault> {
        command(self.address, words)
    }

    /// Returns how often herdgate asked for what it may not do.
    pub fn denials(&self) -> Result<usize, Fault> {
        self.command::<Vec<redis::Value>>(&["ACL", "LOG"]).map(|entries| entries.len())
    }

    /// Every key and all it holds, in order, but for keys that come and go by time alone. Not by `DUMP`, whose order of a
    /// hash's fields changes while the server rehashes.
    pub fn dump(&self) -> Result<Vec<(String, Vec<String>)>, Fault> {
        let mut keys: Vec<String> = self.command(&["KEYS", "*"])?;
        keys.retain(|key| !key.ends_with(":b") && !key.ends_with(":l"));
        keys.sort();
        keys.into_iter().map(|key| Ok((key.clone(), self.content(&key)?))).collect()
    }

    /// All that a key holds.
    pub fn content(&self, key: &str) -> Result<Vec<String>, Fault> {
        match self.command::<String>(&["TYPE", key])?.as_str() {
            "hash" => {
                let flat: Vec<String> = self.command(&["HGETALL", key])?;
                let mut pairs: Vec<String> = flat.chunks(2).map(|pair| pair.join("=")).collect();
                pairs.sort();
                Ok(pairs)
            }
            "zset" => self.command(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
            "list" => self.command(&["LRANGE", key, "0", "-1"]),
            _ => Ok(vec![self.command(&["GET", key])?]),
        }
    }
}

/// Returns a server's address as herdgate's configuration has it.
pub fn url(address: SocketAddr) -> String {
    format!("redis://herdgate:herdgate@{address}/{DATABASE}")
}

fn start(address: SocketAddr, folder: &std::path::Path) -> Result<Process, Fault> {
    let mut command = Command::new("redis-server");
    let port = address.port().to_string();
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command.args(["--requirepass", ADMINISTRATOR, "--user", "herdgate", "on", ">herdgate"]).args(acl::rules());
    command.args(["--enable-debug-command", "local", "--loglevel", "warning"]);
    let mut process = Process::start("redis-server", command, &folder.join("redis.log"))?;
    process.wait_until_ready(Duration::from_secs(15), |_| {
        self::command::<String>(address, &["PING"]).is_ok_and(|answer| answer == "PONG")
    })?;
    Ok(process)
}

/// Runs one command as the administrator, over a connection of its own.
pub fn command<T: redis::FromRedisValue>(address: SocketAddr, words: &[&str]) -> Result<T, Fault> {
    let fault = |error: redis::RedisError| format!("redis {words:?}: {error}");
    let client = redis::Client::open(format!("redis://:{ADMINISTRATOR}@{address}/{DATABASE}")).map_err(fault)?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).map_err(fault)?;
    connection.set_read_timeout(Some(Duration::from_secs(10))).map_err(fault)?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut connection).map_err(fault)
}

/// Waits until the server answers again.
pub fn wait_for(address: SocketAddr) -> Result<(), Fault> {
    wait_until("redis answers", Duration::from_secs(10), || command::<String>(address, &["PING"]).is_ok())
}
