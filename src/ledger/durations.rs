//! How long requests take, learned from those that ended: a histogram that forgets, for quantiles.

/// Buckets grow by a quarter of a doubling: a quantile is right to within 19 %, which a time-out can live with.
const BUCKETS: usize = 128;

/// Past this many, all counts are halved: what was learned an hour ago must not outweigh today.
const FORGET_AT: u32 = 4096;

/// Durations in milliseconds, from 1 ms to about 50 days.
#[derive(Debug, Clone)]
pub struct Durations {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { counts: [0; BUCKETS], total: 0 }
    }
}

impl Durations {
    /// Notes one duration, in milliseconds.
    pub fn note(&mut self, ms: u64) {
        if let Some(count) = self.counts.get_mut(bucket(ms)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
        if self.total >= FORGET_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// The upper edge, in milliseconds, of the bucket that holds the quantile `permille`/1000; `None` before anything was
    /// noted.
    pub fn quantile_ms(&self, permille: u32) -> Option<u64> {
        let wanted = (u64::from(self.total) * u64::from(permille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0;
        let position = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(upper_edge_ms(position))
    }
}

/// Four buckets a doubling, by the two bits after the leading one.
fn bucket(ms: u64) -> usize {
    let ms = ms.clamp(1, 1 << 40);
    let doublings = ms.ilog2();
    let quarter = (ms << 2 >> doublings) & 3;
    (doublings as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper_edge_ms(position: usize) -> u64 {
    let (doublings, quarter) = (position / 4, position as u64 % 4);
    ((5 + quarter) << doublings).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_no_less_than_what_was_noted_and_at_most_a_quarter_more() {
        for ms in [1, 2, 3, 5, 50, 999, 1_000, 60_000, 3_600_000, 86_400_000] {
            let mut durations = Durations::default();
            durations.note(ms);
            let found = durations.quantile_ms(990).unwrap();
            assert!(found >= ms && found <= ms + ms.div_ceil(4) + 1, "{ms}: {found}");
        }
        assert_eq!(Durations::default().quantile_ms(990), None);
    }

    #[test]
    fn one_in_a_hundred_is_what_the_99th_percentile_leaves_out() {
        let mut durations = Durations::default();
        (0..995).for_each(|_| durations.note(100));
        (0..5).for_each(|_| durations.note(100_000));
        assert!(durations.quantile_ms(990).unwrap() < 130);
        assert!(durations.quantile_ms(999).unwrap() >= 100_000);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut durations = Durations::default();
        (0..FORGET_AT).for_each(|_| durations.note(100_000));
        (0..FORGET_AT * 8).for_each(|_| durations.note(10));
        assert!(durations.quantile_ms(990).unwrap() < 20);
    }
}
