//! When a server is asked next, how long it may take, and how many answers change its state.

use std::time::Duration;

/// Longest wait for one probe.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Share of a pause by which it varies, so that many herdgates or many servers do not fall into step.
const JITTER: f64 = 0.1;

/// The `[probe]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Between two probes of a server that answers.
    pub interval: Duration,
    /// Between two probes after a failure.
    pub fast_interval: Duration,
    /// Successes in a row that bring a server up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
    /// Between two deep checks of a server that generates.
    pub deep_interval: Duration,
    /// Longest a deep check takes.
    pub deep_timeout: Duration,
    /// A model without other use for longer than this is not asked.
    pub idle: Duration,
}

impl Default for Schedule {
    /// Returns the defaults of `docs/configuration.md`.
    fn default() -> Schedule {
        Schedule {
            interval: Duration::from_secs(5),
            fast_interval: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            deep_interval: Duration::from_secs(60),
            deep_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(600),
        }
    }
}

impl Schedule {
    /// Returns how long one probe may take, all its requests together.
    pub fn timeout(&self) -> Duration {
        self.interval.min(TIMEOUT_MAX)
    }

    /// Returns the pause before the next probe; `chance` is uniform over 0 to 1.
    pub fn pause(&self, failing: bool, chance: f64) -> Duration {
        vary(if failing { self.fast_interval.min(self.interval) } else { self.interval }, chance)
    }

    /// Returns the pause before the next deep check; `chance` is uniform over 0 to 1.
    pub fn deep_pause(&self, soon: bool, chance: f64) -> Duration {
        // Never longer than `fast_interval` in doubt: the time to detect a dead server is reckoned from it.
        if soon { self.fast_interval.min(self.deep_interval) } else { vary(self.deep_interval, chance) }
    }
}

fn vary(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_vary_by_a_tenth_and_shorten_after_a_failure() {
        let schedule = Schedule::default();
        let ms = |failing, chance| schedule.pause(failing, chance).as_millis();
        let cases = [
            (false, 0.0, 4500),
            (false, 0.5, 5000),
            (false, 1.0, 5500),
            (true, 0.0, 900),
            (true, 1.0, 1100),
            (true, 7.0, 1100),
        ];
        for (failing, chance, expected) in cases {
            assert_eq!(ms(failing, chance), expected, "failing {failing}, chance {chance}");
        }
        let slow = Schedule { interval: Duration::from_secs(60), fast_interval: Duration::from_secs(90), ..schedule };
        assert_eq!(slow.timeout(), Duration::from_secs(5));
        assert_eq!(slow.pause(true, 0.5), Duration::from_secs(60), "fast is never slower than the interval");
    }
}
