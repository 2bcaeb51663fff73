//! The passive breaker of one server: the outcomes of real requests there take it out of the first choice, and bring it
//! back.
//!
//! A server that fails at once has no requests in flight, so it would attract every request. Five failures in a row, or
//! ten among the last twenty, trip the breaker: requests then go there only if nothing else has the model. After the
//! cooldown one request at a time tries the server, when its turn comes: a success closes the breaker, a failure trips
//! it again for twice as long.
//!
//! A server that says it is full (503, 429) is passed over in the same way, from the first such answer on and for a
//! quarter of a second, which doubles as long as it says nothing else. That is no failure: a fleet whose queues are
//! full answers so all day.
//!
//! A server that is passed over is the last choice but not out of service, because clients can make a server answer
//! 500: if it were out, one caller's broken requests could close a whole pool to all others. Only the probes, which no
//! client can influence, take a server out.
//!
//! Pure: the caller supplies the moment.

/// Failures in a row that trip the breaker.
const IN_A_ROW: u32 = 5;

/// Number of outcomes that are remembered, and how many failures among them trip the breaker: a server on which one
/// model is broken still succeeds with others. As many successes in a row make the breaker forget earlier trips.
const REMEMBERED: u32 = 20;
const AMONG: u32 = 10;

/// First cooldown, in nanoseconds; each further trip doubles it.
const COOLDOWN_NS: u64 = 5_000_000_000;

/// Longest cooldown, in nanoseconds.
const COOLDOWN_MAX_NS: u64 = 120_000_000_000;

/// Time for which a full server is passed over, in nanoseconds; each further such answer doubles it.
const FULL_NS: u64 = 250_000_000;

/// Longest time for which a full server is passed over, in nanoseconds.
const FULL_MAX_NS: u64 = 10_000_000_000;

/// Number of answers in a row, over most of a minute, that a server is full, after which it no longer counts as a busy
/// server.
const FULL_IN_A_ROW: u32 = 10;

/// Whether requests may go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerPhase {
    /// Requests go to the server as to any other.
    #[default]
    Closed,
    /// Requests go to the server only if no other has the model.
    Cooldown {
        /// The end of the cooldown, in nanoseconds on the monotonic clock.
        until_ns: u64,
    },
    /// One request at a time goes to the server.
    Trial,
}

/// A breaker: counts the outcomes of requests at one server.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerBreaker {
    phase: BreakerPhase,
    failures_in_a_row: u32,
    successes_in_a_row: u32,
    /// Number of answers in a row that the server is full.
    full_in_a_row: u32,
    /// The last outcomes, the newest in the lowest bit, 1 for a failure.
    recent: u32,
    /// Number of trips without a long enough run of successes between them.
    trips: u32,
}

impl ServerBreaker {
    /// Records a request that succeeded at the server.
    pub fn succeeded(&mut self) {
        (self.failures_in_a_row, self.full_in_a_row) = (0, 0);
        self.successes_in_a_row = self.successes_in_a_row.saturating_add(1);
        self.remember(false);
        match self.phase {
            BreakerPhase::Closed => {}
            // The request was sent before the breaker tripped: the server works, though perhaps not for everybody.
            BreakerPhase::Cooldown { .. } => self.phase = BreakerPhase::Trial,
            BreakerPhase::Trial => {
                self.phase = BreakerPhase::Closed;
                self.recent = 0;
            }
        }
        if self.phase == BreakerPhase::Closed && self.successes_in_a_row >= REMEMBERED {
            self.trips = 0;
        }
    }

    /// Records a request that failed at the server.
    pub fn failed(&mut self, now_ns: u64) {
        (self.successes_in_a_row, self.full_in_a_row) = (0, 0);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.remember(true);
        let trips = match self.phase {
            BreakerPhase::Closed => self.failures_in_a_row >= IN_A_ROW || self.recent.count_ones() >= AMONG,
            // Requests that were in flight when the breaker tripped prove nothing new.
            BreakerPhase::Cooldown { .. } => false,
            BreakerPhase::Trial => true,
        };
        if trips {
            let pause_ns = COOLDOWN_NS.saturating_mul(1 << self.trips.min(16)).min(COOLDOWN_MAX_NS);
            self.phase = BreakerPhase::Cooldown { until_ns: now_ns.saturating_add(pause_ns) };
            self.trips = self.trips.saturating_add(1);
        }
    }

    /// Records a request to which the server said that it is full.
    pub fn full(&mut self, now_ns: u64) {
        self.successes_in_a_row = 0;
        // Several such answers at once count as one.
        if matches!(self.phase, BreakerPhase::Cooldown { .. }) {
            return;
        }
        let pause_ns = FULL_NS.saturating_mul(1 << self.full_in_a_row.min(16)).min(FULL_MAX_NS);
        self.full_in_a_row = self.full_in_a_row.saturating_add(1);
        self.phase = BreakerPhase::Cooldown { until_ns: now_ns.saturating_add(pause_ns) };
    }

    /// Ends a cooldown that is over.
    pub fn tick(&mut self, now_ns: u64) {
        if let BreakerPhase::Cooldown { until_ns } = self.phase
            && now_ns >= until_ns
        {
            self.phase = BreakerPhase::Trial;
        }
    }

    /// Returns the phase of the breaker.
    pub fn phase(&self) -> BreakerPhase {
        self.phase
    }

    /// Returns whether the phase is that of a full server, and not of one that fails.
    pub fn is_only_full(&self) -> bool {
        (1..FULL_IN_A_ROW).contains(&self.full_in_a_row)
    }

    /// Returns the number of failures in a row.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Returns whether a success would change anything here: as long as nothing failed lately, nobody needs to report
    /// one.
    pub fn is_troubled(&self) -> bool {
        self.recent != 0 || self.trips != 0 || self.full_in_a_row != 0 || self.phase != BreakerPhase::Closed
    }

    fn remember(&mut self, failure: bool) {
        self.recent = (self.recent << 1 | u32::from(failure)) & ((1 << REMEMBERED) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the phase after each event. `s`, `f`, `b`: a success, a failure, an answer that the server is full; a
    /// digit: that many seconds pass, `.`: a quarter of a second. Phases: closed `+`, cooldown `-`, trial `?`.
    fn check(script: &str, phases: &str) {
        let mut breaker = ServerBreaker::default();
        let mut now_ns = 0;
        let seen: String = script
            .chars()
            .map(|step| {
                match step {
                    's' => breaker.succeeded(),
                    'f' => breaker.failed(now_ns),
                    'b' => breaker.full(now_ns),
                    '.' => now_ns += 250_000_000,
                    digit => now_ns += u64::from(digit.to_digit(10).unwrap()) * 1_000_000_000,
                }
                breaker.tick(now_ns);
                match breaker.phase() {
                    BreakerPhase::Closed => '+',
                    BreakerPhase::Cooldown { .. } => '-',
                    BreakerPhase::Trial => '?',
                }
            })
            .collect();
        assert_eq!(seen, phases, "{script}");
    }

    #[test]
    fn five_failures_in_a_row_trip_it_and_four_do_not() {
        check("fffff", "++++-");
        check("ffffsffff", "+++++++++");
    }

    #[test]
    fn ten_failures_among_twenty_trip_it() {
        check("fsfsfsfsfsfsfsfsfsf", "++++++++++++++++++-");
        check("fssfssfssfssfssfssfssfssfss", "+++++++++++++++++++++++++++");
    }

    #[test]
    fn after_the_cooldown_one_request_decides() {
        check("fffff41s", "++++--?+");
        check("fffff5f9s", "++++-?--?");
        check("fffff5f91s", "++++-?--?+");
    }

    #[test]
    fn each_trip_doubles_the_cooldown_and_a_spell_of_success_forgets_them() {
        check("fffff5f91f992", "++++-?--?---?");
        let spell = |n: usize| ("s".repeat(n), "+".repeat(n));
        let (long, closed) = spell(20);
        check(&format!("fffff5{long}fffff5"), &format!("++++-?{closed}++++-?"));
        let (short, closed) = spell(19);
        check(&format!("fffff5{short}fffff55"), &format!("++++-?{closed}++++--?"));
    }

    #[test]
    fn a_request_from_before_the_trip_that_succeeds_shortens_the_cooldown_and_one_that_fails_changes_nothing() {
        check("ffffffff41", "++++-----?");
        check("fffffs", "++++-?");
    }

    #[test]
    fn a_full_server_is_passed_over_for_a_moment_and_longer_while_it_says_nothing_else() {
        check("b.s", "-?+");
        check("bbbb.b..s", "----?--?+");
        check("b.b..b1b2s", "-?--?-?-?+");
        check("ffffb.fs", "++++-?-?");
    }

    #[test]
    fn one_that_is_full_for_most_of_a_minute_is_no_longer_only_busy() {
        let mut breaker = ServerBreaker::default();
        let mut now_ns = 0;
        for answer in 1..=FULL_IN_A_ROW {
            breaker.full(now_ns);
            assert_eq!(breaker.is_only_full(), answer < FULL_IN_A_ROW, "{answer}");
            let BreakerPhase::Cooldown { until_ns } = breaker.phase() else { panic!("{breaker:?}") };
            assert!(until_ns - now_ns <= FULL_MAX_NS);
            now_ns = until_ns;
            breaker.tick(now_ns);
        }
        assert!(now_ns > 40_000_000_000, "{now_ns}");
        breaker.succeeded();
        assert_eq!((breaker.phase(), breaker.is_troubled()), (BreakerPhase::Closed, false));
    }

    #[test]
    fn the_cooldown_is_bounded() {
        let mut breaker = ServerBreaker::default();
        let mut now_ns = 0;
        (0..5).for_each(|_| breaker.failed(0));
        for _ in 0..100 {
            let BreakerPhase::Cooldown { until_ns } = breaker.phase() else { panic!("{breaker:?}") };
            assert!(until_ns - now_ns <= COOLDOWN_MAX_NS);
            now_ns = until_ns;
            breaker.tick(now_ns);
            breaker.failed(now_ns);
        }
    }
}
