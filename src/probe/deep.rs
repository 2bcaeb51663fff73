//! Deep checks: proves that a server generates, by two tokens of a model that is loaded, or by real traffic.
//!
//! **When.** Every `deep_interval`, by jitter. While real requests succeed nothing is asked, because they prove more, but for
//! the few checks by which a model that was just loaded is measured (below). A check that is
//! not answered within `fast_interval`, or that failed, is joined by another, at most `fall` at once, each with the whole
//! `deep_timeout`: so a server whose generation hangs is down within `deep_timeout` + `fall` × `fast_interval` of the first
//! check that hangs, and no single stuck connection decides. After a failure only the model that failed is asked, until it
//! passed `rise` times or is no longer loaded (see `rotation` for what is asked, and why that disturbs nothing).
//!
//! **Busy or dead.** Ollama queues requests: a check behind a full server waits, and times out as it does on a dead one.
//! They are told apart by progress, and only by signs that a dead server cannot give:
//! - `server busy` (503 of Ollama's scheduler), 429, and 503 of vLLM and llama.cpp, which are full or loading: busy.
//!   A server that answers 503 to everything fails the other layer, whose questions need no model.
//! - A real request succeeded on this server since the check began: busy.
//! - A model was loaded meanwhile (`/api/ps` lists one that was not there): the scheduler held the check up for that: busy.
//! - vLLM's and llama.cpp's counters of generated tokens moved (`/metrics`), or every slot of llama.cpp was taken and what
//!   they hold moved (`/slots`): busy.
//! - That `/api/ps` answers proves nothing: it answers on a dead server as well. Neither does an expiry that moved: clients
//!   that give up on a dead server move it, too.
//! - Without a sign either way the time-out counts. It takes `fall` of them in a row, each with the whole `deep_timeout`,
//!   on a server of which nobody has seen a token meanwhile.
//!
//! **Measured.** What a check is answered also tells how many bytes a token costs at that endpoint (`measure`): it is what
//! tokens are estimated by where a proxy sees no usage. So checks take turns over the endpoints, and after a failure only the
//! plainest is asked.
//!
//! A status of 4xx is a refusal by what stands in front (a key is wanted, a route is absent): it proves nothing, and counts
//! as nothing.

use super::check::CheckFinding;
use super::fetch::{Client, failure};
use super::rotation::{Bounds, CheckRequest, Look, Pick, Rotation};
use super::schedule::Schedule;
use super::{Finding, Report, Target, ollama, openai};
use crate::decision::fleet::LoadedModel;
use crate::decision::fleet::track::Depth;
use crate::decision::moment::Moment;
use crate::decision::plan::server::ServerKind;
use crate::decision::request::name::ModelName;
use crate::ledger::tokens::estimate::Calibration;
use crate::mailbox::calibrations::Calibrations;
use crate::mailbox::traffic::Traffic;
use crate::time::clock::{Clock, timer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

/// The deep checks of one server.
pub(super) struct DeepProbe {
    pub target: Target,
    pub generation: u64,
    pub client: Client,
    pub clock: Clock,
    pub traffic: Traffic,
    pub calibrations: Calibrations,
    pub schedule: watch::Receiver<Schedule>,
    pub reports: mpsc::Sender<Report>,
}

/// A check that has ended.
struct CheckEnd {
    asked: CheckTarget,
    found: CheckFinding,
    began: Moment,
    embeds: bool,
    loaded: bool,
    /// Whether the server was seen to work while the check waited.
    progress: bool,
    measured: Option<Calibration>,
}

enum CheckTarget {
    Ollama(CheckRequest),
    OpenAi {
        model: ModelName,
        /// What was learned of its routes.
        ways: openai::Ways,
        /// Whether the server tells of its progress.
        tells: bool,
    },
}

/// State that the checks so far left.
#[derive(Default)]
struct Memory {
    rotation: Rotation,
    ways: openai::Ways,
    /// The model whose check failed.
    suspect: Option<ModelName>,
    /// Successes still wanted after a failure.
    doubt: u32,
    /// The real success that was last reported.
    credited: Option<Moment>,
    /// Whether the refusals were logged.
    refused: bool,
    /// Whether this server is known to show no progress.
    silent: bool,
}

impl DeepProbe {
    /// Makes checks until nobody receives the reports any more.
    pub async fn run(mut self) {
        let mut checks: JoinSet<CheckEnd> = JoinSet::new();
        let mut memory = Memory::default();
        // Anywhere within the first interval, so that a fleet is not asked all at once.
        let first = self.rules().deep_interval.mul_f64(rand::random());
        let mut next = timer(first);
        loop {
            let most = usize::try_from(self.rules().fall).unwrap_or(usize::MAX).max(1);
            let go_on = tokio::select! {
                ended = join(&mut checks) => {
                    let busy = matches!(ended, Some(CheckEnd { found: CheckFinding::Busy, .. }));
                    let before = memory.doubt;
                    let go_on = match ended {
                        Some(ended) => self.conclude(ended, &mut memory).await,
                        None => true,
                    };
                    let rules = self.rules();
                    if busy {
                        next = timer(rules.interval.min(rules.deep_interval));
                    } else if memory.doubt == 0 {
                        next = timer(rules.deep_pause(false, rand::random()));
                    } else if before == 0 {
                        next = next.min(timer(rules.deep_pause(true, 0.0)));
                    }
                    go_on
                }
                () = sleep_until(next), if checks.len() < most => {
                    let (asking, go_on) = self.begin(&mut checks, &mut memory).await;
                    next = timer(self.rules().deep_pause(asking || memory.doubt > 0, rand::random()));
                    go_on
                }
                changed = self.schedule.changed() => {
                    next = timer(self.rules().deep_pause(memory.doubt > 0, rand::random()));
                    changed.is_ok()
                }
            };
            if !go_on {
                return;
            }
        }
    }

    fn rules(&self) -> Schedule {
        self.schedule.borrow().clone()
    }

    /// Starts a check where one is due. Returns whether it did, and whether to go on.
    async fn begin(&self, checks: &mut JoinSet<CheckEnd>, memory: &mut Memory) -> (bool, bool) {
        let (rules, now) = (self.rules(), self.clock.now());
        let real = self.traffic.last_success(&self.target.name).filter(|success| match memory.doubt {
            0 => Duration::from_nanos(now.since(*success)) <= rules.deep_interval,
            // Each success counts once, or one would stand for `rise`.
            _ => memory.credited.is_none_or(|credited| *success > credited),
        });
        let mut only_new = false;
        if real.is_some() {
            memory.credited = real;
            memory.passed();
            // A server that is never idle would never be measured.
            only_new = checks.is_empty() && memory.doubt == 0;
            let go_on = self.report(Depth::Generates).await;
            if !only_new || !go_on {
                return (false, go_on);
            }
        }
        match self.target.kind {
            ServerKind::Ollama => self.begin_ollama(checks, memory, &rules, now, only_new).await,
            ServerKind::OpenAi if only_new && memory.ways.turns() >= openai::WAYS => (false, true),
            ServerKind::OpenAi => self.begin_openai(checks, memory, &rules, now).await,
        }
    }

    async fn begin_ollama(
        &self,
        checks: &mut JoinSet<CheckEnd>,
        memory: &mut Memory,
        rules: &Schedule,
        now: Moment,
        only_new: bool,
    ) -> (bool, bool) {
        if only_new && !memory.rotation.may_have_new(ollama::WAYS) {
            return (false, true);
        }
        // Where this fails the inventory layer finds out by itself.
        let looked = timeout(rules.fast_interval, ollama::loaded(&self.client, &self.target.url)).await;
        let Ok(Ok((loaded, date_ms))) = looked else { return (false, true) };
        let look = Look { loaded: &loaded, server_ms: date_ms.unwrap_or(now.unix_ms), now };
        let fewer = only_new.then_some(ollama::WAYS);
        let bounds = Bounds { deadline: rules.deep_timeout, idle: rules.idle, fewer };
        let ask = match memory.rotation.pick(look, memory.suspect.as_ref(), bounds) {
            Pick::Ask(ask) if memory.doubt > 0 => ask.at_first(),
            Pick::Ask(ask) => ask,
            _ if only_new => return (false, true),
            Pick::Nothing => {
                memory.passed();
                return (false, self.report(Depth::Nothing).await);
            }
            Pick::Spared => return (false, true),
        };
        memory.rotation.sent(&ask, bounds);
        let (client, url, traffic, name) =
            (self.client.clone(), self.target.url.clone(), self.traffic.clone(), self.target.name.clone());
        let (deadline, patience) = (rules.deep_timeout, rules.fast_interval);
        checks.spawn(async move {
            let tried = timeout(deadline, ollama::few_tokens(&client, &url, &ask)).await;
            let late =
                |_| ollama::Checked { found: CheckFinding::Late, embeds: ask.embeds, loaded: false, measured: None };
            let ollama::Checked { found, embeds, loaded: is_loaded, measured } = tried.unwrap_or_else(late);
            let progress = matches!(found, CheckFinding::Late)
                && (worked_since(&traffic, &name, now) || {
                    let after = timeout(patience, ollama::loaded(&client, &url)).await;
                    matches!(after, Ok(Ok((after, _))) if has_new(&loaded, &after))
                });
            CheckEnd {
                asked: CheckTarget::Ollama(ask),
                found,
                began: now,
                embeds,
                loaded: is_loaded,
                progress,
                measured,
            }
        });
        (true, true)
    }

    async fn begin_openai(
        &self,
        checks: &mut JoinSet<CheckEnd>,
        memory: &mut Memory,
        rules: &Schedule,
        now: Moment,
    ) -> (bool, bool) {
        let looked = timeout(rules.fast_interval, openai::held(&self.client, &self.target)).await;
        let Ok(Ok(held)) = looked else { return (false, true) };
        let Some(listed) = held else {
            memory.passed();
            return (false, self.report(Depth::Nothing).await);
        };
        let (client, url, traffic, name) =
            (self.client.clone(), self.target.url.clone(), self.traffic.clone(), self.target.name.clone());
        let (deadline, patience, ways) = (rules.deep_timeout, rules.fast_interval, memory.ways);
        let ways = if memory.doubt > 0 { ways.at_first() } else { ways };
        memory.ways = memory.ways.next();
        let (began, silent) = (now, memory.silent);
        checks.spawn(async move {
            let progress = async || timeout(patience, openai::progress(&client, &url)).await.ok().flatten();
            let before = if silent { None } else { progress().await };
            let tried = timeout(deadline, openai::few_tokens(&client, &url, &listed, ways)).await;
            let (found, ways, measured) = tried.unwrap_or((CheckFinding::Late, ways, None));
            let moved = matches!(found, CheckFinding::Late)
                && (worked_since(&traffic, &name, began) || has_moved(before, progress().await));
            let asked = CheckTarget::OpenAi { model: ModelName::canonical(&listed), ways, tells: before.is_some() };
            CheckEnd { asked, found, began, embeds: false, loaded: false, progress: moved, measured }
        });
        (true, true)
    }

    /// Applies the end of a check. Returns whether to go on.
    async fn conclude(&self, ended: CheckEnd, memory: &mut Memory) -> bool {
        let CheckEnd { asked, found, began, embeds, loaded, progress, measured } = ended;
        if let Some(measured) = measured {
            self.calibrations.leave(measured);
        }
        let (rules, now) = (self.rules(), self.clock.now());
        let model = match asked {
            CheckTarget::Ollama(ask) => {
                let bounds = Bounds { deadline: rules.deep_timeout, idle: rules.idle, fewer: None };
                memory.rotation.ended(&ask, now, embeds, loaded, bounds);
                if loaded {
                    let (server, model) = (&*self.target.name, ask.model.as_str());
                    tracing::warn!(server, model, "a deep check was told of a load; the model is spared for `idle`");
                }
                ask.model
            }
            CheckTarget::OpenAi { model, ways, tells } => {
                memory.ways = memory.ways.learn(ways);
                // Asked again after a failure: what comes back may be another program.
                memory.silent = !tells && matches!(found, CheckFinding::Token);
                model
            }
        };
        let failed = |what: String| Depth::Failed(failure("generation", format!("{model}: {what}")));
        let depth = match found {
            CheckFinding::Token => Depth::Generates,
            CheckFinding::Late if progress => Depth::Busy,
            CheckFinding::Late => failed(format!("no token within {:?}", rules.deep_timeout)),
            CheckFinding::Busy => Depth::Busy,
            CheckFinding::Failed(what) => failed(what),
            CheckFinding::Refused(status) => {
                if !std::mem::replace(&mut memory.refused, true) {
                    let (server, model) = (&*self.target.name, model.as_str());
                    tracing::warn!(server, model, status, "deep checks are refused; the inventory alone decides");
                }
                return true;
            }
        };
        memory.refused = false;
        match &depth {
            Depth::Generates => memory.passed(),
            Depth::Failed(_) => {
                memory.doubt = rules.rise.max(1);
                memory.suspect = Some(model);
                memory.credited = memory.credited.max(Some(began));
            }
            Depth::Busy | Depth::Nothing => {}
        }
        self.report(depth).await
    }

    async fn report(&self, depth: Depth) -> bool {
        let (server, generation) = (self.target.name.clone(), self.generation);
        self.reports.send(Report { server, generation, finding: Finding::Depth(depth) }).await.is_ok()
    }
}

impl Memory {
    fn passed(&mut self) {
        self.doubt = self.doubt.saturating_sub(1);
        if self.doubt == 0 {
            self.suspect = None;
        }
    }
}

/// Waits for the next check to end, for ever where there is none. A check that ended by a panic is skipped.
async fn join(checks: &mut JoinSet<CheckEnd>) -> Option<CheckEnd> {
    match checks.join_next().await {
        Some(ended) => ended.ok(),
        None => std::future::pending().await,
    }
}

fn worked_since(traffic: &Traffic, server: &Arc<str>, began: Moment) -> bool {
    traffic.last_success(server).is_some_and(|success| success >= began)
}

fn has_moved(before: Option<Option<u64>>, after: Option<Option<u64>>) -> bool {
    matches!((before, after), (Some(Some(before)), Some(Some(after))) if before != after)
}

/// Returns whether a model is loaded that was not.
fn has_new(before: &[LoadedModel], after: &[LoadedModel]) -> bool {
    after.iter().any(|model| before.iter().all(|other| other.name != model.name))
}
