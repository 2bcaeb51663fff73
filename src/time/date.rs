//! RFC 3339 times, to and from milliseconds since 1970.

use toml::value::{Datetime, Offset};

/// Reads a time with offset, such as `2026-01-31T12:00:00Z`. `None` where it has no date, time or offset, or is before
/// 1970.
pub fn parse(written: &str) -> Option<i64> {
    unix_ms(&written.parse().ok()?)
}

/// The milliseconds since 1970 of a TOML time with offset (toml.io, "Offset Date-Time").
pub fn unix_ms(datetime: &Datetime) -> Option<i64> {
    let (date, time, offset) = (datetime.date?, datetime.time?, datetime.offset?);
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = days * 1_440 + i64::from(time.hour) * 60 + i64::from(time.minute) - offset_minutes;
    let seconds = minutes * 60 + i64::from(time.second.unwrap_or(0));
    let ms = seconds * 1_000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    (ms >= 0).then_some(ms)
}

/// Writes a time in UTC to the second. Past the year 9999 it is that year's last second.
pub fn format(unix_ms: i64) -> String {
    let seconds = (unix_ms.max(0) / 1_000).min(253_402_300_799);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The day of a moment in a time zone: days since 1970-01-01 there.
pub fn day(unix_ms: i64, zone: &jiff::tz::TimeZone) -> i32 {
    let offset_s = jiff::Timestamp::from_millisecond(unix_ms).map_or(0, |at| zone.to_offset(at).seconds());
    let days = (unix_ms.div_euclid(1_000).saturating_add(offset_s.into())).div_euclid(86_400);
    i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })
}

/// The date of a day as written: `2026-01-31`. Before 1970 it is that year's first.
pub fn format_day(day: i32) -> String {
    format(i64::from(day) * 86_400_000).chars().take(10).collect()
}

/// The day of a date as written, `2026-01-31`, from 1970 on.
pub fn parse_day(written: &str) -> Option<i32> {
    i32::try_from(parse(&format!("{written}T00:00:00Z"))? / 86_400_000).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the leap day is the last
/// and months have a closed form (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56Z", Some(951_827_696_000)),
            ("2026-01-31T12:00:00.250Z", Some(1_769_860_800_250)),
            ("2026-01-31T13:00:00+01:00", Some(1_769_860_800_000)),
            ("2026-01-31 12:00:00Z", Some(1_769_860_800_000)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-01-31", None),
            ("2026-01-31T12:00:00", None),
            ("12:00:00", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(parse(written), expected, "{written}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        let cases = [
            ("2026-01-31T23:59:59Z", "UTC", "2026-01-31"),
            ("2026-01-31T23:59:59Z", "Europe/Berlin", "2026-02-01"),
            ("2026-07-31T22:00:00Z", "Europe/Berlin", "2026-08-01"), // summer time
            ("2026-07-31T21:59:59Z", "Europe/Berlin", "2026-07-31"),
            ("2026-01-31T04:59:59Z", "America/New_York", "2026-01-30"),
            ("1970-01-01T00:00:00Z", "UTC", "1970-01-01"),
        ];
        for (at, zone, expected) in cases {
            let day = day(parse(at).unwrap(), &jiff::tz::TimeZone::get(zone).unwrap());
            assert_eq!((format_day(day).as_str(), parse_day(expected)), (expected, Some(day)), "{at} in {zone}");
        }
        assert_eq!(day(i64::MAX, &jiff::tz::TimeZone::UTC), i32::MAX);
        assert_eq!([parse_day("2026-02-29"), parse_day("yesterday"), parse_day("")], [None; 3]);
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..146_097 {
            let ms = day * 86_400_000;
            assert_eq!(parse(&format(ms)), Some(ms), "{}", format(ms));
        }
        assert_eq!(format(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
