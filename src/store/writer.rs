//! The one thread that writes: takes what has gathered, writes it in one transaction, and tries again where that fails.

use super::fault::OpenStoreError;
use super::forget::Forgetting;
use super::queue::{GRANTS_MAX, JournalMessage, Queue};
use super::retention::Retention;
use super::{Options, apply, file};
use crate::ledger::calendar::Day;
use crate::metrics::ledger_file::{Health, LedgerFileError};
use rusqlite::Connection;
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Time to the second try of what failed; it doubles.
const PATIENCE_FIRST: Duration = Duration::from_millis(100);

/// Longest time between two tries.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    path: PathBuf,
    options: Options,
    /// Absent after an error that may lie in it.
    connection: Option<Connection>,
    /// The file that is open: a path may come to name another.
    identity: Option<(u64, u64)>,
    queue: Arc<Queue>,
    health: Arc<Health>,
    /// What is being written; kept until it is.
    batch: VecDeque<JournalMessage>,
    patience: Duration,
    retention: Retention,
    forgetting: Option<Forgetting>,
    /// Whether it was said that messages are dropped, since writing began to fail.
    told_of_drops: bool,
    /// When what a writer does now and then was last done, in monotonic nanoseconds.
    looked_ns: u64,
}

/// Tells those who wait when the writer ends, however it does.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        options: Options,
        connection: Connection,
        queue: Arc<Queue>,
        health: Arc<Health>,
    ) -> Writer {
        Writer {
            path: path.to_owned(),
            options,
            connection: Some(connection),
            identity: identity(path),
            queue,
            health,
            batch: VecDeque::new(),
            patience: PATIENCE_FIRST,
            retention: Retention::default(),
            forgetting: None,
            told_of_drops: false,
            looked_ns: 0,
        }
    }

    /// Writes until the store is closed, and then what is left, as long as that goes well.
    pub(super) fn run(mut self) {
        let _ending = Ending(self.queue.clone());
        loop {
            let stopping = if self.batch.is_empty() {
                self.queue.take(&mut self.batch, self.forgetting.is_some())
            } else {
                let longest = self.patience;
                self.patience = (longest * 2).min(PATIENCE_MAX);
                self.queue.pause(longest)
            };
            let nothing_left = self.batch.is_empty();
            let well = nothing_left || self.write();
            if stopping && (nothing_left || !well) {
                return;
            }
            if well && !stopping {
                self.forget();
                self.tidy();
            }
        }
    }

    fn write(&mut self) -> bool {
        let batch = std::mem::take(&mut self.batch);
        let written = self.attempt(|connection| apply::apply(connection, &batch));
        self.batch = batch;
        let messages = self.batch.len();
        if written.is_some() {
            self.batch.clear();
            let failed_before = self.health.wrote(messages);
            // Last, so that whoever waits for it finds all else as it is then.
            self.queue.done(messages);
            if failed_before.is_some() {
                self.told_of_drops = false;
                let health = &self.health;
                tracing::info!(
                    file = %self.path.display(), waiting = health.pending(), dropped_grants = health.dropped_grants(),
                    dropped_ends = health.dropped_ends(), "the ledger is written again"
                );
            }
        } else {
            self.tell_of_drops();
        }
        written.is_some()
    }

    /// Warns once for as long as it lasts.
    fn tell_of_drops(&mut self) {
        let waiting = self.queue.pending();
        if waiting >= GRANTS_MAX && !std::mem::replace(&mut self.told_of_drops, true) {
            tracing::error!(
                waiting,
                "too much waits for the ledger's file: grants, then ends of requests are not written"
            );
        }
    }

    /// Goes on forgetting a user, a part at a time, so that requests are written in between.
    fn forget(&mut self) {
        if self.forgetting.is_none() {
            self.forgetting = self.queue.wish().map(Forgetting::new);
        }
        let Some(mut forgetting) = self.forgetting.take() else { return };
        match self.attempt(|connection| forgetting.step(connection)) {
            Some(true) => forgetting.end(),
            Some(false) => self.forgetting = Some(forgetting),
            None => forgetting.fail(self.health.failing().map(|failing| failing.what)),
        }
    }

    /// Removes what is too old, a part every second, and looks whether the file is still the one that is written.
    fn tidy(&mut self) {
        let now = self.options.clock.now();
        if now.mono_ns.saturating_sub(self.looked_ns) < 1_000_000_000 {
            return;
        }
        self.looked_ns = now.mono_ns;
        if self.connection.is_some() && identity(&self.path) != self.identity {
            tracing::error!(file = %self.path.display(), "the ledger was removed or replaced while it was written; stop herdgate first");
            self.connection = None;
        }
        let today = Day(crate::time::date::day(now.unix_ms, &self.options.zone));
        let (keep_days, mut retention) = (self.options.keep_days, std::mem::take(&mut self.retention));
        if self.attempt(|connection| retention.step(connection, today, keep_days)).is_some() {
            // Nothing may be there to be written, and yet it is well again.
            self.health.wrote(0);
        }
        self.retention = retention;
    }

    /// Does something to the file, which is opened anew where that seems wise; notes it where it fails.
    fn attempt<T>(&mut self, act: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let acted = match self.connected() {
            Ok(connection) => act(connection).map_err(|error| (LedgerFileError::of(&error), error.to_string())),
            Err(OpenStoreError::Damaged(_, what)) => Err((LedgerFileError::Damaged, what)),
            Err(fault) => Err((LedgerFileError::Io, fault.to_string())),
        };
        match acted {
            Ok(done) => {
                self.patience = PATIENCE_FIRST;
                Some(done)
            }
            Err((fault, what)) => {
                if self.health.failed(fault, what.clone(), self.options.clock.now().unix_ms) {
                    tracing::error!(
                        file = %self.path.display(), fault = fault.as_str(), what,
                        "the ledger cannot be written; decisions go on, and what they take is kept in memory"
                    );
                }
                // A full disk is no fault of the connection, and neither is another's lock.
                if !matches!(fault, LedgerFileError::Full | LedgerFileError::Busy) {
                    self.connection = None;
                }
                None
            }
        }
    }

    fn connected(&mut self) -> Result<&mut Connection, OpenStoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = file::writable(&self.path, self.options.vfs)?;
                self.identity = identity(&self.path);
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
