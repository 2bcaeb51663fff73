//! Messages that wait to be written: a bounded queue between those who decide and the one who writes.

use super::forget::{ForgetRequest, Forgotten};
use crate::ledger::reservation::{Record, Reservation};
use crate::metrics::ledger_file::Health;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Most messages that wait, in the queue and in the writer's hand: about 32 MB, reached only while nothing can be written.
pub(super) const WAITING_MAX: u64 = 65_536;

/// Most of these that grants may bring it to.
pub(super) const GRANTS_MAX: u64 = WAITING_MAX / 2;

/// How long the writer lets messages gather.
const GATHER: Duration = Duration::from_millis(5);

/// As many messages are written without waiting for more.
const GATHERED: usize = 256;

/// Most messages in one transaction.
const BATCH_MAX: usize = 1_024;

/// Room that is kept for the next messages; a queue that was fuller gives its memory back.
const ROOM_KEPT: usize = 4_096;

/// How long the writer sleeps where nothing comes: what it does beside writing (retention) goes on then.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// A message about a request.
#[derive(Debug, Clone)]
// Most are large: a grant and its end. Boxes would be one allocation more for each of them.
#[allow(clippy::large_enum_variant)]
pub(super) enum JournalMessage {
    /// The request was granted.
    Opened(Reservation),
    /// The request used this.
    Settled(Record),
    /// The request used nothing.
    Released(u128),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The counters are set under the lock, so that what they show was so at one moment.
    health: Arc<Health>,
    inner: Mutex<QueueState>,
    /// Something is there to be done.
    filled: Condvar,
    /// Something was done.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<JournalMessage>,
    /// Messages that wait, those in the writer's hand included.
    pending: u64,
    /// Messages ever added, and those of them that are done with.
    taken_in: u64,
    done: u64,
    /// Who waits for all to be written.
    flushing: u32,
    wish: Option<ForgetRequest>,
    stopping: bool,
    /// The writer has ended.
    ended: bool,
}

impl Queue {
    /// Returns an empty queue that tells how full it is, and what was dropped.
    pub(super) fn new(health: Arc<Health>) -> Queue {
        Queue { health, ..Queue::default() }
    }

    /// Adds a message, or drops and counts it. Never waits for the disk.
    pub(super) fn push(&self, message: JournalMessage) {
        let mut inner = self.lock();
        let is_grant = matches!(message, JournalMessage::Opened(_));
        if inner.ended || inner.pending >= if is_grant { GRANTS_MAX } else { WAITING_MAX } {
            self.health.dropped(is_grant);
            return;
        }
        inner.waiting.push_back(message);
        inner.pending = inner.pending.saturating_add(1);
        self.health.set_pending(inner.pending);
        inner.taken_in = inner.taken_in.saturating_add(1);
        let wakes = matches!(inner.waiting.len(), 1 | GATHERED);
        drop(inner);
        // Otherwise the writer knows already: waking it costs more than all the rest.
        if wakes {
            self.filled.notify_one();
        }
    }

    /// Waits for messages, lets them gather, and moves them into `batch`, which is empty. A writer that is `busy` with
    /// something else takes what is there. Returns whether to stop.
    pub(super) fn take(&self, batch: &mut VecDeque<JournalMessage>, busy: bool) -> bool {
        let is_idle =
            |inner: &mut QueueState| !busy && inner.waiting.is_empty() && inner.wish.is_none() && !inner.stopping;
        let gathers = |inner: &mut QueueState| {
            !busy && inner.waiting.len() < GATHERED && inner.flushing == 0 && inner.wish.is_none() && !inner.stopping
        };
        let mut inner = self.wait(self.lock(), IDLE, is_idle);
        if !inner.waiting.is_empty() {
            inner = self.wait(inner, GATHER, gathers);
        }
        // Whoever decides waits for this lock: as a rule the two only change places.
        if inner.waiting.len() <= BATCH_MAX {
            std::mem::swap(&mut inner.waiting, batch);
        } else {
            batch.extend(inner.waiting.drain(..BATCH_MAX));
        }
        inner.waiting.shrink_to(ROOM_KEPT);
        inner.stopping
    }

    /// Waits for `longest`, or until the store is closed. Returns whether it is closed.
    pub(super) fn pause(&self, longest: Duration) -> bool {
        self.wait(self.lock(), longest, |inner| !inner.stopping).stopping
    }

    /// Takes note that so many messages are on disk.
    pub(super) fn done(&self, messages: usize) {
        let mut inner = self.lock();
        inner.done = inner.done.saturating_add(messages as u64);
        inner.pending = inner.pending.saturating_sub(messages as u64);
        self.health.set_pending(inner.pending);
        drop(inner);
        self.drained.notify_all();
    }

    /// Waits until every message added before has been handled.
    pub(super) fn flush(&self, longest: Duration) -> bool {
        let mut inner = self.lock();
        let target = inner.taken_in;
        if inner.done >= target {
            return true;
        }
        inner.flushing = inner.flushing.saturating_add(1);
        self.filled.notify_all();
        let waits = |inner: &mut QueueState| inner.done < target && !inner.ended;
        let waited = self.drained.wait_timeout_while(inner, longest, waits);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.flushing = inner.flushing.saturating_sub(1);
        inner.done >= target
    }

    /// Asks the writer to forget a user, and waits for it.
    pub(super) fn forget(&self, user: &str) -> Result<Forgotten, String> {
        let (told, hears) = mpsc::channel();
        let mut inner = self.lock();
        if inner.ended {
            return Err("the ledger is closed".to_owned());
        }
        if inner.wish.is_some() {
            return Err("another user is being forgotten; try again".to_owned());
        }
        inner.wish = Some(ForgetRequest { user: user.to_owned(), told });
        drop(inner);
        self.filled.notify_all();
        hears.recv().unwrap_or_else(|_| Err("the ledger was closed meanwhile".to_owned()))
    }

    /// Returns the user to forget, where somebody wishes that.
    pub(super) fn wish(&self) -> Option<ForgetRequest> {
        self.lock().wish.take()
    }

    /// Asks the writer to end after a last try.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.filled.notify_all();
    }

    /// Takes note that the writer has ended: no message is added any more, and nobody waits.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.wish = None;
        drop(inner);
        self.drained.notify_all();
    }

    /// Returns the number of messages that wait.
    pub(super) fn pending(&self) -> u64 {
        self.lock().pending
    }

    fn wait<'q>(
        &self,
        inner: MutexGuard<'q, QueueState>,
        longest: Duration,
        while_so: impl FnMut(&mut QueueState) -> bool,
    ) -> MutexGuard<'q, QueueState> {
        self.filled.wait_timeout_while(inner, longest, while_so).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Poisoned only by a panic between two assignments above, of which there is none.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
