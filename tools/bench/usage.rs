//! What a process has used so far, from `/proc` (proc(5)).

use crate::harness::Fault;

/// Nanoseconds its threads have run. From `schedstat` and not `stat`, whose ticks are 10 ms long.
pub fn cpu_ns(pid: u32) -> Result<u64, Fault> {
    let folder = format!("/proc/{pid}/task");
    let tasks = std::fs::read_dir(&folder).map_err(|fault| format!("{folder}: {fault}"))?;
    let mut sum = 0_u64;
    for task in tasks.flatten() {
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ran = text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        sum = sum.saturating_add(ran);
    }
    Ok(sum)
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> Result<u64, Fault> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|fault| format!("{path}: {fault}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).ok_or_else(|| format!("{path}: no VmRSS"))
}
