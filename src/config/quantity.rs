//! Quantities as people write them: durations `250ms`, rates `60/min`, counts `100k`.

use crate::decision::plan::limits::{Budget, Window};
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::digit1;
use nom::combinator::{all_consuming, map_opt, opt, value};
use nom::sequence::separated_pair;
use nom::{IResult, Parser};
use std::num::NonZeroU64;
use std::time::Duration;

/// Largest count and rate: past this a rate's spacing would be under one nanosecond.
pub const COUNT_MAX: u64 = 1_000_000_000;

/// `count` things in `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Things per period, 1 to [`COUNT_MAX`].
    pub count: NonZeroU64,
    /// The period in nanoseconds.
    pub period_ns: NonZeroU64,
}

/// Reads a duration: a whole number with one unit, `ms`, `s`, `m`, `h` or `d` (24 hours).
pub fn duration(written: &str) -> Option<Duration> {
    let unit_ms = alt((
        value(1_u64, tag("ms")),
        value(1_000, tag("s")),
        value(60_000, tag("m")),
        value(3_600_000, tag("h")),
        value(86_400_000, tag("d")),
    ));
    let parser = map_opt((number, unit_ms), |(number, unit_ms)| number.checked_mul(unit_ms));
    whole(parser, written).map(Duration::from_millis)
}

/// Reads a count: a whole number, with `k` (thousand) or `M` (million) after it or without; 0 to [`COUNT_MAX`].
pub fn count(written: &str) -> Option<u64> {
    whole(count_part, written)
}

/// Reads a rate: a count and a period, `s`, `min`, `h` or `day`.
pub fn rate(written: &str) -> Option<Rate> {
    const SECOND_NS: u64 = 1_000_000_000;
    let period = alt((
        value(SECOND_NS, tag("s")),
        value(60 * SECOND_NS, tag("min")),
        value(3_600 * SECOND_NS, tag("h")),
        value(86_400 * SECOND_NS, tag("day")),
    ));
    let (count, period_ns) = whole(separated_pair(count_part, tag("/"), period), written)?;
    Some(Rate { count: NonZeroU64::new(count)?, period_ns: NonZeroU64::new(period_ns)? })
}

/// Reads a budget: a count of at least 1 and a calendar window, `day` or `month`.
pub fn budget(written: &str) -> Option<Budget> {
    let window = alt((value(Window::Day, tag("day")), value(Window::Month, tag("month"))));
    let (most, window) = whole(separated_pair(count_part, tag("/"), window), written)?;
    Some(Budget { most: NonZeroU64::new(most)?, window })
}

fn whole<'a, P>(parser: P, written: &'a str) -> Option<P::Output>
where
    P: Parser<&'a str, Error = nom::error::Error<&'a str>>,
{
    all_consuming(parser).parse(written).ok().map(|(_, read)| read)
}

fn number(input: &str) -> IResult<&str, u64> {
    map_opt(digit1, |digits: &str| digits.parse().ok()).parse(input)
}

fn count_part(input: &str) -> IResult<&str, u64> {
    let factor = opt(alt((value(1_000_u64, tag("k")), value(1_000_000, tag("M")))));
    map_opt((number, factor), |(number, factor)| {
        number.checked_mul(factor.unwrap_or(1)).filter(|count| *count <= COUNT_MAX)
    })
    .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_one_unit() {
        let cases = [
            ("250ms", Some(250)),
            ("5s", Some(5_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("14d", Some(1_209_600_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("5s ", None),
            ("1.5s", None),
            ("1h30m", None),
            ("5S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (written, ms) in cases {
            assert_eq!(duration(written), ms.map(Duration::from_millis), "{written}");
        }
    }

    #[test]
    fn counts_take_k_and_m() {
        let cases = [
            ("0", Some(0)),
            ("100k", Some(100_000)),
            ("2M", Some(2_000_000)),
            ("1000000000", Some(COUNT_MAX)),
            ("1000000001", None),
            ("1000M", Some(COUNT_MAX)),
            ("1001M", None),
            ("2m", None),
            ("2K", None),
            ("", None),
            ("1_000", None),
        ];
        for (written, expected) in cases {
            assert_eq!(count(written), expected, "{written}");
        }
    }

    #[test]
    fn rates_are_a_count_and_a_period() {
        let cases = [
            ("60/min", Some((60, 60))),
            ("5/s", Some((5, 1))),
            ("1000/h", Some((1_000, 3_600))),
            ("10000/day", Some((10_000, 86_400))),
            ("100k/min", Some((100_000, 60))),
            ("0/min", None),
            ("60/m", None),
            ("60/minute", None),
            ("60 / min", None),
            ("60", None),
            ("/min", None),
            ("60/month", None),
        ];
        for (written, expected) in cases {
            let found = rate(written).map(|rate| (rate.count.get(), rate.period_ns.get() / 1_000_000_000));
            assert_eq!(found, expected, "{written}");
        }
        assert_eq!(
            budget("40M/month").map(|budget| (budget.most.get(), budget.window)),
            Some((40_000_000, Window::Month))
        );
        assert_eq!(budget("40M/h"), None);
    }
}
