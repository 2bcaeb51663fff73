//! Which day and month it is in the ledger's time zone, on a wall clock that may jump. Pure; time is handed in.
//!
//! Scheme. A window that was closed is not opened again: a clock that goes back is taken to stand still; one that goes
//! back by more than an hour, to go on as before. A clock that goes forward by more than an hour beyond what the
//! monotonic clock says is not believed for a minute, in which a wrong time server can be set right; days go on by the
//! monotonic clock until then.

use crate::decision::moment::Moment;
use crate::decision::plan::limits::Window;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A jump forward by more than this is doubted, in milliseconds.
const JUMP_MS: i64 = 3_600_000;

/// How long it is doubted, in nanoseconds (monotonic).
const DOUBT_NS: u64 = 60_000_000_000;

/// A day in the ledger's time zone: days since 1970-01-01 there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(pub i32);

impl Day {
    /// Returns the day after this one.
    pub fn next(self) -> Day {
        Day(self.0.saturating_add(1))
    }

    /// Returns the day that was so many days before this one.
    pub fn before(self, days: u32) -> Day {
        Day(self.0.saturating_sub_unsigned(days))
    }
}

/// The current windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Today {
    /// The day.
    pub day: Day,
    /// Months since the year 0.
    pub month: i32,
    /// Milliseconds until the day ends.
    pub day_left_ms: u64,
    /// Milliseconds until the month ends.
    pub month_left_ms: u64,
}

impl Today {
    /// Returns the number of the current window.
    pub fn window(&self, window: Window) -> i32 {
        match window {
            Window::Day => self.day.0,
            Window::Month => self.month,
        }
    }

    /// Returns the nanoseconds until the current window ends.
    pub fn left_ns(&self, window: Window) -> u64 {
        let ms = match window {
            Window::Day => self.day_left_ms,
            Window::Month => self.month_left_ms,
        };
        ms.saturating_mul(1_000_000)
    }
}

/// The calendar of one time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    /// The wall-clock time that was believed last, in milliseconds since 1970, and when that was (monotonic).
    believed: Option<(i64, u64)>,
    /// Since when the wall clock is doubted (monotonic).
    doubted_ns: Option<u64>,
    day: Day,
    month: i32,
    day_starts_ms: i64,
    day_ends_ms: i64,
    month_ends_ms: i64,
}

impl Default for Calendar {
    fn default() -> Calendar {
        Calendar::new(TimeZone::UTC)
    }
}

impl Calendar {
    /// Returns a calendar that has seen no time yet.
    pub fn new(zone: TimeZone) -> Calendar {
        Calendar {
            zone,
            believed: None,
            doubted_ns: None,
            day: Day::default(),
            month: 0,
            day_starts_ms: 0,
            day_ends_ms: 0,
            month_ends_ms: 0,
        }
    }

    /// Changes the time zone. What was charged in a window stays in it, whatever its bounds are now.
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.zone = zone;
        (self.day_starts_ms, self.day_ends_ms) = (0, 0);
    }

    /// Returns the windows at `now`.
    pub fn today(&mut self, now: Moment) -> Today {
        let ms = self.believe(now);
        if !(self.day_starts_ms..self.day_ends_ms).contains(&ms) {
            self.turn_to(ms);
        }
        let left = |ends_ms: i64| u64::try_from(ends_ms.saturating_sub(ms)).unwrap_or(0);
        Today {
            day: self.day,
            month: self.month,
            day_left_ms: left(self.day_ends_ms),
            month_left_ms: left(self.month_ends_ms),
        }
    }

    /// Returns the month that a day is in, numbered as in [`Today`].
    pub fn month_of(&self, day: Day) -> i32 {
        let date =
            Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(i64::from(day.0).clamp(-700_000, 2_900_000)));
        date.map_or(0, |date| i32::from(date.year()) * 12 + i32::from(date.month()) - 1)
    }

    /// Returns whether the wall clock has jumped forward and is not believed yet.
    pub fn is_in_doubt(&self) -> bool {
        self.doubted_ns.is_some()
    }

    fn believe(&mut self, now: Moment) -> i64 {
        let Some((ms, at_ns)) = self.believed else {
            self.believed = Some((now.unix_ms, now.mono_ns));
            return now.unix_ms;
        };
        let passed_ms = i64::try_from(now.mono_ns.saturating_sub(at_ns) / 1_000_000).unwrap_or(i64::MAX);
        let expected = ms.saturating_add(passed_ms);
        if now.unix_ms > expected.saturating_add(JUMP_MS) {
            let since = *self.doubted_ns.get_or_insert(now.mono_ns);
            if now.mono_ns.saturating_sub(since) < DOUBT_NS {
                return expected;
            }
        }
        self.doubted_ns = None;
        // Far back: time goes on from what was believed, or the days of a wrong clock would last until they come.
        let back = now.unix_ms < ms.saturating_sub(JUMP_MS);
        let ms = if back { expected } else { now.unix_ms.max(ms) };
        self.believed = Some((ms, now.mono_ns));
        ms
    }

    fn turn_to(&mut self, ms: i64) {
        // Out of jiff's range only where the clock shows no year of four digits; then the windows stay.
        let Ok(timestamp) = Timestamp::from_millisecond(ms) else { return };
        let date = timestamp.to_zoned(self.zone.clone()).date();
        let starts_ms = |date: Date| date.to_zoned(self.zone.clone()).map(|zoned| zoned.timestamp().as_millisecond());
        let next_month = date.last_of_month().tomorrow();
        let (Ok(starts), Ok(ends), Ok(month_ends)) =
            (starts_ms(date), date.tomorrow().and_then(starts_ms), next_month.and_then(starts_ms))
        else {
            return;
        };
        self.day = day_of(date);
        self.month = i32::from(date.year()) * 12 + i32::from(date.month()) - 1;
        (self.day_starts_ms, self.day_ends_ms, self.month_ends_ms) = (starts, ends, month_ends);
    }
}

fn day_of(date: Date) -> Day {
    let epoch = Date::constant(1970, 1, 1);
    date.since(epoch).map_or(Day::default(), |span| Day(span.get_days()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may fail
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const H_MS: u64 = 3_600_000;

    fn ms(written: &str) -> i64 {
        written.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn at(seconds: u64, written: &str) -> Moment {
        Moment { mono_ns: seconds * S, unix_ms: ms(written) }
    }

    #[test]
    fn days_and_months_are_the_zones_own() {
        let cases = [
            ("UTC", "2026-03-31T23:59:59Z", 20_543, 24_314, 1_000, 1_000),
            ("UTC", "2026-04-01T00:00:00Z", 20_544, 24_315, 24 * H_MS, 30 * 24 * H_MS),
            // Clocks go forward in Berlin on 29 March 2026, and back on 25 October: days of 23 and of 25 hours.
            ("Europe/Berlin", "2026-03-28T23:00:00Z", 20_541, 24_314, 23 * H_MS, (23 + 48) * H_MS),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", 20_751, 24_321, 25 * H_MS, (25 + 6 * 24) * H_MS),
            ("Asia/Kolkata", "2026-02-28T18:29:59Z", 20_512, 24_313, 1_000, 1_000),
            ("Pacific/Apia", "2011-12-30T12:00:00Z", 15_339, 24_143, 22 * H_MS, 22 * H_MS),
        ];
        for (zone, written, day, month, day_left_ms, month_left_ms) in cases {
            let day = Day(day);
            let today = Calendar::new(TimeZone::get(zone).unwrap()).today(at(0, written));
            assert_eq!(today, Today { day, month, day_left_ms, month_left_ms }, "{zone} {written}");
        }
    }

    #[test]
    fn the_month_of_a_day_is_found() {
        let calendar = Calendar::default();
        for (day, month) in [(0, 1970 * 12), (30, 1970 * 12), (31, 1970 * 12 + 1), (20_543, 24_314), (20_544, 24_315)] {
            assert_eq!(calendar.month_of(Day(day)), month, "{day}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_opens_no_closed_window() {
        let mut calendar = Calendar::default();
        let day = calendar.today(at(0, "2026-05-02T00:00:01Z")).day;
        assert_eq!(calendar.today(at(1, "2026-05-01T23:00:00Z")).day, day);
        assert_eq!(calendar.today(at(9, "2026-04-01T00:00:00Z")).day, day);
        assert_eq!(calendar.today(at(10, "2026-05-03T00:00:00Z")).day, day, "a jump forward as seen from there");
    }

    #[test]
    fn a_clock_that_is_set_far_back_lets_days_go_on() {
        let mut calendar = Calendar::default();
        let day = calendar.today(at(0, "2026-05-02T12:00:00Z")).day;
        assert_eq!(calendar.today(at(1, "2025-05-02T12:00:01Z")).day, day);
        assert_eq!(calendar.today(at(13 * 3_600, "2025-05-03T01:00:00Z")).day, day.next());
        assert_eq!(calendar.today(at(37 * 3_600, "2025-05-04T01:00:00Z")).day, day.next().next());
    }

    #[test]
    fn a_jump_forward_is_believed_after_a_minute_only() {
        let mut calendar = Calendar::default();
        let day = calendar.today(at(0, "2026-05-02T23:59:30Z")).day;
        assert_eq!(calendar.today(at(1, "2026-06-09T00:00:00Z")).day, day);
        assert!(calendar.is_in_doubt());
        assert_eq!(calendar.today(at(59, "2026-06-09T00:00:58Z")).day, day.next(), "the day ends all the same");
        assert_eq!(calendar.today(at(61, "2026-06-09T00:01:00Z")).day, Day(day.0 + 38));
        assert!(!calendar.is_in_doubt());
        // Set right within the minute, nothing has happened.
        let mut calendar = Calendar::default();
        let day = calendar.today(at(0, "2026-05-02T12:00:00Z")).day;
        calendar.today(at(1, "2036-05-02T12:00:00Z"));
        assert_eq!(calendar.today(at(30, "2026-05-02T12:00:30Z")).day, day);
        assert_eq!(calendar.today(at(90, "2026-05-02T12:01:30Z")).day, day);
    }
}
