//! The generation itself: prompt time, then one token each `1/rate` seconds, until the bound or until the client leaves.

use crate::faults::{Faults, Kind};
use crate::reply::{self, Reply};
use crate::scheduler::Lease;
use crate::stats::{Flight, Stats};
use bytes::Bytes;
use herdgate::time::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What the tokens say, over and over; each is one token, some of several bytes a character.
const WORDS: [&str; 16] = [
    "The",
    " herd",
    " walks",
    " slowly",
    " over",
    " größe",
    " hills",
    ",",
    " and",
    " 漢字",
    " shepherds",
    " count",
    " 🦙",
    " at",
    " the",
    " gate",
];

/// Tokens of 1 to 12 bytes, one of each length and more of the short ones; some are escaped in JSON, some of several bytes a
/// character.
const MIXED: [&str; 16] = [
    "a",
    "\n",
    " b",
    "\"",
    "é",
    "the",
    "漢",
    " and",
    " herd",
    "字羊",
    " größ",
    " shephar",
    "柵の中",
    " pasturing",
    " Weidezäun",
    "草原の羊",
];

/// Of so many mixed tokens one is the first half of a character, which a server holds back until the other half is there.
const HALVES: u64 = 40;

/// What follows a first half.
const SECOND_HALF: &str = "🐑";

/// What tokens say.
#[derive(Debug, Clone, Copy)]
pub enum Words {
    /// [`WORDS`], in turn.
    Plain,
    /// [`MIXED`], drawn by a generator with this state.
    Mixed(u64),
}

impl Words {
    /// For the request with this number.
    pub fn new(mixed: bool, number: u64) -> Words {
        if mixed { Words::Mixed(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) } else { Words::Plain }
    }

    /// Returns the text of token number `made`, empty where it is held back, and of the one after it where that is
    /// settled by it.
    fn next(&mut self, made: u64) -> (&'static str, Option<&'static str>) {
        let at = |table: &[&'static str; 16], number: u64| {
            table.get(usize::try_from(number % 16).unwrap_or(0)).copied().unwrap_or_default()
        };
        match self {
            Words::Plain => (at(&WORDS, made), None),
            Words::Mixed(state) => {
                // xorshift64* (Marsaglia; Vigna)
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                let drawn = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
                if drawn.is_multiple_of(HALVES) { ("", Some(SECOND_HALF)) } else { (at(&MIXED, drawn / HALVES), None) }
            }
        }
    }
}

/// How long tokens take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Generated tokens a second; zero is as fast as possible.
    pub tokens_per_second: f64,
    /// Prompt tokens a second; zero is as fast as possible.
    pub prompt_tokens_per_second: f64,
}

impl Pace {
    /// Waits as long as `tokens` of a prompt take.
    pub async fn prompt(self, tokens: u64) {
        pause(span(tokens as f64, self.prompt_tokens_per_second)).await;
    }
}

/// Waits; not at all for no time, where a timer would still take a millisecond.
pub async fn pause(time: Duration) {
    if time > Duration::ZERO {
        tokio::time::sleep(time).await;
    }
}

fn span(tokens: f64, rate: f64) -> Duration {
    if rate > 0.0 { Duration::try_from_secs_f64(tokens / rate).unwrap_or(Duration::ZERO) } else { Duration::ZERO }
}

/// What a finished generation reports; durations in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// `stop`, `length`, `load` or `unload`.
    pub reason: &'static str,
    /// When it ended, milliseconds since 1970.
    pub unix_ms: i64,
    pub total_ns: u64,
    pub load_ns: u64,
    pub prompt_tokens: u64,
    pub prompt_ns: u64,
    pub tokens: u64,
    pub generation_ns: u64,
}

/// Writes an answer in its dialect.
pub trait Script: Send {
    /// The stream's `Content-Type`.
    fn stream_type(&self) -> &'static str;
    /// One token of a stream.
    fn token(&mut self, text: &str, unix_ms: i64) -> String;
    /// The end of a stream.
    fn done(&mut self, outcome: &Outcome) -> String;
    /// A whole answer instead of a stream.
    fn whole(&mut self, text: &str, outcome: &Outcome) -> Reply;
}

/// A generation about to begin: the model is loaded and a slot is held.
pub struct Job {
    pub clock: Clock,
    pub stats: Arc<Stats>,
    pub faults: Arc<Faults>,
    pub pace: Pace,
    pub words: Words,
    pub flight: Flight,
    pub lease: Lease,
    /// Canonical name, for the counters and the faults.
    pub model: String,
    pub prompt_tokens: u64,
    /// Tokens to generate.
    pub tokens: u64,
    /// Why it ends there: `stop` or `length`.
    pub reason: &'static str,
    /// When the request arrived and when its model was ready, on the monotonic clock.
    pub arrived_ns: u64,
    pub ready_ns: u64,
    pub script: Box<dyn Script>,
}

impl Job {
    /// Generates everything, then answers. Dropping the future is the client leaving.
    pub async fn whole(self) -> Reply {
        let mut text = String::new();
        let mut run = self.begin().await;
        while let Some(word) = run.next().await {
            text.push_str(word);
        }
        let (outcome, mut script) = run.end();
        script.whole(&text, &outcome)
    }

    /// Answers with a stream once the first token is there, as Ollama does, and generates on while it is read.
    pub async fn stream(self) -> Reply {
        let content_type = self.script.stream_type();
        let (sender, mut receiver) = mpsc::channel(1);
        let closed = sender.clone();
        tokio::spawn(async move {
            let write = async move {
                let mut run = self.begin().await;
                while let Some(word) = run.next().await {
                    if word.is_empty() {
                        continue; // held back
                    }
                    let piece = run.write(word);
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
                // The slot is free and the counters are right before the client sees the end.
                let (outcome, mut script) = run.end();
                let _ = sender.send(Bytes::from(script.done(&outcome))).await;
            };
            tokio::select! {
                () = write => {}
                () = closed.closed() => {}
            }
        });
        match receiver.recv().await {
            Some(first) => reply::stream(content_type, first, receiver),
            None => reply::empty(500),
        }
    }

    async fn begin(self) -> Run {
        self.faults.hold(Kind::Hang, Some(&self.model)).await;
        self.pace.prompt(self.prompt_tokens).await;
        self.stats.tokens(&self.model, self.prompt_tokens, 0);
        let evaluated_ns = self.clock.now().mono_ns;
        let rate = self.pace.tokens_per_second;
        let gap = if rate > 0.0 { span(self.faults.slowness(&self.model), rate) } else { Duration::ZERO };
        let mut ticks = (gap > Duration::ZERO).then(|| tokio::time::interval(gap));
        if let Some(ticks) = &mut ticks {
            ticks.tick().await; // the first tick is now, the first token one gap later
        }
        let words = self.words;
        Run { job: self, evaluated_ns, ticks, made: 0, words, settled: None }
    }
}

struct Run {
    job: Job,
    evaluated_ns: u64,
    /// Keeps the schedule: a late token does not delay the next.
    ticks: Option<tokio::time::Interval>,
    made: u64,
    words: Words,
    /// The next token's text, where the last one settled it.
    settled: Option<&'static str>,
}

impl Run {
    async fn next(&mut self) -> Option<&'static str> {
        if self.made >= self.job.tokens {
            return None;
        }
        self.job.faults.stall(self.made, &self.job.model).await;
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => tokio::task::yield_now().await,
        }
        self.job.stats.tokens(&self.job.model, 0, 1);
        let made = self.made;
        self.made += 1;
        if let Some(settled) = self.settled.take() {
            return Some(settled);
        }
        let (word, next) = self.words.next(made);
        self.settled = next;
        Some(word)
    }

    fn write(&mut self, word: &str) -> Bytes {
        let now = self.job.clock.now().unix_ms;
        Bytes::from(self.job.script.token(word, now))
    }

    /// Gives the slot back and reports.
    fn end(self) -> (Outcome, Box<dyn Script>) {
        let now = self.job.clock.now();
        let outcome = Outcome {
            reason: self.job.reason,
            unix_ms: now.unix_ms,
            total_ns: now.mono_ns.saturating_sub(self.job.arrived_ns),
            load_ns: self.job.ready_ns.saturating_sub(self.job.arrived_ns),
            prompt_tokens: self.job.prompt_tokens,
            prompt_ns: self.evaluated_ns.saturating_sub(self.job.ready_ns),
            tokens: self.made,
            generation_ns: now.mono_ns.saturating_sub(self.evaluated_ns),
        };
        let Job { flight, lease, script, .. } = self.job;
        drop(lease);
        flight.landed();
        (outcome, script)
    }
}
