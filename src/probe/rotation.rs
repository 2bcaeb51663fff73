//! Which loaded model of an Ollama server a deep check asks next, and with what, so that it disturbs nothing. Pure.
//!
//! A check must not load, reload, pin or evict. Its argument, against Ollama's `server/sched.go`:
//! - **No load**: only a model that `/api/ps` has just listed is asked, and only while more time remains to its expiry
//!   than the check may take, so that it cannot expire while the check waits.
//! - **No reload**: `options.num_ctx` is the `context_length` it was loaded with; where that is unknown it is not asked. The
//!   other runner options cannot be seen. Where an answer tells of a load all the same, the model rests for `idle`.
//! - **No pin**: `keep_alive` replaces how long the model stays after this request, so it is what remains of its expiry. It
//!   is reckoned on the server's clock (`Date`, whose seconds are cut off: the later end is taken), less what the last check
//!   took. A model that stays for ever is given 285 years, not "for ever". It is never zero or negative: those unload or pin.
//! - **No eviction**: nothing is loaded, so nothing has to leave.
//!
//! What this costs: Ollama keeps one such duration a model. The next request without a `keep_alive` of its own inherits what the
//! last check sent, so the model then stays shorter than without checks, and over several uses that adds up, until a client
//! names its `keep_alive` or the model is loaded anew. Giving back what was taken would mean to send more than what remains,
//! on the guess that the last use named none; that is not done. Real traffic that is known of suspends the checks, and with
//! them this.
//!
//! **Idle**: `/api/ps` says when a model will leave and not when it was used. Our own checks move that moment to the
//! end of the check plus the `keep_alive` sent, at the latest. If it stands later than our checks explain, somebody else used
//! the model since the last look. So does a model that was not there before, or with another digest or context length. One
//! that saw no such use for longer than `idle` is not asked any more: its server is judged by the inventory.

use crate::decision::fleet::LoadedModel;
use crate::decision::moment::Moment;
use crate::decision::request::name::ModelName;
use std::collections::BTreeMap;
use std::time::Duration;

/// By how much `Date` may lag: its fraction of a second is cut off.
const DATE_MS: i64 = 1_000;

/// By how much an expiry may stand later than explained without being a use: two cut-off dates.
const SLACK_MS: i64 = 2_000;

/// Longest `keep_alive` sent, in seconds: 285 years, within Go's 292.
const KEEP_ALIVE_MAX_S: i64 = 9_000_000_000;

/// What a check is bound by.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest a check takes.
    pub deadline: Duration,
    /// A model without other use for longer than this is left alone.
    pub idle: Duration,
    /// Where given, only models that were asked fewer times since they were loaded.
    pub fewer: Option<u32>,
}

/// One look at `/api/ps`.
#[derive(Debug, Clone, Copy)]
pub struct Look<'l> {
    /// What it listed.
    pub loaded: &'l [LoadedModel],
    /// The server's `Date` as milliseconds since 1970, or our own where it sends none.
    pub server_ms: i64,
    /// Our own clocks.
    pub now: Moment,
}

/// A check to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// Canonical name.
    pub model: ModelName,
    /// The name the server lists.
    pub listed: Box<str>,
    /// `options.num_ctx`
    pub num_ctx: u64,
    /// `keep_alive` in seconds, at least 1.
    pub keep_alive_s: i64,
    /// Whether it can only embed.
    pub embeds: bool,
    /// How many checks of this model went before since it was loaded: which of the endpoints it is asked at.
    pub turn: u32,
    /// Server time of the look, at the latest.
    server_ms: i64,
    asked: Moment,
}

/// What there is to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// This check.
    Ask(CheckRequest),
    /// Nothing is loaded, or what failed is no longer.
    Nothing,
    /// Models are loaded, and none may be asked without disturbing it: idle, soon to leave, or of unknown context.
    Spared,
}

#[derive(Debug)]
struct Known {
    digest: Box<str>,
    context_length: u64,
    used: Moment,
    /// Latest expiry that our own checks and what was seen explain, server milliseconds.
    explained_ms: i64,
    expires_ms: Option<i64>,
    embeds: bool,
    turn: u32,
    rests_until_ns: u64,
    outstanding: u32,
}

/// What is known of the models loaded on one server.
#[derive(Debug, Default)]
pub struct Rotation {
    known: BTreeMap<ModelName, Known>,
    last: Option<ModelName>,
    /// What the last check took.
    took: Duration,
}

impl Rotation {
    /// Applies a look and returns what to ask. `suspect` is the model whose check failed: until it passes only it is asked, idle
    /// or not, because another model's answer would say nothing of it.
    pub fn pick(&mut self, look: Look<'_>, suspect: Option<&ModelName>, bounds: Bounds) -> Pick {
        self.observe(look);
        if let Some(suspect) = suspect {
            let Some(model) = look.loaded.iter().find(|model| model.name == *suspect) else { return Pick::Nothing };
            return self.ask(model, look, bounds).map_or(Pick::Spared, Pick::Ask);
        }
        if look.loaded.is_empty() {
            return Pick::Nothing;
        }
        let idle_ns = u64::try_from(bounds.idle.as_nanos()).unwrap_or(u64::MAX);
        let mut asks: Vec<CheckRequest> = look
            .loaded
            .iter()
            .filter(|model| {
                let known = self.known.get(&model.name);
                known.is_some_and(|known| {
                    let is_new = bounds.fewer.is_none_or(|turns| known.turn < turns && !known.embeds);
                    is_new && look.now.since(known.used) <= idle_ns && known.rests_until_ns <= look.now.mono_ns
                })
            })
            .filter_map(|model| self.ask(model, look, bounds))
            .collect();
        asks.sort_by(|a, b| a.model.cmp(&b.model));
        // The one after the last asked, in order of name.
        let at = asks.iter().position(|ask| self.last.as_ref().is_none_or(|last| ask.model > *last)).unwrap_or(0);
        if asks.is_empty() { Pick::Spared } else { Pick::Ask(asks.swap_remove(at)) }
    }

    fn observe(&mut self, look: Look<'_>) {
        self.known.retain(|name, _| look.loaded.iter().any(|model| model.name == *name));
        for model in look.loaded {
            let expires_ms = super::ollama::unix_ms(&model.expires_at);
            let explained_ms = expires_ms.unwrap_or(i64::MIN).saturating_add(SLACK_MS);
            let known = self.known.entry(model.name.clone()).or_insert_with(|| Known {
                digest: model.digest.clone(),
                context_length: model.context_length,
                used: look.now,
                explained_ms,
                expires_ms,
                embeds: false,
                turn: 0,
                rests_until_ns: 0,
                outstanding: 0,
            });
            let anew = known.digest != model.digest || known.context_length != model.context_length;
            if anew || explained_ms.saturating_sub(SLACK_MS) > known.explained_ms {
                known.used = look.now;
                known.explained_ms = explained_ms;
                known.digest = model.digest.clone();
                known.context_length = model.context_length;
            }
            known.expires_ms = expires_ms;
        }
    }

    fn ask(&self, model: &LoadedModel, look: Look<'_>, bounds: Bounds) -> Option<CheckRequest> {
        let known = self.known.get(&model.name)?;
        if model.context_length == 0 {
            return None;
        }
        let server_ms = look.server_ms.saturating_add(DATE_MS);
        let left_ms = known.expires_ms?.saturating_sub(server_ms);
        if left_ms <= millis(bounds.deadline) {
            return None;
        }
        let keep_alive_s = (left_ms.saturating_sub(millis(self.took)) / 1_000).min(KEEP_ALIVE_MAX_S);
        (keep_alive_s >= 1).then(|| CheckRequest {
            model: model.name.clone(),
            listed: model.listed.clone(),
            num_ctx: model.context_length,
            keep_alive_s,
            embeds: known.embeds,
            turn: known.turn,
            server_ms,
            asked: look.now,
        })
    }

    /// Returns whether a model may be loaded that was asked less than `turns` times: none is known, or one of those
    /// known was.
    pub fn may_have_new(&self, turns: u32) -> bool {
        self.known.is_empty() || self.known.values().any(|known| !known.embeds && known.turn < turns)
    }

    /// Notes that a check was sent.
    pub fn sent(&mut self, ask: &CheckRequest, bounds: Bounds) {
        self.last = Some(ask.model.clone());
        if let Some(known) = self.known.get_mut(&ask.model) {
            known.outstanding = known.outstanding.saturating_add(1);
            known.turn = known.turn.saturating_add(1);
            let latest = ask.ends_by(bounds.deadline);
            known.explained_ms = known.explained_ms.max(latest);
        }
    }

    /// Notes that a check has ended, whether the model can only embed, and whether the server says that it loaded the model for it.
    pub fn ended(&mut self, ask: &CheckRequest, now: Moment, embeds: bool, loaded: bool, bounds: Bounds) {
        self.took = Duration::from_nanos(now.since(ask.asked));
        let latest = ask.ends_by(self.took);
        let Some(known) = self.known.get_mut(&ask.model) else { return };
        known.embeds |= embeds;
        known.outstanding = known.outstanding.saturating_sub(1);
        if known.outstanding == 0 {
            // Now that its end is known, a use soon after it can be told from it.
            let seen = known.expires_ms.unwrap_or(i64::MIN).saturating_add(SLACK_MS);
            known.explained_ms = latest.max(seen);
        }
        if loaded {
            let idle_ns = u64::try_from(bounds.idle.as_nanos()).unwrap_or(u64::MAX);
            known.rests_until_ns = now.mono_ns.saturating_add(idle_ns);
        }
    }
}

impl CheckRequest {
    /// Returns the same check, asked as the first time: after a failure the plainest way says most.
    #[must_use]
    pub fn at_first(self) -> CheckRequest {
        CheckRequest { turn: 0, ..self }
    }

    /// Returns the expiry this check explains where it takes that long, server milliseconds.
    fn ends_by(&self, took: Duration) -> i64 {
        let keep_alive_ms = self.keep_alive_s.saturating_mul(1_000);
        self.server_ms.saturating_add(millis(took)).saturating_add(keep_alive_ms).saturating_add(SLACK_MS)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Virtual seconds to the two clocks; the server's is `skew_ms` ahead of ours.
    const EPOCH_MS: i64 = 1_800_000_000_000;

    fn at(ms: i64) -> Moment {
        Moment::default().plus_ns(u64::try_from(ms).unwrap() * 1_000_000)
    }

    fn rfc3339(unix_ms: i64) -> Box<str> {
        // Good for the few days around EPOCH_MS (2027-01-15T08:00:00Z) that tests live in, and one far date.
        if unix_ms > EPOCH_MS + 86_400_000 {
            return "2318-03-01T12:00:00.5Z".into();
        }
        let ms = unix_ms - EPOCH_MS + 8 * 3_600_000;
        format!("2027-01-15T{:02}:{:02}:{:02}.{:03}Z", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
            .into()
    }

    /// One model as Ollama keeps it (`server/sched.go`), with counters of what must not happen.
    struct Kept {
        name: &'static str,
        num_ctx: u64,
        session_ms: i64,
        /// Server milliseconds.
        expires_ms: i64,
        in_memory: bool,
    }

    struct Sim {
        kept: Vec<Kept>,
        skew_ms: i64,
        /// What a generation takes.
        takes_ms: i64,
        checks: u32,
        loads: u32,
        reloads: u32,
        pins: u32,
    }

    impl Sim {
        fn new(models: &[(&'static str, i64)], skew_ms: i64) -> Sim {
            let kept = models.iter().map(|(name, session_ms)| Kept {
                name,
                num_ctx: 8192,
                session_ms: *session_ms,
                expires_ms: EPOCH_MS + skew_ms + session_ms,
                in_memory: true,
            });
            Sim { kept: kept.collect(), skew_ms, takes_ms: 40, checks: 0, loads: 0, reloads: 0, pins: 0 }
        }

        fn ps(&mut self, ms: i64) -> Vec<LoadedModel> {
            let server_ms = EPOCH_MS + ms + self.skew_ms;
            for model in &mut self.kept {
                model.in_memory &= server_ms < model.expires_ms;
            }
            let listed = self.kept.iter().filter(|model| model.in_memory).map(|model| LoadedModel {
                name: ModelName::canonical(model.name),
                listed: model.name.into(),
                digest: "ab".into(),
                size: 1,
                size_vram: 1,
                details: "".into(),
                expires_at: rfc3339(model.expires_ms),
                context_length: model.num_ctx,
            });
            listed.collect()
        }

        /// A client's request without a `keep_alive` of its own.
        fn used(&mut self, name: &str, ms: i64) {
            let server_ms = EPOCH_MS + ms + self.skew_ms;
            let model = self.kept.iter_mut().find(|model| model.name == name).unwrap();
            assert!(server_ms < model.expires_ms, "{name} had left when a client used it at {ms} ms");
            model.expires_ms = server_ms + model.session_ms;
        }

        /// A check that arrives at `ms`.
        fn check(&mut self, ask: &CheckRequest, ms: i64) {
            self.checks += 1;
            let server_ms = EPOCH_MS + ms + self.skew_ms;
            let model = self.kept.iter_mut().find(|model| *model.name == *ask.listed).unwrap();
            self.loads += u32::from(!model.in_memory || server_ms >= model.expires_ms);
            self.reloads += u32::from(model.num_ctx != ask.num_ctx);
            model.session_ms = ask.keep_alive_s * 1_000;
            let expires_ms = server_ms + self.takes_ms + model.session_ms;
            self.pins += u32::from(expires_ms > model.expires_ms);
            model.expires_ms = expires_ms;
        }
    }

    const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(10), idle: Duration::from_secs(600), fewer: None };

    /// Runs checks each `every_s` from 1 s on to `until_s`; `uses` are (second, model). Gives the names asked, in order.
    fn run(
        sim: &mut Sim,
        every_s: i64,
        until_s: i64,
        bounds: Bounds,
        uses: &[(i64, &str)],
    ) -> Vec<(i64, &'static str)> {
        let mut rotation = Rotation::default();
        let mut asked = Vec::new();
        for second in 1..=until_s {
            for (_, name) in uses.iter().filter(|(when, _)| *when == second) {
                sim.used(name, second * 1_000);
            }
            if (second - 1) % every_s != 0 {
                continue;
            }
            let ms = second * 1_000 + 700;
            let loaded = sim.ps(ms);
            // A `Date` has no fraction.
            let server_ms = (EPOCH_MS + ms + sim.skew_ms) / 1_000 * 1_000;
            let look = Look { loaded: &loaded, server_ms, now: at(ms) };
            if let Pick::Ask(ask) = rotation.pick(look, None, bounds) {
                rotation.sent(&ask, bounds);
                sim.check(&ask, ms);
                rotation.ended(&ask, at(ms + sim.takes_ms), false, false, bounds);
                asked.push((second, sim.kept.iter().find(|model| *model.name == *ask.listed).unwrap().name));
            }
        }
        asked
    }

    fn harmless(sim: &Sim) {
        assert!(sim.checks > 0, "nothing was checked");
        assert_eq!((sim.loads, sim.reloads, sim.pins), (0, 0, 0), "loads, reloads, pins in {} checks", sim.checks);
    }

    #[test]
    fn ten_idle_minutes_of_checks_load_reload_and_pin_nothing() {
        for skew_ms in [0, 400, -3_000, 120_000, -120_000, 7_200_000] {
            for every_s in [1, 7, 60] {
                let mut sim = Sim::new(&[("a", 300_000), ("b", 900_000), ("c", 40_000)], skew_ms);
                run(&mut sim, every_s, 600, BOUNDS, &[]);
                harmless(&sim);
                let left: Vec<_> = sim.ps(600_000).iter().map(|model| model.listed.clone()).collect();
                assert!(!left.contains(&"a".into()), "the checks kept `a` loaded");
            }
        }
    }

    #[test]
    fn a_model_leaves_about_when_it_would_have_left_without_checks() {
        let mut sim = Sim::new(&[("a", 300_000)], 0);
        run(&mut sim, 60, 240, BOUNDS, &[]);
        harmless(&sim);
        let early_ms = EPOCH_MS + 300_000 - sim.kept[0].expires_ms;
        assert!((0..=10_000).contains(&early_ms), "{early_ms} ms early after {} checks", sim.checks);
    }

    #[test]
    fn loaded_models_take_turns() {
        let mut sim = Sim::new(&[("b", 900_000), ("a", 900_000), ("c", 900_000)], 0);
        let asked: Vec<_> = run(&mut sim, 60, 300, BOUNDS, &[]).into_iter().map(|(_, name)| name).collect();
        assert_eq!(asked, ["a:latest", "b:latest", "c:latest", "a:latest", "b:latest"].map(|name| &name[..1]));
        harmless(&sim);
    }

    #[test]
    fn a_model_that_nobody_else_uses_is_left_alone_after_idle() {
        let bounds = Bounds { idle: Duration::from_secs(300), ..BOUNDS };
        let last = |uses: &[(i64, &str)]| {
            let mut sim = Sim::new(&[("a", 7_200_000)], 0);
            let asked = run(&mut sim, 60, 3_600, bounds, uses);
            harmless(&sim);
            asked.last().unwrap().0
        };
        assert_eq!(last(&[]), 301, "our own checks are no use");
        // Each use is seen at the next check and moves the end with it.
        assert_eq!(last(&[(200, "a")]), 541);
        let every_four_minutes: Vec<_> = (0..10).map(|turn| (100 + turn * 240, "a")).collect();
        assert_eq!(last(&every_four_minutes), 2_581);
    }

    #[test]
    fn what_cannot_be_asked_without_harm_is_spared() {
        let check = |expires_s: i64, context_length: u64, suspect: Option<&str>, expected: Option<i64>| {
            let mut sim = Sim::new(&[("a", expires_s * 1_000)], 0);
            sim.kept[0].num_ctx = context_length;
            let mut loaded = sim.ps(-1);
            loaded[0].context_length = context_length;
            let look = Look { loaded: &loaded, server_ms: EPOCH_MS, now: at(0) };
            let suspect = suspect.map(ModelName::canonical);
            match Rotation::default().pick(look, suspect.as_ref(), BOUNDS) {
                Pick::Ask(ask) => assert_eq!(Some(ask.keep_alive_s), expected),
                Pick::Spared => assert_eq!(None, expected),
                Pick::Nothing => assert_eq!(Some(-1), expected),
            }
        };
        check(300, 4096, None, Some(299));
        check(300, 4096, Some("a"), Some(299));
        check(300, 4096, Some("b"), Some(-1)); // what failed is gone
        check(300, 0, None, None); // an old server does not say what it was loaded with
        check(11, 4096, None, None); // could expire while the check waits, and would be loaded by it
        check(12, 4096, None, Some(11));
        check(0, 4096, None, None); // about to leave, or in use by a long request
        let forever = [LoadedModel {
            expires_at: "2318-03-01T12:00:00Z".into(),
            ..Sim::new(&[("a", 1_000)], 0).ps(0)[0].clone()
        }];
        let look = Look { loaded: &forever, server_ms: EPOCH_MS, now: at(0) };
        let Pick::Ask(ask) = Rotation::default().pick(look, None, BOUNDS) else { panic!("not asked") };
        assert_eq!(ask.keep_alive_s, KEEP_ALIVE_MAX_S);
        for odd in ["", "tomorrow", "0001-01-01T00:00:00Z"] {
            let odd = [LoadedModel { expires_at: odd.into(), ..forever[0].clone() }];
            let look = Look { loaded: &odd, server_ms: EPOCH_MS, now: at(0) };
            assert_eq!(Rotation::default().pick(look, None, BOUNDS), Pick::Spared);
        }
        assert_eq!(Rotation::default().pick(Look { loaded: &[], ..look }, None, BOUNDS), Pick::Nothing);
    }

    #[test]
    fn a_check_that_timed_out_does_not_make_the_next_one_prolong() {
        let mut sim = Sim::new(&[("a", 300_000)], 0);
        sim.takes_ms = 10_000;
        run(&mut sim, 11, 300, BOUNDS, &[]);
        assert!(sim.checks > 10);
        assert_eq!((sim.loads, sim.reloads), (0, 0));
        // Only the first could not know what it would take.
        assert!(sim.pins <= 1, "{} pins", sim.pins);
    }

    #[test]
    fn a_model_whose_check_was_told_of_a_load_rests() {
        let mut sim = Sim::new(&[("a", 7_200_000)], 0);
        let loaded = sim.ps(0);
        let mut rotation = Rotation::default();
        let look = |ms: i64| Look { loaded: &loaded, server_ms: EPOCH_MS + ms, now: at(ms) };
        let Pick::Ask(ask) = rotation.pick(look(0), None, BOUNDS) else { panic!("not asked") };
        rotation.sent(&ask, BOUNDS);
        rotation.ended(&ask, at(100), false, true, BOUNDS);
        assert_eq!(rotation.pick(look(60_000), None, BOUNDS), Pick::Spared);
        assert_eq!(rotation.pick(look(599_000), None, BOUNDS), Pick::Spared);
    }
}
