//! Asks every server in turn what it has, and publishes what is known of the fleet: the sole writer of it.
//!
//! Each server has two tasks that ask it and send reports: what it has (here), and whether it generates (`deep`). One owner
//! receives the reports, keeps each server's track, and publishes a new [`FleetView`] where something changed. So tracks need no
//! lock, and no view shows half a change.

mod check;
mod deep;
mod fetch;
mod json;
mod load;
mod measure;
mod ollama;
mod openai;
mod rotation;
mod schedule;

pub use fetch::Client;
pub use ollama::{parse_ps, parse_tags, parse_version};
pub use openai::parse_models;
pub use rotation::{Bounds, CheckRequest, Look, Pick, Rotation};
pub use schedule::Schedule;

use crate::decision::fleet::consistency::Disagreement;
use crate::decision::fleet::track::{Depth, ServerTrack, Transition};
use crate::decision::fleet::{Failure, FleetView, Inventory, Model, ServerState, ServerView};
use crate::decision::plan::server::{Server, ServerKind};
use crate::decision::request::name::ModelName;
use crate::gate::state::State;
use crate::mailbox::calibrations::Calibrations;
use crate::mailbox::traffic::{ServedReport, Traffic};
use crate::time::clock::Clock;
use deep::DeepProbe;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most reports that wait for the owner; a full queue makes the probes wait, which is all the back-pressure needed.
const REPORTS_MAX: usize = 256;

/// Entries that a parser found in one answer.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed<T> {
    /// The entries that could be read.
    pub entries: Vec<T>,
    /// Number of entries that could not be read, or exceeded the bound.
    pub skipped: usize,
}

/// Sources and sinks of the probes.
#[derive(Debug, Clone)]
pub struct Senses {
    /// Asks the servers.
    pub client: Client,
    /// The process's clock.
    pub clock: Clock,
    /// Outcomes of real requests.
    pub traffic: Traffic,
    /// Where deep checks leave what they measured.
    pub calibrations: Calibrations,
    /// Servers that an operator drains, by name.
    pub drained: watch::Receiver<BTreeSet<Arc<str>>>,
}

/// Probes until `stop`. After a new policy was published, send the schedule again (changed or not): the list of servers is
/// read anew then. A server whose name, URL, kind and configured models stayed keeps its track and its connection.
pub async fn run(state: Arc<State>, senses: Senses, mut schedule: watch::Receiver<Schedule>, stop: CancellationToken) {
    let (reports_in, mut reports) = mpsc::channel(REPORTS_MAX);
    let mut fleet = Fleet {
        tracked: BTreeMap::new(),
        senses,
        reports_in,
        generation: 0,
        disagreements: Vec::new(),
        stop: stop.clone(),
    };
    let mut now = schedule.borrow_and_update().clone();
    fleet.reconcile(&state, &now);
    let (mut reloadable, mut drainable) = (true, true);
    let traffic = fleet.senses.traffic.clone();
    let mut drained = fleet.senses.drained.clone();
    loop {
        let cooled = fleet.next_cooled();
        tokio::select! {
            () = stop.cancelled() => return,
            outcomes = traffic.outcomes() => {
                let changed = outcomes.into_iter().fold(false, |changed, outcome| fleet.take_outcome(outcome) | changed);
                if changed {
                    fleet.publish(&state);
                }
            }
            () = sleep(cooled.unwrap_or_default()), if cooled.is_some() => {
                if fleet.tick() {
                    fleet.publish(&state);
                }
            }
            changed = drained.changed(), if drainable => {
                drainable = changed.is_ok();
                if fleet.drain(&drained.borrow_and_update()) {
                    fleet.publish(&state);
                }
            }
            changed = schedule.changed(), if reloadable => {
                // Nobody can reload once the sender is gone; the probes go on as they are.
                reloadable = changed.is_ok();
                now = schedule.borrow_and_update().clone();
                fleet.reconcile(&state, &now);
            }
            Some(report) = reports.recv() => {
                if fleet.take(report, &now) {
                    fleet.publish(&state);
                }
            }
        }
    }
}

/// One probe's finding, from a task of one server.
struct Report {
    server: Arc<str>,
    /// The task that sent it: the last report of a task that was replaced must not count for its successor.
    generation: u64,
    finding: Finding,
}

/// What was found, and by which layer.
enum Finding {
    Reach(Result<Inventory, Failure>),
    Depth(Depth),
}

/// One server as it is probed.
struct Tracked {
    target: Target,
    track: ServerTrack,
    generation: u64,
    schedule: watch::Sender<Schedule>,
    /// Ends the task when this is dropped.
    _task: DropGuard,
}

/// What makes a server the same one over a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    name: Arc<str>,
    url: Arc<str>,
    kind: ServerKind,
    models: Vec<Arc<str>>,
}

impl Target {
    fn new(server: &Server) -> Target {
        let Server { name, url, kind, models, .. } = server;
        Target { name: name.clone(), url: url.clone(), kind: *kind, models: models.clone() }
    }
}

/// The owner of all tracks.
struct Fleet {
    tracked: BTreeMap<Arc<str>, Tracked>,
    senses: Senses,
    reports_in: mpsc::Sender<Report>,
    generation: u64,
    /// What was told last.
    disagreements: Vec<Disagreement>,
    stop: CancellationToken,
}

impl Fleet {
    /// Brings the tasks in line with the configured servers, and publishes where servers came or went.
    fn reconcile(&mut self, state: &State, schedule: &Schedule) {
        let view = state.view();
        let mut before = std::mem::take(&mut self.tracked);
        let mut changed = false;
        for server in &view.policy.servers {
            let target = Target::new(server);
            let tracked = match before.remove(&server.name) {
                Some(tracked) if tracked.target == target => {
                    tracked.schedule.send_replace(schedule.clone());
                    tracked
                }
                _ => {
                    changed = true;
                    self.start(target, schedule)
                }
            };
            self.tracked.insert(server.name.clone(), tracked);
        }
        changed |= !before.is_empty();
        drop(view);
        self.senses.traffic.retain(self.tracked.keys());
        if changed {
            self.publish(state);
        }
    }

    fn publish(&mut self, state: &State) {
        state.publish_fleet(Arc::new(self.view()));
        let found = state.view().roster.disagreements.clone();
        if found != self.disagreements {
            tell(&self.disagreements, &found);
            self.disagreements = found;
        }
    }

    fn start(&mut self, target: Target, schedule: &Schedule) -> Tracked {
        self.generation = self.generation.wrapping_add(1);
        let stop = self.stop.child_token();
        let (sender, receiver) = watch::channel(schedule.clone());
        let probe = Probe {
            target: target.clone(),
            generation: self.generation,
            client: self.senses.client.clone(),
            schedule: receiver.clone(),
            reports: self.reports_in.clone(),
        };
        let deep = DeepProbe {
            target: target.clone(),
            generation: self.generation,
            client: self.senses.client.clone(),
            clock: self.senses.clock.clone(),
            traffic: self.senses.traffic.clone(),
            calibrations: self.senses.calibrations.clone(),
            schedule: receiver,
            reports: self.reports_in.clone(),
        };
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                _ = async { tokio::join!(probe.run(), deep.run()) } => {}
            }
        });
        let mut track = ServerTrack::default();
        track.set_draining(self.senses.drained.borrow().contains(&target.name));
        Tracked { target, track, generation: self.generation, schedule: sender, _task: stop.drop_guard() }
    }

    /// Applies a report. Returns whether readers would see a difference.
    fn take(&mut self, report: Report, schedule: &Schedule) -> bool {
        if self.tracked.get(&report.server).is_none_or(|tracked| tracked.generation != report.generation) {
            return false;
        }
        let Schedule { rise, fall, .. } = *schedule;
        self.change(&report.server, |track| match report.finding {
            Finding::Reach(outcome) => track.report(outcome, rise, fall),
            Finding::Depth(depth) => track.report_depth(depth, rise, fall),
        })
    }

    /// Applies the outcome of a real request. Returns whether readers would see a difference.
    fn take_outcome(&mut self, ServedReport { server, served }: ServedReport) -> bool {
        let now_ns = self.senses.clock.now().mono_ns;
        let changed = self.change(&server, |track| track.report_served(served, now_ns));
        let troubled = self.tracked.get(&server).is_some_and(|tracked| tracked.track.is_troubled());
        self.senses.traffic.set_troubled(&server, troubled);
        changed
    }

    /// Returns the time until the first cooldown ends.
    fn next_cooled(&self) -> Option<Duration> {
        let until_ns = self.tracked.values().filter_map(|tracked| tracked.track.cooldown_until_ns()).min()?;
        Some(Duration::from_nanos(until_ns.saturating_sub(self.senses.clock.now().mono_ns)))
    }

    /// Ends the cooldowns that are over. Returns whether readers would see a difference.
    fn tick(&mut self) -> bool {
        let now_ns = self.senses.clock.now().mono_ns;
        let names: Vec<_> = self.tracked.keys().cloned().collect();
        names.iter().fold(false, |changed, name| self.change(name, |track| track.tick(now_ns)) | changed)
    }

    /// Drains these servers and no others. Returns whether readers would see a difference.
    fn drain(&mut self, drained: &BTreeSet<Arc<str>>) -> bool {
        let names: Vec<_> = self.tracked.keys().cloned().collect();
        names.iter().fold(false, |changed, name| {
            self.change(name, |track| track.set_draining(drained.contains(name))) | changed
        })
    }

    /// Changes one server's track and logs the transition. Returns whether readers would see a difference.
    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(&mut ServerTrack) -> Option<Transition>) -> bool {
        let Some(tracked) = self.tracked.get_mut(name) else { return false };
        let before = tracked.track.view();
        let transition = change(&mut tracked.track);
        let after = tracked.track.view();
        if let Some(transition) = transition {
            log(name, transition, &after);
        }
        !same(&before, &after)
    }

    fn view(&self) -> FleetView {
        let servers = self.tracked.iter().map(|(name, tracked)| (name.clone(), tracked.track.view())).collect();
        FleetView { servers }
    }
}

fn same(a: &ServerView, b: &ServerView) -> bool {
    a.state == b.state
        && a.preference == b.preference
        && Arc::ptr_eq(&a.inventory, &b.inventory)
        && a.failure == b.failure
}

fn log(server: &str, Transition { from, to }: Transition, seen: &ServerView) {
    let between = [from, to].map(|state| matches!(state, ServerState::Up | ServerState::Busy));
    let (from, state) = (from.as_str(), to.as_str());
    match (&seen.failure, to) {
        // Under load it may happen several times a second, and nobody has to act.
        (_, _) if between == [true, true] => tracing::debug!(server, from, state, "server changed state"),
        (Some(failure), ServerState::Down | ServerState::Degraded | ServerState::Cooldown | ServerState::Unknown) => {
            tracing::warn!(
                server,
                from,
                state,
                failure = failure.kind,
                detail = &*failure.detail,
                "server changed state"
            );
        }
        (_, ServerState::Up) => {
            let Inventory { models, loaded, version, .. } = &*seen.inventory;
            let version = version.as_deref();
            tracing::info!(
                server,
                from,
                state,
                models = models.len(),
                loaded = loaded.len(),
                version,
                "server changed state"
            );
        }
        (_, ServerState::Busy | ServerState::Trial | ServerState::Draining) => {
            tracing::info!(server, from, state, "server changed state");
        }
        (None, _) => tracing::warn!(server, from, state, "server changed state"),
    }
}

/// Logs which models newly differ in content between servers, and which no longer do.
fn tell(before: &[Disagreement], found: &[Disagreement]) {
    for Disagreement { model, digests, expected, odd } in found.iter().filter(|found| !before.contains(found)) {
        let model = model.as_str();
        let Some(expected) = expected else {
            let digests =
                digests.iter().map(|(name, digest)| format!("{name} {digest}")).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                model,
                digests,
                "servers have different content under this name; nothing says which is right"
            );
            continue;
        };
        for (server, digest) in digests.iter().filter(|(name, _)| odd.contains(name)) {
            tracing::warn!(server = &**server, model, digest = &**digest, expected = &**expected, "model quarantined");
        }
    }
    for settled in before.iter().filter(|before| found.iter().all(|found| found.model != before.model)) {
        tracing::info!(model = settled.model.as_str(), "servers have the same content under this name again");
    }
}

/// The task that asks one server what it has.
struct Probe {
    target: Target,
    generation: u64,
    client: Client,
    schedule: watch::Receiver<Schedule>,
    reports: mpsc::Sender<Report>,
}

impl Probe {
    async fn run(mut self) {
        let mut skipped_before = 0;
        let mut has = openai::Has::default();
        loop {
            let timeout = self.schedule.borrow().timeout();
            let outcome = match tokio::time::timeout(timeout, self.ask(&mut has)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(fetch::failure("timeout", format!("no complete answer within {timeout:?}"))),
            };
            let failing = outcome.is_err();
            if failing {
                // What comes back may be another program.
                has = openai::Has::default();
            }
            let outcome = outcome.map(|(inventory, skipped)| {
                // Told when the number changes, not with every probe.
                if skipped != skipped_before {
                    tracing::warn!(server = &*self.target.name, skipped, "entries of the model list could not be read");
                    skipped_before = skipped;
                }
                inventory
            });
            let (server, generation) = (self.target.name.clone(), self.generation);
            let report = Report { server, generation, finding: Finding::Reach(outcome) };
            if self.reports.send(report).await.is_err() {
                return;
            }
            let pause = self.schedule.borrow_and_update().pause(failing, rand::random());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A reload may have shortened the interval; asking once more is cheaper than working out what is left.
                changed = self.schedule.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Returns what the server has, and how many entries of its lists were skipped.
    async fn ask(&self, has: &mut openai::Has) -> Result<(Inventory, usize), Failure> {
        let Target { url, kind, models, .. } = &self.target;
        if !models.is_empty() {
            let path = match kind {
                ServerKind::Ollama => ollama::TAGS,
                ServerKind::OpenAi => openai::MODELS,
            };
            self.client.alive(url, path).await?;
            return Ok((configured(models), 0));
        }
        match kind {
            ServerKind::Ollama => ollama::ask(&self.client, url).await,
            ServerKind::OpenAi => openai::ask(&self.client, url, has).await,
        }
    }
}

/// Returns the inventory of a server that cannot be asked.
fn configured(models: &[Arc<str>]) -> Inventory {
    let models = models
        .iter()
        .map(|name| Model {
            name: ModelName::canonical(name),
            listed: (&**name).into(),
            digest: "".into(),
            size: 0,
            modified_at: "".into(),
            created: 0,
            owned_by: "library".into(),
            details: "".into(),
            capabilities: "".into(),
            remote: false,
        })
        .collect();
    Inventory { models, ..Inventory::default() }
}
