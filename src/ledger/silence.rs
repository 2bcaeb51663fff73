//! Whether usage lines have stopped coming while requests are granted: then slots must not wait for lines that never
//! come.

use crate::decision::moment::Moment;

/// Least grants without a line before silence is suspected: long streams alone are no silence.
const GRANTS_MIN: u64 = 10;

/// The shortest silence that counts, in nanoseconds.
const SILENCE_MIN_NS: u64 = 10_000_000_000;

/// Watches whether lines come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence {
    grants: u64,
    /// The moment of the last line, or of the first grant where none ever came.
    since: Option<Moment>,
}

impl Silence {
    /// Takes note that a request was granted.
    pub fn granted(&mut self, now: Moment) {
        self.grants = self.grants.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// Takes note that a line came that belonged to a grant.
    pub fn line(&mut self, now: Moment) {
        self.grants = 0;
        self.since = Some(now);
    }

    /// Returns whether lines have stopped: grants went out, and since the last line more time passed than almost every
    /// request takes (`usual_ns`), and at least ten seconds.
    pub fn is_silent(&self, now: Moment, usual_ns: u64) -> bool {
        let passed = self.since.map_or(0, |since| now.since(since));
        self.grants >= GRANTS_MIN && passed >= SILENCE_MIN_NS.max(usual_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script`: seconds, and `g` for a grant or `l` for a line. Asked at `at` seconds with a usual duration in seconds.
    fn check(script: &[(u64, char)], at: u64, usual_s: u64, silent: bool) {
        let moment = |s: u64| Moment { mono_ns: (s + 1) * 1_000_000_000, unix_ms: 0 };
        let mut silence = Silence::default();
        for (s, event) in script {
            match event {
                'g' => silence.granted(moment(*s)),
                _ => silence.line(moment(*s)),
            }
        }
        assert_eq!(silence.is_silent(moment(at), usual_s * 1_000_000_000), silent, "{script:?} at {at}");
    }

    #[test]
    fn lines_that_stop_while_requests_are_granted_are_noticed_and_idleness_is_not() {
        let busy: Vec<_> = (0..20).map(|s| (s, 'g')).collect();
        check(&busy, 20, 1, true);
        check(&busy, 9, 1, false);
        check(&busy, 20, 60, false);
        check(&busy[..9], 1000, 1, false);
        check(&[], 1000, 1, false);
        let ended: Vec<_> = busy.iter().copied().chain([(20, 'l')]).collect();
        check(&ended, 1000, 1, false);
        let again: Vec<_> = ended.iter().copied().chain((21..40).map(|s| (s, 'g'))).collect();
        check(&again, 41, 1, true);
    }
}
