//! A histogram that forgets, for quantiles of sizes: how large something usually is, learned from what was.

/// The number of buckets. They grow by a quarter of a doubling: a quantile is right to within 19 %.
const BUCKETS: usize = 128;

/// The total past which all counts are halved: what was learned an hour ago must not outweigh today.
const FORGET_AT: u32 = 4096;

/// Counts of sizes from 1 to about 4 × 10⁹, of whatever unit.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Notes one size.
    pub fn note(&mut self, size: u64) {
        if let Some(count) = self.counts.get_mut(bucket(size)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
        if self.total >= FORGET_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Returns the upper edge of the bucket that holds the quantile `permille`/1000; `None` before anything was noted.
    pub fn quantile(&self, permille: u32) -> Option<u64> {
        let wanted = (u64::from(self.total) * u64::from(permille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0;
        let position = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(upper_edge(position))
    }

    /// Returns how many sizes are remembered, at most 4,095.
    pub fn len(&self) -> u32 {
        self.total
    }

    /// Returns whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// Returns the bucket of a size: four a doubling, by the two bits after the leading one.
fn bucket(size: u64) -> usize {
    let size = size.clamp(1, 1 << 40);
    let doublings = size.ilog2();
    let quarter = (size << 2 >> doublings) & 3;
    (doublings as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper_edge(position: usize) -> u64 {
    let (doublings, quarter) = (position / 4, position as u64 % 4);
    ((5 + quarter) << doublings).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_no_less_than_what_was_noted_and_at_most_a_quarter_more() {
        for size in [1, 2, 3, 5, 50, 999, 1_000, 60_000, 3_600_000, 86_400_000] {
            let mut histogram = Histogram::default();
            histogram.note(size);
            let found = histogram.quantile(990).unwrap();
            assert!(found >= size && found <= size + size.div_ceil(4) + 1, "{size}: {found}");
        }
        assert_eq!(Histogram::default().quantile(990), None);
    }

    #[test]
    fn one_in_a_hundred_is_what_the_99th_percentile_leaves_out() {
        let mut histogram = Histogram::default();
        (0..995).for_each(|_| histogram.note(100));
        (0..5).for_each(|_| histogram.note(100_000));
        assert!(histogram.quantile(990).unwrap() < 130);
        assert!(histogram.quantile(999).unwrap() >= 100_000);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut histogram = Histogram::default();
        (0..FORGET_AT).for_each(|_| histogram.note(100_000));
        (0..FORGET_AT * 8).for_each(|_| histogram.note(10));
        assert!(histogram.quantile(990).unwrap() < 20);
        assert!(histogram.len() < FORGET_AT);
    }
}
