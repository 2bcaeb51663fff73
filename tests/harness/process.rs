//! One child process: its output goes to a file, and it ends when dropped.

use super::Fault;
use super::deadline::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `output`, after what is there.
    pub fn start(name: &str, mut command: Command, output: &Path) -> Result<Process, Fault> {
        let open = || File::options().create(true).append(true).open(output);
        let (out, err) = match (open(), open()) {
            (Ok(out), Ok(err)) => (out, err),
            (Err(fault), _) | (_, Err(fault)) => return Err(format!("{}: {fault}", output.display())),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|fault| format!("{name}: cannot start {:?}: {fault}", command.get_program()))?;
        Ok(Process { name: name.to_owned(), child, output: output.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns how it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready` holds. A process that ends before is a fault, with what it printed.
    pub fn wait_until_ready(&mut self, limit: Duration, mut ready: impl FnMut(&str) -> bool) -> Result<(), Fault> {
        let mut ended = None;
        let waited = wait_until("ready", limit, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready(&self.output())
        });
        match (waited, ended) {
            (Ok(()), None) => Ok(()),
            (_, Some(status)) => Err(format!("{} ended with {status}:\n{}", self.name, self.output())),
            (Err(fault), None) => Err(format!("{}: {fault}:\n{}", self.name, self.output())),
        }
    }

    /// SIGSTOP: it exists, listens, and does nothing. Returns when every thread has come to a stop, which the signal
    /// alone does not wait for.
    pub fn pause(&self) -> Result<(), Fault> {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until("every thread has stopped", Duration::from_secs(5), || {
            std::fs::read_dir(&tasks).is_ok_and(|tasks| {
                tasks.flatten().all(|task| {
                    // "PID (NAME) STATE …" (proc(5)); the name may hold anything, a closing bracket included.
                    let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
                })
            })
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Any other signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Only fails where the process is gone, which is what most signals are for.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, after three seconds SIGKILL, and waits. Nothing where it has ended.
    pub fn stop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        self.resume();
        let mut ended = || self.child.try_wait().ok().flatten().is_some();
        if wait_until("ended", Duration::from_secs(3), &mut ended).is_err() {
            self.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> Result<u64, Fault> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|fault| format!("{path}: {fault}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).ok_or_else(|| format!("{path}: no VmRSS"))
}

/// Returns the binary or example `name` that cargo built beside the running program.
pub fn built(name: &str) -> Result<PathBuf, Fault> {
    let running = std::env::current_exe().map_err(|fault| format!("where this program is: {fault}"))?;
    // target/debug/deps/TEST-HASH or target/debug/examples/EXAMPLE
    for folder in running.ancestors().skip(1).take(3) {
        for candidate in [folder.join(name), folder.join("examples").join(name)] {
            if candidate.is_file() {
                return Ok(candidate);
            }
        }
    }
    Err(format!("{name} is not built: run `make build`"))
}
