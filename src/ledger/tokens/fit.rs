//! A straight line learned from points, with a prior that it never quite forgets. Pure.
//!
//! Points are sums over a request (bytes against tokens), whose scatter grows with their size: each weighs `1/x`, by which
//! the line's errors cancel in the sum of many requests, which is what is charged. The prior (an offset and a slope with
//! weights of their own) makes the line well determined by points of one size alone, and by none.

/// The largest sum of `x` that is remembered: past it everything counts half, so that what was learned last week does
/// not outweigh today.
const FORGET_AT: f64 = 2e6;

/// The line that is believed before anything is learned.
#[derive(Debug, Clone, Copy)]
pub struct Prior {
    /// `y` at `x = 0`.
    pub offset: f64,
    /// `y` per `x`.
    pub slope: f64,
    /// The points of `x = 1` that the offset is worth.
    pub offset_weight: f64,
    /// The sum of `x` that the slope is worth.
    pub slope_weight: f64,
}

/// Sums over the points: as many numbers however many points.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fit {
    /// Points by weight.
    weights: f64,
    points: f64,
    xs: f64,
    /// `y/x` and `y`.
    ratios: f64,
    ys: f64,
}

impl Fit {
    /// Learns a point; `x` above zero. Values that are no numbers are passed over.
    pub fn add(&mut self, x: f64, y: f64) {
        if !(x >= 1.0 && x.is_finite() && y.is_finite()) {
            return;
        }
        self.weights += 1.0 / x;
        self.points += 1.0;
        self.ratios += y / x;
        self.add_slope(x, y);
    }

    /// Learns a point of the slope alone: its offset is known to be zero.
    pub fn add_slope(&mut self, x: f64, y: f64) {
        if !(x >= 1.0 && x.is_finite() && y.is_finite()) {
            return;
        }
        self.xs += x;
        self.ys += y;
        if self.xs > FORGET_AT {
            for sum in [&mut self.weights, &mut self.points, &mut self.xs, &mut self.ratios, &mut self.ys] {
                *sum /= 2.0;
            }
        }
    }

    /// Returns offset and slope: least squares of the points and the prior together.
    pub fn line(&self, prior: Prior) -> (f64, f64) {
        let (a, b) = (self.weights + prior.offset_weight, self.xs + prior.slope_weight);
        let (u, v) = (self.ratios + prior.offset_weight * prior.offset, self.ys + prior.slope_weight * prior.slope);
        // Positive by Cauchy and Schwarz as long as both weights of the prior are.
        let determinant = a * b - self.points * self.points;
        if determinant <= 0.0 {
            return (prior.offset, prior.slope);
        }
        ((u * b - v * self.points) / determinant, (v * a - u * self.points) / determinant)
    }

    /// Returns the sum of `x` that it was learned from.
    pub fn learned(&self) -> f64 {
        self.xs
    }
}

/// A mean with a prior of some weight, which forgets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Learns `sum` over a weight; past `most` of weight everything counts half.
    pub fn add(&mut self, sum: f64, weight: f64, most: f64) {
        if weight > 0.0 && weight.is_finite() && sum.is_finite() {
            self.sum += sum;
            self.weight += weight;
        }
        if self.weight > most {
            self.sum /= 2.0;
            self.weight /= 2.0;
        }
    }

    /// Returns the mean, with `prior` counted in at the weight given.
    pub fn value(&self, prior: f64, prior_weight: f64) -> f64 {
        (self.sum + prior * prior_weight) / (self.weight + prior_weight)
    }

    /// Returns the weight of what was learned.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior { offset: 10.0, slope: 2.0, offset_weight: 0.1, slope_weight: 100.0 };

    fn check(what: &str, points: &[(f64, f64)], times: usize, expected: (f64, f64), within: f64) {
        let mut fit = Fit::default();
        for _ in 0..times {
            points.iter().for_each(|(x, y)| fit.add(*x, *y));
        }
        let (offset, slope) = fit.line(PRIOR);
        let near = |found: f64, wanted: f64| (found - wanted).abs() <= within * wanted.abs().max(1.0);
        assert!(near(offset, expected.0) && near(slope, expected.1), "{what}: {offset} {slope}, not {expected:?}");
    }

    #[test]
    fn a_line_is_found_and_the_prior_decides_what_the_points_leave_open() {
        check("nothing", &[], 1, (10.0, 2.0), 0.0);
        check("two sizes", &[(10.0, 150.0), (1000.0, 10_050.0)], 10_000, (50.0, 10.0), 0.02);
        check("as believed", &[(100.0, 210.0)], 1000, (10.0, 2.0), 1e-6);
        // Of one size alone the offset stays near what was believed, and their sum is right.
        let mut fit = Fit::default();
        (0..1000).for_each(|_| fit.add(100.0, 510.0));
        let (offset, slope) = fit.line(PRIOR);
        assert!((offset + 100.0 * slope - 510.0).abs() < 1.0, "{offset} {slope}");
        for (x, y) in [(0.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (-4.0, 1.0)] {
            check("no numbers", &[(x, y)], 3, (10.0, 2.0), 0.0);
        }
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut fit = Fit::default();
        (0..10_000).for_each(|_| fit.add(1000.0, 9000.0));
        (0..10_000).for_each(|_| fit.add(1000.0, 3000.0));
        let (offset, slope) = fit.line(PRIOR);
        assert!((offset + 1000.0 * slope - 3000.0).abs() < 100.0, "{offset} {slope}");
        let mut mean = Mean::default();
        (0..100).for_each(|_| mean.add(900.0, 100.0, 1000.0));
        (0..100).for_each(|_| mean.add(300.0, 100.0, 1000.0));
        assert!((mean.value(4.0, 10.0) - 3.0).abs() < 0.1, "{}", mean.value(4.0, 10.0));
        assert_eq!(Mean::default().value(4.0, 10.0), 4.0);
    }
}
