//! Figures of several rounds, brought together: medians, extremes, ratios.

use serde_json::{Value, json};

/// One figure over all rounds.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a round.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Returns the median; of an even number, the mean of the middle two.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
            (Some(one), Some(other)) if sorted.len().is_multiple_of(2) => (one + other) / 2.0,
            (_, Some(one)) => *one,
            _ => 0.0,
        }
    }

    /// Returns the least.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }

    /// Returns the most.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().reduce(f64::max).unwrap_or(0.0)
    }

    /// This figure over another's, round by round: what both rounds suffered from drops out.
    pub fn over(&self, other: &Series) -> Series {
        Series(self.0.iter().zip(&other.0).map(|(one, other)| one / other.max(f64::MIN_POSITIVE)).collect())
    }

    /// As `latest.json` has it.
    pub fn json(&self) -> Value {
        json!({ "median": tidy(self.median()), "min": tidy(self.min()), "max": tidy(self.max()) })
    }
}

/// Three decimals are more than a measurement holds.
pub fn tidy(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
