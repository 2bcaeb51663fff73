//! The passive breaker of one server: what real requests met there takes it out of the first choice, and brings it back.
//!
//! A server that fails at once has nothing on its way, so it would attract every request. Five failures in a row, or ten
//! among the last twenty, trip the breaker: requests go there only where nothing else has the model. After the cooldown one
//! request at a time tries it, where it is that server's turn: a success closes the breaker, a failure trips it again for
//! twice as long.
//!
//! A server that says it is full (503, 429) is passed over in the same way, from its first such answer and for a quarter of
//! a second, doubling while it says nothing else. That is no failure: a fleet whose queues are full answers so all day.
//!
//! A server passed over is the last choice and not out of service, because clients can make a server answer 500: were it
//! out, one caller's broken requests could close a whole pool to all others. Taking a server out is for the probes, which
//! no client can move.
//!
//! Pure: the moment is handed in.

/// Failures in a row that trip it.
const IN_A_ROW: u32 = 5;

/// Outcomes remembered, and how many failures among them trip it: a server on which one model is broken still succeeds with
/// others. As many successes in a row make it forget earlier trips.
const REMEMBERED: u32 = 20;
const AMONG: u32 = 10;

/// First cooldown, in nanoseconds; each further trip doubles it.
const COOLDOWN_NS: u64 = 5_000_000_000;

/// Longest cooldown, in nanoseconds.
const COOLDOWN_MAX_NS: u64 = 120_000_000_000;

/// How long a full server is passed over, in nanoseconds; each further such answer doubles it.
const FULL_NS: u64 = 250_000_000;

/// Longest time a full server is passed over, in nanoseconds.
const FULL_MAX_NS: u64 = 10_000_000_000;

/// So many answers in a row that it is full, over most of a minute, and it is no longer taken for a busy server.
const FULL_IN_A_ROW: u32 = 10;

/// Whether requests may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// As any.
    #[default]
    Closed,
    /// Not while another server has the model.
    Cooldown {
        /// When it ends, on the monotonic clock.
        until_ns: u64,
    },
    /// One request at a time.
    Trial,
}

/// Counts outcomes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breaker {
    phase: Phase,
    failures_in_a_row: u32,
    successes_in_a_row: u32,
    /// Answers in a row that it is full.
    full_in_a_row: u32,
    /// The last outcomes, newest in the lowest bit, 1 for a failure.
    recent: u32,
    /// Trips without a spell of success between them.
    trips: u32,
}

impl Breaker {
    /// Notes a request that succeeded there.
    pub fn succeeded(&mut self) {
        (self.failures_in_a_row, self.full_in_a_row) = (0, 0);
        self.successes_in_a_row = self.successes_in_a_row.saturating_add(1);
        self.remember(false);
        match self.phase {
            Phase::Closed => {}
            // Sent before it tripped: it works, though perhaps not for everybody.
            Phase::Cooldown { .. } => self.phase = Phase::Trial,
            Phase::Trial => {
                self.phase = Phase::Closed;
                self.recent = 0;
            }
        }
        if self.phase == Phase::Closed && self.successes_in_a_row >= REMEMBERED {
            self.trips = 0;
        }
    }

    /// Notes a request that failed there.
    pub fn failed(&mut self, now_ns: u64) {
        (self.successes_in_a_row, self.full_in_a_row) = (0, 0);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.remember(true);
        let trips = match self.phase {
            Phase::Closed => self.failures_in_a_row >= IN_A_ROW || self.recent.count_ones() >= AMONG,
            // Those that were on their way when it tripped say nothing new.
            Phase::Cooldown { .. } => false,
            Phase::Trial => true,
        };
        if trips {
            let pause_ns = COOLDOWN_NS.saturating_mul(1 << self.trips.min(16)).min(COOLDOWN_MAX_NS);
            self.phase = Phase::Cooldown { until_ns: now_ns.saturating_add(pause_ns) };
            self.trips = self.trips.saturating_add(1);
        }
    }

    /// Notes a request that was told that the server is full.
    pub fn full(&mut self, now_ns: u64) {
        self.successes_in_a_row = 0;
        // Several at once are one answer.
        if matches!(self.phase, Phase::Cooldown { .. }) {
            return;
        }
        let pause_ns = FULL_NS.saturating_mul(1 << self.full_in_a_row.min(16)).min(FULL_MAX_NS);
        self.full_in_a_row = self.full_in_a_row.saturating_add(1);
        self.phase = Phase::Cooldown { until_ns: now_ns.saturating_add(pause_ns) };
    }

    /// Ends a cooldown that is over.
    pub fn tick(&mut self, now_ns: u64) {
        if let Phase::Cooldown { until_ns } = self.phase
            && now_ns >= until_ns
        {
            self.phase = Phase::Trial;
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether what it stands at is owed to a full server, and not to one that fails.
    pub fn is_only_full(&self) -> bool {
        (1..FULL_IN_A_ROW).contains(&self.full_in_a_row)
    }

    /// Failures in a row.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Whether a success would change anything here: where nothing failed lately, nobody needs to tell of one.
    pub fn is_troubled(&self) -> bool {
        self.recent != 0 || self.trips != 0 || self.full_in_a_row != 0 || self.phase != Phase::Closed
    }

    fn remember(&mut self, failure: bool) {
        self.recent = (self.recent << 1 | u32::from(failure)) & ((1 << REMEMBERED) - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s`, `f`, `b`: a success, a failure, told that it is full; a digit: that many seconds pass, `.`: a quarter. The expectation is the phase after each:
    /// closed `+`, cooldown `-`, trial `?`.
    fn check(script: &str, phases: &str) {
        let mut breaker = Breaker::default();
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
                    Phase::Closed => '+',
                    Phase::Cooldown { .. } => '-',
                    Phase::Trial => '?',
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
        let mut breaker = Breaker::default();
        let mut now_ns = 0;
        for answer in 1..=FULL_IN_A_ROW {
            breaker.full(now_ns);
            assert_eq!(breaker.is_only_full(), answer < FULL_IN_A_ROW, "{answer}");
            let Phase::Cooldown { until_ns } = breaker.phase() else { panic!("{breaker:?}") };
            assert!(until_ns - now_ns <= FULL_MAX_NS);
            now_ns = until_ns;
            breaker.tick(now_ns);
        }
        assert!(now_ns > 40_000_000_000, "{now_ns}");
        breaker.succeeded();
        assert_eq!((breaker.phase(), breaker.is_troubled()), (Phase::Closed, false));
    }

    #[test]
    fn the_cooldown_is_bounded() {
        let mut breaker = Breaker::default();
        let mut now_ns = 0;
        (0..5).for_each(|_| breaker.failed(0));
        for _ in 0..100 {
            let Phase::Cooldown { until_ns } = breaker.phase() else { panic!("{breaker:?}") };
            assert!(until_ns - now_ns <= COOLDOWN_MAX_NS);
            now_ns = until_ns;
            breaker.tick(now_ns);
            breaker.failed(now_ns);
        }
    }
}
