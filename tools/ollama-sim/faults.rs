//! Faults on purpose: what is set, whom it strikes, how often it did.
//!
//! The faults set are one list, replaced as a whole. A request is struck by the first entry that fits it and has strikes
//! left, and each strike is counted where it happens, so that a fault nobody ran into shows as such. What hangs goes on
//! as soon as the list is replaced.

use crate::stats::Stats;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Entries at once; a longer list is refused.
const FAULTS_MAX: usize = 32;
/// Tokens before a stall where the entry does not say.
const STALL_AFTER: u64 = 1;
/// How much slower where the entry does not say.
const SLOW_FACTOR: f64 = 10.0;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The connection is closed without an answer.
    #[serde(rename = "refuse")]
    Refuse,
    /// 500 at once.
    #[serde(rename = "500")]
    Error,
    /// 503 at once.
    #[serde(rename = "503")]
    Busy,
    /// The model is loaded and a slot taken, then nothing comes.
    #[serde(rename = "hang")]
    Hang,
    /// Tokens stop after some.
    #[serde(rename = "stall")]
    Stall,
    /// No request reaches the scheduler; whatever only reads answers.
    #[serde(rename = "dead")]
    Dead,
    /// Each token takes longer.
    #[serde(rename = "slow")]
    Slow,
    /// `/api/tags` and `/api/ps` show another digest.
    #[serde(rename = "digest")]
    Digest,
}

impl Kind {
    /// Its name in requests and counters.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Refuse => "refuse",
            Kind::Error => "500",
            Kind::Busy => "503",
            Kind::Hang => "hang",
            Kind::Stall => "stall",
            Kind::Dead => "dead",
            Kind::Slow => "slow",
            Kind::Digest => "digest",
        }
    }
}

/// Which routes an entry strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Those that generate or embed.
    Inference,
    /// All but `/sim/*`.
    All,
}

/// One entry as it is asked for and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub fault: Kind,
    /// The model it is limited to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Strikes after which it is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Routes, for `500`, `503` and `hang`; inference where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Reach>,
    /// Tokens before a `stall`, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many times as long a token takes with `slow`, above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// What `digest` shows, 64 hexadecimal digits; where absent the true one with each digit turned round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        let name = self.fault.name();
        let reach = matches!(self.fault, Kind::Error | Kind::Busy | Kind::Hang);
        let strays = [
            ("on", self.on.is_some() && !reach),
            ("after", self.after.is_some() && self.fault != Kind::Stall),
            ("factor", self.factor.is_some() && self.fault != Kind::Slow),
            ("digest", self.digest.is_some() && self.fault != Kind::Digest),
        ];
        if let Some((field, _)) = strays.iter().find(|(_, stray)| *stray) {
            return Err(format!("{name}: {field} means nothing here"));
        }
        if self.times == Some(0) {
            return Err(format!("{name}: times must be at least 1"));
        }
        if self.after == Some(0) {
            return Err(format!("{name}: after must be at least 1; before the first token it is a hang"));
        }
        if self.factor.is_some_and(|factor| !(factor > 0.0 && factor <= 1e6)) {
            return Err(format!("{name}: factor must be above 0 and at most 1000000"));
        }
        let is_digest = |hex: &String| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.digest.as_ref().is_some_and(|hex| !is_digest(hex)) {
            return Err(format!("{name}: digest must have 64 hexadecimal digits"));
        }
        Ok(())
    }
}

/// An entry with what became of it, as `GET /sim/faults` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Armed {
    #[serde(flatten)]
    entry: Entry,
    /// How often it struck.
    struck: u64,
    /// Canonical name of the model, to compare.
    #[serde(skip)]
    key: Option<String>,
}

/// The faults that are set, shared.
#[derive(Debug)]
pub struct Faults {
    list: Mutex<Vec<Armed>>,
    /// Sent, under the list's lock, whenever the list is replaced.
    replaced: watch::Sender<()>,
    stats: Arc<Stats>,
}

impl Faults {
    /// None set.
    pub fn new(stats: Arc<Stats>) -> Faults {
        Faults { list: Mutex::default(), replaced: watch::Sender::new(()), stats }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what shall be set: a list of entries, one entry alone, or nothing at all.
    pub fn parse(body: &[u8]) -> Result<Vec<Entry>, String> {
        if body.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        // Told apart by the first byte, so that an error speaks of the entry and not of both forms.
        let entries: Vec<Entry> = if body.trim_ascii_start().first() == Some(&b'{') {
            vec![serde_json::from_slice(body).map_err(|error| error.to_string())?]
        } else {
            serde_json::from_slice(body).map_err(|error| error.to_string())?
        };
        if entries.len() > FAULTS_MAX {
            return Err(format!("at most {FAULTS_MAX} faults"));
        }
        entries.iter().try_for_each(Entry::check)?;
        Ok(entries)
    }

    /// Replaces the list; `canonical` brings a model's name into the form it is compared in. What hangs goes on.
    pub fn set(&self, entries: Vec<Entry>, canonical: impl Fn(&str) -> String) {
        let arm = |entry: Entry| Armed { key: entry.model.as_deref().map(&canonical), entry, struck: 0 };
        let mut list = self.lock();
        *list = entries.into_iter().map(arm).collect();
        self.replaced.send_replace(());
    }

    /// Returns what is set, spent entries included.
    pub fn show(&self) -> Vec<Armed> {
        self.lock().clone()
    }

    /// Strikes with the first entry that fits, and counts it.
    fn strike(&self, list: &mut [Armed], fits: impl Fn(&Entry) -> bool, model: Option<&str>) -> Option<Entry> {
        let armed = list.iter_mut().find(|armed| {
            fits(&armed.entry)
                && armed.entry.times.is_none_or(|times| armed.struck < times)
                && armed.key.as_deref().is_none_or(|key| model == Some(key))
        })?;
        armed.struck = armed.struck.saturating_add(1);
        self.stats.struck(armed.entry.fault.name());
        Some(armed.entry.clone())
    }

    /// Returns whether a connection, or a request whose model is not known yet, is refused by an entry for all models.
    pub fn refuses(&self) -> bool {
        self.strike(&mut self.lock(), |entry| entry.fault == Kind::Refuse, None).is_some()
    }

    /// Returns whether [`Faults::refuses`] might strike; nothing is counted.
    pub fn may_refuse(&self) -> bool {
        self.lock().iter().any(|armed| {
            armed.entry.fault == Kind::Refuse
                && armed.key.is_none()
                && armed.entry.times.is_none_or(|times| armed.struck < times)
        })
    }

    /// Returns what strikes a request as soon as it is read, instead of an answer: `refuse`, `500` or `503`.
    pub fn at_request(&self, inference: bool, model: Option<&str>) -> Option<Kind> {
        let fits = |entry: &Entry| match entry.fault {
            // Without a model it has struck before the request was read, or is spent.
            Kind::Refuse => entry.model.is_some(),
            Kind::Error | Kind::Busy => inference || entry.on == Some(Reach::All),
            _ => false,
        };
        self.strike(&mut self.lock(), fits, model).map(|entry| entry.fault)
    }

    /// Waits where this fault strikes, until the list is replaced. Dropping the future is the client leaving.
    pub async fn hold(&self, kind: Kind, model: Option<&str>) {
        self.held(|entry| entry.fault == kind, model).await;
    }

    /// The same for a `hang` that reaches routes without inference.
    pub async fn hold_everywhere(&self, model: Option<&str>) {
        self.held(|entry| entry.fault == Kind::Hang && entry.on == Some(Reach::All), model).await;
    }

    /// The same for a `stall`, at a generation's token number `made`.
    pub async fn stall(&self, made: u64, model: &str) {
        let due = |entry: &Entry| entry.fault == Kind::Stall && made == entry.after.unwrap_or(STALL_AFTER);
        self.held(due, Some(model)).await;
    }

    async fn held(&self, fits: impl Fn(&Entry) -> bool, model: Option<&str>) {
        let mut replaced = {
            let mut list = self.lock();
            if self.strike(&mut list, fits, model).is_none() {
                return;
            }
            // Under the lock, so that a list set from here on is noticed and the one that struck is not.
            self.replaced.subscribe()
        };
        // The sender lives as long as the server.
        let _ = replaced.changed().await;
    }

    /// Returns how many times as long the tokens of a generation take.
    pub fn slowness(&self, model: &str) -> f64 {
        let slow = self.strike(&mut self.lock(), |entry| entry.fault == Kind::Slow, Some(model));
        slow.map_or(1.0, |entry| entry.factor.unwrap_or(SLOW_FACTOR))
    }

    /// Returns the digest to show for a model.
    pub fn digest(&self, model: &str, digest: &str) -> String {
        match self.strike(&mut self.lock(), |entry| entry.fault == Kind::Digest, Some(model)) {
            None => digest.to_owned(),
            Some(Entry { digest: Some(other), .. }) => other.to_ascii_lowercase(),
            Some(_) => digest.chars().map(turned).collect(),
        }
    }
}

/// 15 less the digit: differs from it always.
fn turned(digit: char) -> char {
    digit.to_digit(16).and_then(|value| char::from_digit(15 - value, 16)).unwrap_or(digit)
}
