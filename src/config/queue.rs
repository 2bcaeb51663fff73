//! `[queue]`, and a plan's place in queues.

use super::compile::Compiler;
use super::file::{File, Table};
use super::value::Value;
use crate::decision::plan::priority::{Patience, Priority};
use std::time::Duration;

/// Bounds of `timeout`. The upper one is below the time after which the shipped nginx file gives a waiting request up.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Bounds of `shed_wait`.
const SHED_WAIT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// `priority` of a plan.
pub(super) fn priority(table: &Table) -> Priority {
    match table.get("priority") {
        Some((Value::Text(word), _)) if word == "high" => Priority::High,
        Some((Value::Text(word), _)) if word == "low" => Priority::Low,
        _ => Priority::Normal,
    }
}

impl Compiler<'_, '_> {
    pub(super) fn patience(&mut self, file: &File) -> Patience {
        let mut patience = Patience::default();
        let Some(table) = file.all("queue").next() else { return patience };
        if let Some(ns) = self.wait(table, "timeout", TIMEOUT_RANGE, "1s to 5m") {
            patience.timeout_ns = ns;
        }
        if let Some(ns) = self.wait(table, "shed_wait", SHED_WAIT_RANGE, "1s to 1h") {
            patience.shed_wait_ns = ns;
        }
        patience
    }

    fn wait(&mut self, table: &Table, name: &str, (low, high): (Duration, Duration), words: &str) -> Option<u64> {
        let (Value::Duration(wait), at) = table.get(name)? else { return None };
        if !(low..=high).contains(&wait) {
            self.findings.value(at, format!("\"{name}\" must be from {words}"), None);
        }
        u64::try_from(wait.as_nanos()).ok()
    }
}
