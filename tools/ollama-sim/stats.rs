//! The ground truth: what this server saw and did, for tests to check others against.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests remembered one by one.
const RECENT_MAX: usize = 200;
/// Models counted one by one; further ones count under `(other)`.
const MODELS_MAX: usize = 1000;
/// Bytes of one header value, path or model name that are remembered.
const TEXT_MAX: usize = 4096;

/// One request as it arrived.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// Counts up from 1.
    pub number: u64,
    /// When it arrived, milliseconds since 1970.
    pub unix_ms: i64,
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// Name (lower case) and value, in order; the values of one name stand together.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// What answered it: a handler's name, or why none did.
    pub handler: String,
    /// The model asked for, canonical; empty where none was named.
    pub model: String,
    /// Status answered; 0 where the client left before.
    pub status: u16,
}

/// Counts of one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PerModel {
    /// Requests that named it, on any route, whether or not it exists.
    pub requests: u64,
    /// Prompt tokens evaluated.
    pub tokens_in: u64,
    /// Tokens generated, sent or not.
    pub tokens_out: u64,
}

/// What the requests of one handler did to models in memory.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Causes {
    pub loads: u64,
    pub reloads: u64,
    pub pins: u64,
    pub keep_alive_changes: u64,
}

/// What a request does to a model in memory.
#[derive(Debug, Clone, Copy)]
pub enum Effect {
    Load,
    /// A load because the same model was loaded with other options.
    Reload,
    /// The model expires later than before, by so many milliseconds.
    Pin(u64),
    /// The model stays for another time once idle.
    KeepAlive,
}

/// What happens to a model in memory.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// An unload to make room.
    Eviction,
    /// An unload because it was idle long enough.
    Expiry,
    /// An unload because a request asked for it.
    Unload,
    /// A request refused because too many wait.
    Busy,
    /// A request that Ollama would have sent to ollama.com.
    Cloud,
}

/// The counters, as `/sim/stats` shows them.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counters {
    pub name: String,
    pub kind: String,
    /// Everything except `/sim/*`.
    pub requests: u64,
    pub handlers: BTreeMap<String, u64>,
    pub statuses: BTreeMap<u16, u64>,
    pub models: BTreeMap<String, PerModel>,
    /// Clients that left before their answer was complete.
    pub aborts: u64,
    pub loads: u64,
    pub reloads: u64,
    pub evictions: u64,
    pub expiries: u64,
    pub unloads: u64,
    pub busy: u64,
    pub cloud: u64,
    /// Requests after which a model stays longer than it would have without them.
    pub pins: u64,
    /// By how much in all, milliseconds.
    pub pinned_ms: u64,
    /// Requests that changed how long a loaded model stays once idle, for themselves and all after them.
    pub keep_alive_changes: u64,
    /// What requests did to models in memory, by handler.
    pub causes: BTreeMap<&'static str, Causes>,
    /// Strikes of the faults set, by name; those that never struck are absent.
    pub faults: BTreeMap<&'static str, u64>,
    pub connections: u64,
    /// Connections that ended with an error of HTTP itself; requests that could not be read are counted only here.
    pub connection_errors: u64,
    /// Inference requests from their arrival to the end of their answer, those that wait included.
    pub in_flight: u64,
    pub in_flight_peak: u64,
    /// Inference requests that hold a slot.
    pub generating: u64,
    pub generating_peak: u64,
    /// Inference requests that wait for the scheduler, a load or a slot.
    pub queued: u64,
    pub queued_peak: u64,
    pub recent: VecDeque<Seen>,
}

/// The counters, shared.
#[derive(Debug, Default)]
pub struct Stats {
    counters: Mutex<Counters>,
}

impl Stats {
    /// Counters of a server with this name and kind, all zero.
    pub fn new(name: &str, kind: &str) -> Stats {
        let counters = Counters { name: name.to_owned(), kind: kind.to_owned(), ..Counters::default() };
        Stats { counters: Mutex::new(counters) }
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of all counters.
    pub fn show(&self) -> Counters {
        self.lock().clone()
    }

    /// Sets all counters to zero; what is under way stays counted as such, and the peaks begin there.
    pub fn reset(&self) {
        let mut counters = self.lock();
        *counters = Counters {
            name: std::mem::take(&mut counters.name),
            kind: std::mem::take(&mut counters.kind),
            in_flight: counters.in_flight,
            in_flight_peak: counters.in_flight,
            generating: counters.generating,
            generating_peak: counters.generating,
            queued: counters.queued,
            queued_peak: counters.queued,
            ..Counters::default()
        };
    }

    /// Counts a request that has arrived and gives it its number.
    pub fn arrived(&self, mut seen: Seen) -> u64 {
        let mut counters = self.lock();
        counters.requests += 1;
        *counters.handlers.entry(seen.handler.clone()).or_default() += 1;
        seen.number = counters.requests;
        cut(&mut seen.path);
        for (_, value) in &mut seen.headers {
            cut(value);
        }
        if counters.recent.len() >= RECENT_MAX {
            counters.recent.pop_front();
        }
        let number = seen.number;
        counters.recent.push_back(seen);
        number
    }

    /// Notes what the body of a request was found to be.
    pub fn body(&self, number: u64, bytes: u64, model: Option<String>) {
        let mut counters = self.lock();
        if let Some(seen) = counters.recent.iter_mut().find(|seen| seen.number == number) {
            seen.body_bytes = bytes;
            seen.model = model.clone().unwrap_or_default();
            cut(&mut seen.model);
        }
        if let Some(model) = model {
            counters.model(model).requests += 1;
        }
    }

    /// Notes the status a request was answered with.
    pub fn answered(&self, number: u64, status: u16) {
        let mut counters = self.lock();
        *counters.statuses.entry(status).or_default() += 1;
        if let Some(seen) = counters.recent.iter_mut().find(|seen| seen.number == number) {
            seen.status = status;
        }
    }

    /// Counts tokens of a model.
    pub fn tokens(&self, model: &str, tokens_in: u64, tokens_out: u64) {
        let mut counters = self.lock();
        let model = counters.model(model.to_owned());
        model.tokens_in += tokens_in;
        model.tokens_out += tokens_out;
    }

    /// Counts something that happened to a model in memory.
    pub fn event(&self, event: Event) {
        let mut counters = self.lock();
        let counter = match event {
            Event::Eviction => &mut counters.evictions,
            Event::Expiry => &mut counters.expiries,
            Event::Unload => &mut counters.unloads,
            Event::Busy => &mut counters.busy,
            Event::Cloud => &mut counters.cloud,
        };
        *counter += 1;
    }

    /// Counts what a request for this handler did.
    pub fn effect(&self, effect: Effect, handler: &'static str) {
        let mut counters = self.lock();
        let counters = &mut *counters;
        let causes = counters.causes.entry(handler).or_default();
        let (all, its) = match effect {
            Effect::Load => (&mut counters.loads, &mut causes.loads),
            Effect::Reload => (&mut counters.reloads, &mut causes.reloads),
            Effect::Pin(ms) => {
                counters.pinned_ms = counters.pinned_ms.saturating_add(ms);
                (&mut counters.pins, &mut causes.pins)
            }
            Effect::KeepAlive => (&mut counters.keep_alive_changes, &mut causes.keep_alive_changes),
        };
        *all += 1;
        *its += 1;
    }

    /// Counts a strike of a fault.
    pub fn struck(&self, fault: &'static str) {
        *self.lock().faults.entry(fault).or_default() += 1;
    }

    /// Counts a connection, or its end with an error.
    pub fn connection(&self, failed: bool) {
        let mut counters = self.lock();
        if failed {
            counters.connection_errors += 1;
        } else {
            counters.connections += 1;
        }
    }
}

impl Counters {
    fn model(&mut self, mut model: String) -> &mut PerModel {
        cut(&mut model);
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(&model) {
            model = "(other)".to_owned();
        }
        self.models.entry(model).or_default()
    }
}

fn cut(text: &mut String) {
    let mut end = TEXT_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// Which gauge a [`Held`] keeps up.
#[derive(Debug, Clone, Copy)]
enum Gauge {
    Generating,
    Queued,
}

/// Keeps a gauge up by one until dropped.
#[derive(Debug)]
pub struct Held {
    stats: Arc<Stats>,
    gauge: Gauge,
}

impl Held {
    /// Returns a request that holds a slot.
    pub fn generating(stats: &Arc<Stats>) -> Held {
        let mut counters = stats.lock();
        counters.generating += 1;
        counters.generating_peak = counters.generating_peak.max(counters.generating);
        drop(counters);
        Held { stats: stats.clone(), gauge: Gauge::Generating }
    }

    /// Returns a request that waits.
    pub fn queued(stats: &Arc<Stats>) -> Held {
        let mut counters = stats.lock();
        counters.queued += 1;
        counters.queued_peak = counters.queued_peak.max(counters.queued);
        drop(counters);
        Held { stats: stats.clone(), gauge: Gauge::Queued }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counters = self.stats.lock();
        let gauge = match self.gauge {
            Gauge::Generating => &mut counters.generating,
            Gauge::Queued => &mut counters.queued,
        };
        *gauge = gauge.saturating_sub(1);
    }
}

/// An inference request under way. Dropped before [`Flight::landed`], it was the client that left.
#[derive(Debug)]
pub struct Flight {
    stats: Arc<Stats>,
    landed: bool,
}

impl Flight {
    /// Returns a request that has just arrived.
    pub fn new(stats: &Arc<Stats>) -> Flight {
        let mut counters = stats.lock();
        counters.in_flight += 1;
        counters.in_flight_peak = counters.in_flight_peak.max(counters.in_flight);
        drop(counters);
        Flight { stats: stats.clone(), landed: false }
    }

    /// The answer is complete.
    pub fn landed(mut self) {
        self.landed = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut counters = self.stats.lock();
        counters.in_flight = counters.in_flight.saturating_sub(1);
        if !self.landed {
            counters.aborts += 1;
        }
    }
}
