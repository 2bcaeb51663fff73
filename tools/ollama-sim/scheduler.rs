//! Models in memory (`server/sched.go`): load on first use, reload on other options, eviction, keep-alive, slots.
//!
//! One request at a time is scheduled, the rest queue for that, at most `max_queue` of them. A request whose model is
//! still loading, or that waits for another model to leave, holds everybody up, as it does in Ollama. Once its model
//! is loaded a request waits for a slot, in Ollama without limit.

use crate::duration::KeepAlive;
use crate::generation::pause;
use crate::stats::{Effect, Event, Held, Stats};
use crate::store::Model;
use herdgate::decision::moment::Moment;
use herdgate::time::clock::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What differs between two loads of one model: the runner options a request may set. `None` is the default.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerOptions {
    /// Context length in tokens, at least 4.
    pub num_ctx: i64,
    /// The other options that force a reload, by name, as written.
    pub others: Vec<(&'static str, String)>,
}

impl RunnerOptions {
    /// Returns whether a model loaded with these serves a request with `wanted`. A request that leaves `num_gpu` to the
    /// server takes what there is (`needsReload`).
    fn serve(&self, wanted: &RunnerOptions) -> bool {
        let any_gpu = wanted.others.iter().all(|(name, _)| *name != "num_gpu");
        let kept = self.others.iter().filter(|(name, _)| !(any_gpu && *name == "num_gpu"));
        self.num_ctx == wanted.num_ctx && kept.eq(wanted.others.iter())
    }
}

/// How the scheduler behaves.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Requests generating at once with one loaded model.
    pub num_parallel: usize,
    /// Requests waiting to be scheduled; one more is refused.
    pub max_queue: usize,
    /// Requests waiting for the slots of one model; `None` is without limit, as Ollama.
    pub slot_queue: Option<usize>,
    /// Models in memory at once; 0 is without limit.
    pub max_loaded: usize,
    /// Time a load takes.
    pub load: Duration,
    /// Time a model stays once idle, where the request does not say.
    pub keep_alive: KeepAlive,
}

/// Go's longest duration, 292 years, in milliseconds: what `/api/ps` shows for a model that stays for ever.
const FOREVER_MS: i64 = 9_223_372_036_854;

/// When an idle model leaves, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    /// `u64::MAX` is never.
    mono_ns: u64,
    unix_ms: i64,
}

impl Expiry {
    /// Of a model idle since `now`.
    fn of(keep_alive: KeepAlive, now: Moment) -> Expiry {
        let (mono_ns, stays_ms) = match keep_alive {
            KeepAlive::For(ns) => (now.mono_ns.saturating_add(ns), i64::try_from(ns / 1_000_000).unwrap_or(FOREVER_MS)),
            KeepAlive::Forever => (u64::MAX, FOREVER_MS),
        };
        Expiry { mono_ns, unix_ms: now.unix_ms.saturating_add(stays_ms) }
    }
}

/// Too many requests wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// A model in memory, as `/api/ps` shows it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub model: Model,
    pub num_ctx: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

#[derive(Debug)]
struct Runner {
    /// Tells this load from an earlier one of the same model.
    id: u64,
    key: String,
    model: Model,
    options: RunnerOptions,
    keep_alive: KeepAlive,
    loading: bool,
    users: usize,
    waiting: usize,
    used_ns: u64,
    /// When it leaves, as found when it was last idle; `None` until then. Stands still while the model is in use, and is
    /// past where that takes long, as in Ollama.
    expires: Option<Expiry>,
    slots: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Memory {
    runners: Vec<Runner>,
    loads: u64,
    pending: usize,
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    rules: Rules,
    clock: Clock,
    stats: Arc<Stats>,
    memory: Mutex<Memory>,
    /// Held by the request that is being scheduled.
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// What the scheduler found to do next.
enum Step {
    Use(u64, Arc<Semaphore>),
    Load(u64, Arc<Semaphore>),
    Wait,
}

impl Scheduler {
    /// Returns a scheduler with nothing loaded.
    pub fn new(rules: Rules, clock: Clock, stats: Arc<Stats>) -> Scheduler {
        let turn = tokio::sync::Mutex::new(());
        Scheduler { rules, clock, stats, memory: Mutex::default(), turn, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a loaded model and a slot of it. Dropping the future gives back what was taken so far.
    pub async fn acquire(
        self: &Arc<Self>,
        model: &Model,
        options: RunnerOptions,
        keep_alive: Option<KeepAlive>,
        handler: &'static str,
    ) -> Result<Lease, Busy> {
        let pending = Pending::enter(self)?;
        let queued = Held::queued(&self.stats);
        let turn = self.turn.lock().await;
        let mut victim = None;
        let (mut lease, loads, slots) = loop {
            // Registered before looking, so that a change in between is not missed.
            let changed = self.changed.notified();
            match self.next(model, &options, keep_alive, handler, &mut victim) {
                Step::Use(id, slots) => break (Lease::new(self, id, handler), false, slots),
                Step::Load(id, slots) => break (Lease::new(self, id, handler), true, slots),
                Step::Wait => changed.await,
            }
        };
        drop((turn, pending));
        if loads {
            let mut load = Load { scheduler: self.clone(), id: lease.id, complete: false };
            pause(self.rules.load).await;
            load.complete = true;
        }
        lease.slot = Some(self.slot(lease.id, slots).await?);
        drop(queued);
        lease.generating = Some(Held::generating(&self.stats));
        Ok(lease)
    }

    async fn slot(&self, id: u64, slots: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = Waiting::enter(self, id)?;
        slots.acquire_owned().await.map_err(|_| Busy)
    }

    fn next(
        &self,
        model: &Model,
        options: &RunnerOptions,
        keep_alive: Option<KeepAlive>,
        handler: &'static str,
        victim: &mut Option<u64>,
    ) -> Step {
        let now = self.clock.now().mono_ns;
        let mut memory = self.lock();
        self.sweep(&mut memory, now);
        let key = model.short.to_ascii_lowercase();
        let mut reload = false;
        if let Some(at) = memory.runners.iter().position(|runner| runner.key == key)
            && let Some(runner) = memory.runners.get_mut(at)
        {
            if runner.loading {
                return Step::Wait;
            }
            if runner.options.serve(options) {
                runner.users += 1;
                runner.used_ns = now;
                if let Some(keep_alive) = keep_alive.filter(|keep_alive| *keep_alive != runner.keep_alive) {
                    runner.keep_alive = keep_alive;
                    self.stats.effect(Effect::KeepAlive, handler);
                }
                return Step::Use(runner.id, runner.slots.clone());
            }
            if runner.users > 0 {
                return Step::Wait;
            }
            memory.runners.remove(at);
            reload = true;
        } else if self.rules.max_loaded > 0 && memory.runners.len() >= self.rules.max_loaded {
            let chosen = match *victim {
                Some(id) => memory.runners.iter().position(|runner| runner.id == id),
                None => victim_of(&memory.runners),
            };
            if let Some(at) = chosen
                && let Some(runner) = memory.runners.get(at)
            {
                if runner.users > 0 {
                    *victim = Some(runner.id);
                    return Step::Wait;
                }
                memory.runners.remove(at);
                self.stats.event(Event::Eviction);
            }
        }
        self.stats.effect(if reload { Effect::Reload } else { Effect::Load }, handler);
        memory.loads += 1;
        let (id, slots) = (memory.loads, Arc::new(Semaphore::new(self.rules.num_parallel)));
        memory.runners.push(Runner {
            id,
            key,
            model: model.clone(),
            options: options.clone(),
            keep_alive: keep_alive.unwrap_or(self.rules.keep_alive),
            loading: true,
            users: 1,
            waiting: 0,
            used_ns: now,
            expires: None,
            slots: slots.clone(),
        });
        Step::Load(id, slots)
    }

    /// Unloads what was idle for as long as it may be.
    fn sweep(&self, memory: &mut Memory, now: u64) {
        memory.runners.retain(|runner| {
            let stays = runner.users > 0 || runner.expires.is_none_or(|expires| expires.mono_ns > now);
            if !stays {
                self.stats.event(Event::Expiry);
            }
            stays
        });
    }

    /// Unloads a model as soon as nobody uses it (an empty prompt with `keep_alive` 0).
    pub fn expire(&self, model: &Model) {
        let key = model.short.to_ascii_lowercase();
        let mut memory = self.lock();
        if let Some(at) = memory.runners.iter().position(|runner| runner.key == key)
            && let Some(runner) = memory.runners.get_mut(at)
        {
            if runner.users > 0 {
                runner.keep_alive = KeepAlive::For(0);
            } else {
                memory.runners.remove(at);
                self.stats.event(Event::Unload);
            }
        }
        drop(memory);
        self.changed.notify_waiters();
    }

    /// Returns what is in memory, the one that stays longest first.
    pub fn loaded(&self) -> Vec<Loaded> {
        let now = self.clock.now();
        let mut memory = self.lock();
        self.sweep(&mut memory, now.mono_ns);
        let mut loaded: Vec<Loaded> = memory
            .runners
            .iter()
            .map(|runner| {
                let expires = runner.expires.unwrap_or_else(|| Expiry::of(runner.keep_alive, now));
                Loaded { model: runner.model.clone(), num_ctx: runner.options.num_ctx, expires_ms: expires.unix_ms }
            })
            .collect();
        loaded.sort_by_key(|loaded| std::cmp::Reverse(loaded.expires_ms));
        loaded
    }
}

/// Returns the runner to unload: an idle one before one in use, the shortest keep-alive first, the least recently used
/// of equals.
fn victim_of(runners: &[Runner]) -> Option<usize> {
    let order = |runner: &Runner| {
        let stays = match runner.keep_alive {
            KeepAlive::For(ns) => ns,
            KeepAlive::Forever => u64::MAX,
        };
        (runner.users > 0, stays, runner.used_ns)
    };
    runners.iter().enumerate().min_by_key(|(_, runner)| order(runner)).map(|(at, _)| at)
}

/// A place in the queue for the scheduler.
struct Pending<'a>(&'a Scheduler);

impl Pending<'_> {
    fn enter(scheduler: &Scheduler) -> Result<Pending<'_>, Busy> {
        let mut memory = scheduler.lock();
        // One is being scheduled, the others are in Ollama's channel.
        if memory.pending > scheduler.rules.max_queue {
            return Err(Busy);
        }
        memory.pending += 1;
        Ok(Pending(scheduler))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut memory = self.0.lock();
        memory.pending = memory.pending.saturating_sub(1);
    }
}

/// A place in the queue for the slots of one model.
struct Waiting<'a>(&'a Scheduler, u64);

impl Waiting<'_> {
    fn enter(scheduler: &Scheduler, id: u64) -> Result<Waiting<'_>, Busy> {
        let mut memory = scheduler.lock();
        if let Some(runner) = memory.runners.iter_mut().find(|runner| runner.id == id) {
            if scheduler.rules.slot_queue.is_some_and(|most| runner.waiting >= most) {
                return Err(Busy);
            }
            runner.waiting += 1;
        }
        Ok(Waiting(scheduler, id))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut memory = self.0.lock();
        if let Some(runner) = memory.runners.iter_mut().find(|runner| runner.id == self.1) {
            runner.waiting = runner.waiting.saturating_sub(1);
        }
    }
}

/// A load under way; one that is given up leaves nothing in memory.
struct Load {
    scheduler: Arc<Scheduler>,
    id: u64,
    complete: bool,
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut memory = self.scheduler.lock();
        if self.complete {
            if let Some(runner) = memory.runners.iter_mut().find(|runner| runner.id == self.id) {
                runner.loading = false;
            }
        } else {
            memory.runners.retain(|runner| runner.id != self.id);
        }
        drop(memory);
        self.scheduler.changed.notify_waiters();
    }
}

/// A loaded model in use, with one of its slots, until dropped.
pub struct Lease {
    scheduler: Arc<Scheduler>,
    id: u64,
    /// What the request asked for, for the counters.
    handler: &'static str,
    slot: Option<OwnedSemaphorePermit>,
    generating: Option<Held>,
}

impl Lease {
    fn new(scheduler: &Arc<Scheduler>, id: u64, handler: &'static str) -> Lease {
        Lease { scheduler: scheduler.clone(), id, handler, slot: None, generating: None }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slot = None;
        self.generating = None;
        let now = self.scheduler.clock.now();
        let mut memory = self.scheduler.lock();
        if let Some(runner) = memory.runners.iter_mut().find(|runner| runner.id == self.id) {
            runner.users = runner.users.saturating_sub(1);
            if runner.users == 0 {
                let expires = Expiry::of(runner.keep_alive, now);
                let before = runner.expires.replace(expires).map_or(u64::MAX, |before| before.mono_ns);
                let later = expires.mono_ns.saturating_sub(before);
                if later > 0 {
                    self.scheduler.stats.effect(Effect::Pin(later / 1_000_000), self.handler);
                }
            }
        }
        self.scheduler.sweep(&mut memory, now.mono_ns);
        drop(memory);
        self.scheduler.changed.notify_waiters();
    }
}
