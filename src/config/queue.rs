//! `[queue]`, and a plan's place in queues.

use super::compile::Compiler;
use super::file::{File, Table};
use super::key_of::{ChoiceOf, KeyOf, key};
use crate::decision::plan::priority::{Priority, QueueSettings};
use std::time::Duration;

/// Bounds of `timeout`. The upper one is below the time after which the shipped nginx file gives a waiting request up.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Bounds of `shed_wait`.
const SHED_WAIT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

const PRIORITY: ChoiceOf<Priority> =
    ChoiceOf::named("priority", &[("normal", Priority::Normal), ("high", Priority::High), ("low", Priority::Low)]);

/// Returns `priority` of a plan.
pub(super) fn priority(table: &Table) -> Priority {
    table.choice(&PRIORITY).unwrap_or_default()
}

impl Compiler<'_, '_> {
    pub(super) fn patience(&mut self, file: &File) -> QueueSettings {
        let mut patience = QueueSettings::default();
        let Some(table) = file.all("queue").next() else { return patience };
        if let Some(ns) = self.wait(table, key!("timeout"), TIMEOUT_RANGE, "1s to 5m") {
            patience.timeout_ns = ns;
        }
        if let Some(ns) = self.wait(table, key!("shed_wait"), SHED_WAIT_RANGE, "1s to 1h") {
            patience.shed_wait_ns = ns;
        }
        patience
    }

    fn wait(&mut self, table: &Table, key: KeyOf<Duration>, range: (Duration, Duration), words: &str) -> Option<u64> {
        u64::try_from(self.span(table, key, range, words)?.as_nanos()).ok()
    }
}
