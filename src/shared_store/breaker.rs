//! When the store is no longer asked: after a few failures in a row nobody waits for it, until a task of its own has found
//! that it takes writes again. Pure; time is handed in.

/// Failures in a row that open it: a deadline each is what decisions may lose to a store that hangs.
pub const FAILURES: u32 = 3;

/// Successes in a row after which one failure no longer opens it again.
const SUCCESSES: u32 = 10;

/// First pause between two trials, in nanoseconds; each that fails doubles it.
const PAUSE_NS: u64 = 100_000_000;

/// Longest pause, in nanoseconds: how late a store that is back may be noticed.
const PAUSE_MAX_NS: u64 = 1_000_000_000;

/// Whether the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorePhase {
    /// Decisions ask it.
    Closed,
    /// Decisions do not ask it.
    Open,
    /// Decisions ask it, and the next failure opens the breaker.
    Trial,
}

/// Counts failures in a row, and says whether the store is asked.
#[derive(Debug, Clone, Copy)]
pub struct StoreBreaker {
    phase: StorePhase,
    in_a_row: u32,
    trials: u32,
    next_trial_ns: u64,
}

impl Default for StoreBreaker {
    /// Returns a breaker that is open and due for its first trial, because nothing is known of the store yet.
    fn default() -> StoreBreaker {
        StoreBreaker { phase: StorePhase::Open, in_a_row: 0, trials: 0, next_trial_ns: 0 }
    }
}

impl StoreBreaker {
    /// Returns whether the store is asked.
    pub fn phase(&self) -> StorePhase {
        self.phase
    }

    /// Returns whether a decision may ask.
    pub fn is_open(&self) -> bool {
        self.phase == StorePhase::Open
    }

    /// Notes a call that went well.
    pub fn succeeded(&mut self) {
        match self.phase {
            // From before it opened.
            StorePhase::Open => {}
            StorePhase::Closed => self.in_a_row = 0,
            StorePhase::Trial => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if self.in_a_row >= SUCCESSES {
                    (self.phase, self.in_a_row, self.trials) = (StorePhase::Closed, 0, 0);
                }
            }
        }
    }

    /// Notes a call that failed. Returns whether that opened the breaker.
    pub fn failed(&mut self, now_ns: u64, jitter: u64) -> bool {
        match self.phase {
            StorePhase::Open => return false,
            StorePhase::Closed => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                if self.in_a_row < FAILURES {
                    return false;
                }
            }
            StorePhase::Trial => {}
        }
        self.phase = StorePhase::Open;
        self.in_a_row = 0;
        self.put_off(now_ns, jitter);
        true
    }

    /// Returns whether a trial is due.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.phase == StorePhase::Open && now_ns >= self.next_trial_ns
    }

    /// Notes how a trial ended: `well` where the store takes writes.
    pub fn tried(&mut self, well: bool, now_ns: u64, jitter: u64) {
        if self.phase != StorePhase::Open {
            return;
        }
        if well {
            (self.phase, self.in_a_row) = (StorePhase::Trial, 0);
        } else {
            self.put_off(now_ns, jitter);
        }
    }

    /// Sets the next trial. `jitter` is any random number, so that several herdgates do not try in step.
    fn put_off(&mut self, now_ns: u64, jitter: u64) {
        let pause_ns = PAUSE_NS.saturating_mul(1 << self.trials.min(16)).min(PAUSE_MAX_NS);
        self.trials = self.trials.saturating_add(1);
        // Three quarters to five quarters.
        let spread_ns = pause_ns / 2;
        self.next_trial_ns = now_ns.saturating_add(pause_ns - pause_ns / 4).saturating_add(jitter % spread_ns.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s`, `f`: a call that went well or failed; `T`, `F`: a trial; a digit: so many tenths of a second pass. The expectation
    /// is the phase after each: closed `+`, open `-`, trial `?`; `!` where a trial is due.
    fn check(script: &str, phases: &str) {
        let (mut breaker, mut now_ns) = (StoreBreaker::default(), 0);
        let jitter = PAUSE_NS / 4; // the middle of the first pause
        let seen: String = script
            .chars()
            .map(|step| {
                match step {
                    's' => breaker.succeeded(),
                    'f' => drop(breaker.failed(now_ns, jitter)),
                    'T' => breaker.tried(true, now_ns, jitter),
                    'F' => breaker.tried(false, now_ns, jitter),
                    digit => now_ns += u64::from(digit.to_digit(10).unwrap()) * 100_000_000,
                }
                match breaker.phase() {
                    StorePhase::Closed => '+',
                    StorePhase::Open if breaker.is_due(now_ns) => '!',
                    StorePhase::Open => '-',
                    StorePhase::Trial => '?',
                }
            })
            .collect();
        assert_eq!(seen, phases, "{script}");
    }

    #[test]
    fn it_begins_open_and_a_trial_lets_calls_through() {
        check("0Tssssssssss", "!??????????+");
        check("F0", "--");
        check("F1", "-!");
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_two_do_not() {
        check("Tssssssssssffsffsfff1T", "??????????+++++++++-!?");
    }

    #[test]
    fn after_a_trial_one_failure_opens_it_again_for_longer() {
        check("Tf1Tf12Tf", "?-!?--!?-");
    }

    #[test]
    fn a_late_success_from_before_it_opened_changes_nothing() {
        check("Tfss", "?---");
    }

    #[test]
    fn the_pause_is_bounded_and_jittered() {
        let mut breaker = StoreBreaker::default();
        let mut now_ns = 0;
        for trial in 0..100 {
            breaker.tried(false, now_ns, trial * 7_777_777);
            let before = now_ns;
            while !breaker.is_due(now_ns) {
                now_ns += 1_000_000;
            }
            assert!(now_ns - before <= PAUSE_MAX_NS * 5 / 4 + 1_000_000 && now_ns - before >= PAUSE_NS * 3 / 4);
        }
    }
}
