//! Turns probe reports into the state of each server, with hysteresis, and keeps what is known of its models.
//!
//! Two layers decide. The **inventory** layer (TCP, HTTP, model lists) proves that a server answers; the **deep** layer
//! proves that it generates. A server serves as long as neither says that it is down: without a deep check (nothing
//! loaded, nothing in use) the inventory decides alone.

use super::breaker::{BreakerPhase, ServerBreaker};
use super::{Failure, Inventory, Preference, ServerState, ServerView, ServiceResult};
use std::sync::Arc;

/// A change of state, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: ServerState,
    /// The state after.
    pub to: ServerState,
}

/// The outcome of a deep check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// The server generates: a check got its token, or real traffic succeeded.
    Generates,
    /// The server is full and works.
    Busy,
    /// Nothing is loaded that could be asked: the inventory decides.
    Nothing,
    /// The check failed.
    Failed(Failure),
}

/// The state of the deep layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeepStanding {
    /// The server was proven to generate, or was never asked.
    Well,
    Busy,
    /// Checks failed, fewer than `fall` times in a row.
    Failing,
    /// Checks failed `fall` times in a row, and have not succeeded `rise` times since.
    Dead,
}

/// The memory behind a [`ServerView`]: counts successes and failures in a row, for each layer.
#[derive(Debug, Clone)]
pub struct ServerTrack {
    /// The state according to the inventory layer: unknown, up or down.
    reach: ServerState,
    successes: u32,
    failures: u32,
    inventory: Arc<Inventory>,
    failure: Option<Arc<Failure>>,
    deep: DeepTrack,
    breaker: ServerBreaker,
    /// The failure that tripped the breaker.
    refused: Option<Arc<Failure>>,
    draining: bool,
}

#[derive(Debug, Clone)]
struct DeepTrack {
    standing: DeepStanding,
    successes: u32,
    failures: u32,
    failure: Option<Arc<Failure>>,
}

impl Default for ServerTrack {
    fn default() -> ServerTrack {
        ServerTrack {
            reach: ServerState::Unknown,
            successes: 0,
            failures: 0,
            inventory: Arc::default(),
            failure: None,
            deep: DeepTrack { standing: DeepStanding::Well, successes: 0, failures: 0, failure: None },
            breaker: ServerBreaker::default(),
            refused: None,
            draining: false,
        }
    }
}

impl ServerTrack {
    /// Records one probe's outcome. The server is up after `rise` successes in a row, and down after `fall` failures in
    /// a row. From `Unknown` the first success is enough, because a fleet that waits `rise` intervals after every start
    /// refuses requests for no reason. Returns the change of state, if there is one.
    pub fn report(&mut self, outcome: Result<Inventory, Failure>, rise: u32, fall: u32) -> Option<Transition> {
        let from = self.state();
        match outcome {
            Ok(inventory) => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
                if *self.inventory != inventory {
                    self.inventory = Arc::new(inventory);
                }
                if self.reach == ServerState::Unknown || self.successes >= rise {
                    self.reach = ServerState::Up;
                }
                // A server that is still down has a reason for it.
                if self.reach == ServerState::Up {
                    self.failure = None;
                }
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.failure = Some(Arc::new(failure));
                if self.failures >= fall {
                    self.reach = ServerState::Down;
                }
            }
        }
        self.transition(from)
    }

    /// Records one deep check's outcome. A first failure makes the server degraded, `fall` in a row take it down,
    /// `rise` successes in a row bring it back. A busy answer ends a run of failures, because a dead server gives none,
    /// but it is no success, because nothing was generated: it does not bring a server back. Returns the change of
    /// state, if there is one.
    pub fn report_depth(&mut self, depth: Depth, rise: u32, fall: u32) -> Option<Transition> {
        let from = self.state();
        let deep = &mut self.deep;
        match depth {
            Depth::Generates | Depth::Nothing => {
                deep.successes = deep.successes.saturating_add(1);
                deep.failures = 0;
                if deep.standing != DeepStanding::Dead || deep.successes >= rise {
                    deep.standing = DeepStanding::Well;
                    deep.failure = None;
                }
            }
            Depth::Busy => {
                deep.failures = 0;
                if deep.standing != DeepStanding::Dead {
                    deep.standing = DeepStanding::Busy;
                    deep.failure = None;
                }
            }
            Depth::Failed(failure) => {
                deep.failures = deep.failures.saturating_add(1);
                deep.successes = 0;
                deep.failure = Some(Arc::new(failure));
                if deep.failures >= fall {
                    deep.standing = DeepStanding::Dead;
                } else if deep.standing != DeepStanding::Dead {
                    deep.standing = DeepStanding::Failing;
                }
            }
        }
        self.transition(from)
    }

    /// Records the outcome of a real request. See [`ServerBreaker`]. Returns the change of state, if there is one.
    pub fn report_served(&mut self, served: ServiceResult, now_ns: u64) -> Option<Transition> {
        let from = self.state();
        match served {
            ServiceResult::Well => self.breaker.succeeded(),
            ServiceResult::Full => {
                self.breaker.full(now_ns);
                self.refused = Some(Arc::new(Failure { kind: "traffic", detail: "it says that it is full".into() }));
            }
            ServiceResult::Badly(seen) => {
                let before = self.breaker.phase();
                self.breaker.failed(now_ns);
                if self.breaker.phase() != before {
                    let count = self.breaker.failures_in_a_row();
                    let detail = format!("{count} real requests in a row failed, the last by: {seen}");
                    self.refused = Some(Arc::new(Failure { kind: "traffic", detail: detail.into() }));
                }
            }
        }
        self.transition(from)
    }

    /// Returns whether successes of real requests would change anything.
    pub fn is_troubled(&self) -> bool {
        self.breaker.is_troubled()
    }

    /// Returns the end of the cooldown, in nanoseconds on the monotonic clock.
    pub fn cooldown_until_ns(&self) -> Option<u64> {
        match self.breaker.phase() {
            BreakerPhase::Cooldown { until_ns } => Some(until_ns),
            BreakerPhase::Closed | BreakerPhase::Trial => None,
        }
    }

    /// Ends a cooldown that is over. Returns the change of state, if there is one.
    pub fn tick(&mut self, now_ns: u64) -> Option<Transition> {
        let from = self.state();
        self.breaker.tick(now_ns);
        self.transition(from)
    }

    /// Starts or ends draining, as an operator asked. Returns the change of state, if there is one.
    pub fn set_draining(&mut self, draining: bool) -> Option<Transition> {
        let from = self.state();
        self.draining = draining;
        self.transition(from)
    }

    fn state(&self) -> ServerState {
        match (self.reach, self.deep.standing) {
            (ServerState::Up, DeepStanding::Dead) => ServerState::Down,
            (ServerState::Up, _) if self.draining => ServerState::Draining,
            (ServerState::Up, _) if self.breaker.phase() != BreakerPhase::Closed && !self.breaker.is_only_full() => {
                if self.breaker.phase() == BreakerPhase::Trial {
                    ServerState::Trial
                } else {
                    ServerState::Cooldown
                }
            }
            (ServerState::Up, DeepStanding::Failing) => ServerState::Degraded,
            (ServerState::Up, DeepStanding::Busy) => ServerState::Busy,
            (ServerState::Up, DeepStanding::Well) if self.inventory.full || self.breaker.is_only_full() => {
                ServerState::Busy
            }
            (reach, _) => reach,
        }
    }

    fn transition(&self, from: ServerState) -> Option<Transition> {
        let to = self.state();
        (from != to).then_some(Transition { from, to })
    }

    /// Returns the server as readers see it.
    pub fn view(&self) -> ServerView {
        let tripped = self
            .refused
            .as_ref()
            .filter(|_| self.breaker.phase() != BreakerPhase::Closed && !self.breaker.is_only_full());
        let failure = self.failure.as_ref().or(self.deep.failure.as_ref()).or(tripped);
        let preference = match self.breaker.phase() {
            BreakerPhase::Closed => Preference::Sound,
            BreakerPhase::Cooldown { .. } => Preference::Last,
            BreakerPhase::Trial => Preference::OneAtATime,
        };
        ServerView { state: self.state(), preference, inventory: self.inventory.clone(), failure: failure.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the state after each report, by its first letter. `s` is a success, `f` a failure.
    fn check(rise: u32, fall: u32, reports: &str, states: &str) {
        let mut track = ServerTrack::default();
        let mut seen = String::new();
        for report in reports.chars() {
            let outcome = match report {
                's' => Ok(Inventory::default()),
                _ => Err(Failure { kind: "connect", detail: "refused".into() }),
            };
            track.report(outcome, rise, fall);
            seen.push_str(&track.view().state.as_str()[..1]);
        }
        assert_eq!(seen, states, "rise {rise}, fall {fall}, reports {reports}");
    }

    #[test]
    fn states_change_with_hysteresis() {
        check(2, 3, "s", "u"); // `u` for both unknown and up: told apart below
        check(2, 3, "fff", "uud");
        check(2, 3, "sffsfff", "uuuuuud");
        check(2, 3, "fffsfss", "uuddddu");
        check(1, 1, "sfsf", "udud");
    }

    #[test]
    fn the_first_success_after_start_is_enough_and_the_first_failure_is_not() {
        let mut track = ServerTrack::default();
        assert_eq!(track.report(Err(Failure { kind: "connect", detail: "".into() }), 2, 3), None);
        assert_eq!(track.view().state, ServerState::Unknown);
        let up = track.report(Ok(Inventory::default()), 2, 3);
        assert_eq!(up, Some(Transition { from: ServerState::Unknown, to: ServerState::Up }));
    }

    /// Checks the state after each report. `s`, `f`: the inventory's success and failure, `x`: a success that says the
    /// server is full; `G`, `B`, `N`, `F`: a deep check that generates, is told busy, finds nothing, fails. The state
    /// up is `+`.
    fn check_deep(rise: u32, fall: u32, reports: &str, states: &str) {
        let mut track = ServerTrack::default();
        let mut seen = String::new();
        for report in reports.chars() {
            let failure = |kind| Failure { kind, detail: "".into() };
            let before = track.view().state;
            let transition = match report {
                's' => track.report(Ok(Inventory::default()), rise, fall),
                'x' => track.report(Ok(Inventory { full: true, ..Inventory::default() }), rise, fall),
                'f' => track.report(Err(failure("connect")), rise, fall),
                'G' => track.report_depth(Depth::Generates, rise, fall),
                'B' => track.report_depth(Depth::Busy, rise, fall),
                '1' => track.report_served(ServiceResult::Well, 0),
                '0' => track.report_served(ServiceResult::Badly("status"), 0),
                '!' => track.report_served(ServiceResult::Full, 0),
                '5' => track.tick(5_000_000_000),
                'D' => track.set_draining(true),
                'U' => track.set_draining(false),
                'N' => track.report_depth(Depth::Nothing, rise, fall),
                _ => track.report_depth(Depth::Failed(failure("generation")), rise, fall),
            };
            let after = track.view();
            assert_eq!(transition.is_some(), before != after.state, "{reports}");
            let troubled = matches!(after.state, ServerState::Down | ServerState::Degraded | ServerState::Cooldown);
            assert!(!troubled || after.failure.is_some(), "{reports}: {after:?} without a reason");
            seen.push(match after.state {
                ServerState::Unknown => '?',
                ServerState::Up => '+',
                ServerState::Busy => 'b',
                ServerState::Degraded => 'd',
                ServerState::Cooldown => 'c',
                ServerState::Trial => 't',
                ServerState::Draining => 'o',
                ServerState::Down => '-',
            });
        }
        assert_eq!(seen, states, "rise {rise}, fall {fall}, reports {reports}");
    }

    #[test]
    fn a_server_that_cannot_generate_is_degraded_first_and_then_down() {
        check_deep(2, 3, "sFFF", "+dd-");
        check_deep(2, 3, "sFFFGG", "+dd--+");
        check_deep(2, 3, "sFFFGFGG", "+dd----+"); // `rise` in a row
        check_deep(2, 3, "sFGFFGFFF", "+d+dd+dd-");
        check_deep(1, 1, "sFG", "+-+");
        check_deep(2, 3, "sFFFNN", "+dd--+"); // what failed was unloaded: the inventory decides
        check_deep(2, 3, "sFFFsss", "+dd----"); // a healthy `/` proves nothing
    }

    #[test]
    fn a_busy_server_is_not_a_dead_one_and_not_a_proven_one() {
        check_deep(2, 3, "sBBBBBBBG", "+bbbbbbb+");
        check_deep(2, 3, "sFFBFFBFFB", "+ddbddbddb"); // no flapping to down
        check_deep(2, 3, "sFFFBBBBGG", "+dd------+");
        check_deep(2, 3, "sxxs", "+bb+");
        check_deep(2, 3, "s!!51", "+bbb+");
        check_deep(2, 3, "xF", "bd");
    }

    #[test]
    fn each_layer_can_take_a_server_down_alone() {
        check_deep(2, 3, "FFFs", "???-"); // known to be dead before it was known to answer
        check_deep(2, 3, "sFFFfffss", "+dd------");
        check_deep(2, 3, "sfffGGG", "+++----");
        check_deep(2, 3, "sffFfs", "+++d--");
    }

    #[test]
    fn real_requests_that_fail_make_a_server_the_last_choice_and_never_take_it_down() {
        check_deep(2, 3, "s00000", "+++++c");
        check_deep(2, 3, "s0000051", "+++++ct+");
        check_deep(2, 3, "s00000sG5G1", "+++++ccctt+");
        check_deep(2, 3, "s00000fffss", "+++++ccc--c");
    }

    #[test]
    fn a_drained_server_stays_so_whatever_it_does_and_down_is_still_down() {
        check_deep(2, 3, "sDGBFs", "+ooooo");
        check_deep(2, 3, "sDfff", "+ooo-");
        check_deep(2, 3, "sDfffssU", "+ooo--o+");
        check_deep(2, 3, "sD00000U", "+ooooooc");
    }

    #[test]
    fn only_what_takes_requests_is_live() {
        let live: Vec<_> =
            ServerState::ALL.into_iter().filter(|state| state.is_live()).map(ServerState::as_str).collect();
        assert_eq!(live, ["up", "busy", "degraded", "cooldown", "trial"]);
    }

    #[test]
    fn a_server_that_goes_down_keeps_its_last_inventory() {
        let mut track = ServerTrack::default();
        let inventory = Inventory { version: Some("0.30.1".into()), ..Inventory::default() };
        track.report(Ok(inventory.clone()), 1, 1);
        track.report(Err(Failure { kind: "timeout", detail: "".into() }), 1, 1);
        assert_eq!(track.view().state, ServerState::Down);
        assert_eq!(*track.view().inventory, inventory);
    }
}
