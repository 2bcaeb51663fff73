//! What a claim takes and from whom, as the scripts read it. Pure.

use super::keyspace;
use crate::decision::plan::limits::{Quota, Scope};
use crate::ledger::calendar::Day;
use std::fmt::Write;

/// Largest amount the scripts are told, in thousandths of a token: sums of many stay below 2^53.
pub const AMOUNT_MAX: u64 = 10_000_000_000_000;

/// Largest time ahead, in microseconds: ten years.
const FAR_US: u64 = 315_360_000_000_000;

/// Most holders of one claim.
pub const ENTRIES_MAX: usize = 6;

/// Most request rates of one holder.
const RATES_MAX: usize = 5;

/// One holder: the scope, and the limits that bind it.
#[derive(Debug, Clone, Copy)]
pub struct HolderTerms<'a> {
    /// Whose limits they are.
    pub scope: Scope,
    /// Request rates, at most five.
    pub requests: &'a [Quota],
    /// Requests in flight at once.
    pub concurrency: Option<u32>,
    /// Tokens in a period, and at once.
    pub tokens: Option<Quota>,
    /// Most in a calendar day, in thousandths of a token.
    pub day_most: Option<u64>,
    /// Most in a calendar month, in thousandths of a token.
    pub month_most: Option<u64>,
    /// Whether a limit that is exceeded is only reported.
    pub shadow: bool,
    /// Whether what is charged by day and month is kept where no budget limits it.
    pub keeps: bool,
}

/// The calendar as the caller has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreToday {
    /// The day. The scripts need no more of its number than that it grows by one a day.
    pub day: Day,
    /// When the day ends, in milliseconds since 1970.
    pub day_ends_ms: i64,
    /// The month's number, likewise.
    pub month: i32,
    /// When the month ends, in milliseconds since 1970.
    pub month_ends_ms: i64,
}

impl StoreToday {
    /// Returns the calendar as four arguments of a script.
    pub(super) fn arguments(&self) -> [i64; 4] {
        let us = |ms: i64| ms.clamp(0, 4_102_444_800_000).saturating_mul(1000);
        [self.day.0.into(), us(self.day_ends_ms), self.month.into(), us(self.month_ends_ms)]
    }
}

/// The holders of one claim, as the scripts read them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreTerms {
    /// Their scopes.
    pub scopes: Vec<Scope>,
    /// Their terms in the same order, as `lua/books.lua` reads them.
    pub text: String,
}

impl StoreTerms {
    /// Writes the holders. Returns `None` where there are more than the scripts take: the caller must refuse.
    pub fn of(entries: &[HolderTerms<'_>]) -> Option<StoreTerms> {
        if entries.len() > ENTRIES_MAX || entries.iter().any(|entry| entry.requests.len() > RATES_MAX) {
            return None;
        }
        let mut terms = StoreTerms::default();
        for entry in entries {
            terms.scopes.push(entry.scope);
            // Writing to a String does not fail.
            let _ = write_entry(&mut terms.text, entry);
        }
        Some(terms)
    }

    /// Returns holders of whom nothing but the scopes is known.
    pub fn of_scopes(scopes: Vec<Scope>) -> StoreTerms {
        StoreTerms { scopes, text: String::new() }
    }

    /// Returns the scopes as the scripts read them.
    pub(super) fn scopes_text(&self) -> String {
        self.scopes.iter().map(|scope| keyspace::id(scope.0)).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the scopes in a script's answer.
pub(super) fn read_scopes(text: &str) -> Option<Vec<Scope>> {
    text.split_ascii_whitespace().map(|scope| keyspace::read_id(scope).map(Scope)).collect()
}

fn write_entry(text: &mut String, entry: &HolderTerms<'_>) -> std::fmt::Result {
    if !text.is_empty() {
        text.push(';');
    }
    let HolderTerms { scope: _, requests, concurrency, tokens, day_most, month_most, shadow, keeps } = entry;
    let keeps = *keeps || day_most.is_some() || month_most.is_some();
    text.push_str(match (shadow, keeps) {
        (true, true) => "sk",
        (true, false) => "s",
        (false, true) => "k",
        (false, false) => "-",
    });
    match concurrency {
        Some(most) => write!(text, " {most}")?,
        None => text.push_str(" -"),
    }
    match tokens {
        // Per period: count * 1000 thousandths, so thousandths and microseconds relate as tokens and milliseconds do.
        Some(Quota { count, period_ns, burst }) => {
            let period_ms = period_ns.get().div_ceil(1_000_000).min(FAR_US);
            let capacity = burst.get().saturating_mul(1000).min(AMOUNT_MAX);
            write!(text, " {},{period_ms},{capacity}", count.get().min(AMOUNT_MAX))?;
        }
        None => text.push_str(" -"),
    }
    if requests.is_empty() {
        text.push_str(" -");
    }
    for (position, quota) in requests.iter().enumerate() {
        text.push(if position == 0 { ' ' } else { '/' });
        let interval_ns = interval_ns(*quota);
        let horizon_ns = interval_ns.saturating_mul(u128::from(quota.burst.get())).min(u128::from(FAR_US) * 1000);
        let interval_ns = interval_ns.min(u128::from(FAR_US) * 1000);
        for (separator, ns) in [("", interval_ns), (",", horizon_ns)] {
            write!(text, "{separator}{}.{:03}", ns / 1000, ns % 1000)?;
        }
    }
    for most in [day_most, month_most] {
        match most {
            Some(most) => write!(text, " {}", most.min(&(AMOUNT_MAX * 100)))?,
            None => text.push_str(" -"),
        }
    }
    Ok(())
}

/// Returns the nanoseconds that a request costs in the GCRA, as the books in memory have it.
fn interval_ns(quota: Quota) -> u128 {
    u128::from(quota.period_ns.get().div_ceil(quota.count.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    fn quota(count: u64, period_ms: u64, burst: u64) -> Quota {
        let some = |value: u64| NonZeroU64::new(value).unwrap();
        Quota { count: some(count), period_ns: some(period_ms * 1_000_000), burst: some(burst) }
    }

    #[test]
    fn holders_are_written_as_the_scripts_read_them() {
        let bare = HolderTerms {
            scope: Scope(1),
            requests: &[],
            concurrency: None,
            tokens: None,
            day_most: None,
            month_most: None,
            shadow: false,
            keeps: false,
        };
        let cases = [
            (bare, "- - - - - -"),
            (HolderTerms { concurrency: Some(8), shadow: true, ..bare }, "s 8 - - - -"),
            (HolderTerms { tokens: Some(quota(100_000, 60_000, 2_000)), ..bare }, "- - 100000,60000,2000000 - - -"),
            (HolderTerms { day_most: Some(7_000), ..bare }, "k - - - 7000 -"),
            (HolderTerms { month_most: Some(9), shadow: true, keeps: true, ..bare }, "sk - - - - 9"),
        ];
        for (entry, expected) in cases {
            assert_eq!(StoreTerms::of(&[entry]).unwrap().text, expected);
        }
        let rates = [quota(60, 60_000, 20), quota(3, 1_000, 3)];
        let entry = HolderTerms { requests: &rates, ..bare };
        let text = "- - - 1000000.000,20000000.000/333333.334,1000000.002 - -";
        assert_eq!(StoreTerms::of(&[entry]).unwrap().text, text);
        assert_eq!(StoreTerms::of(&[bare, entry]).unwrap().text, format!("- - - - - -;{text}"));
    }

    #[test]
    fn more_holders_than_the_scripts_take_are_refused() {
        let entry = HolderTerms {
            scope: Scope(1),
            requests: &[],
            concurrency: None,
            tokens: None,
            day_most: None,
            month_most: None,
            shadow: false,
            keeps: false,
        };
        assert!(StoreTerms::of(&[entry; ENTRIES_MAX]).is_some());
        assert!(StoreTerms::of(&[entry; ENTRIES_MAX + 1]).is_none());
        let rates = [quota(1, 1, 1); RATES_MAX + 1];
        assert!(StoreTerms::of(&[HolderTerms { requests: &rates, ..entry }]).is_none());
    }

    #[test]
    fn the_largest_numbers_stay_exact_in_a_double() {
        let largest = quota(u64::MAX, u64::MAX / 1_000_000, u64::MAX);
        let terms = StoreTerms::of(&[HolderTerms {
            scope: Scope(u128::MAX),
            requests: &[largest, quota(1, u64::MAX / 1_000_000, u64::MAX)],
            concurrency: Some(u32::MAX),
            tokens: Some(largest),
            day_most: Some(u64::MAX),
            month_most: Some(u64::MAX),
            shadow: true,
            keeps: true,
        }]);
        let text = terms.unwrap().text;
        for number in text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()) {
            assert!(number.parse::<u64>().unwrap() < 1 << 53, "{number} in {text}");
        }
    }
}
