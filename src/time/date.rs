//! RFC 3339 times, to and from milliseconds since 1970.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};
use toml::value::{Datetime, Offset};

/// The midnight that times are counted from.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Reads a time with offset, such as `2026-01-31T12:00:00Z`. `None` where it has no date, time or offset, or is before
/// 1970.
pub fn parse(written: &str) -> Option<i64> {
    unix_ms(&written.parse().ok()?)
}

/// Returns the milliseconds since 1970 of a TOML time with offset (toml.io, "Offset Date-Time"); `None` before 1970.
pub fn unix_ms(datetime: &Datetime) -> Option<i64> {
    signed_unix_ms(datetime).filter(|ms| *ms >= 0)
}

/// Returns the milliseconds since 1970 of a TOML time with offset, negative ones before it.
pub fn signed_unix_ms(datetime: &Datetime) -> Option<i64> {
    let (date, time, offset) = (datetime.date?, datetime.time?, datetime.offset?);
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let number = |byte: u8| i8::try_from(byte).ok();
    let date = Date::new(i16::try_from(date.year).ok()?, number(date.month)?, number(date.day)?).ok()?;
    let minute = Time::new(number(time.hour)?, number(time.minute)?, 0, 0).ok()?;
    // Not a `jiff::Timestamp`: its range ends a day before the last that can be written. Seconds are added by hand because
    // they may be 60.
    let minutes = date.to_datetime(minute).duration_since(EPOCH).as_mins() - offset_minutes;
    let seconds = minutes * 60 + i64::from(time.second.unwrap_or(0));
    Some(seconds * 1_000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000))
}

/// Writes a time in UTC to the second. Past the year 9999 it is that year's last second.
pub fn format(unix_ms: i64) -> String {
    let seconds = (unix_ms.max(0) / 1_000).min(253_402_300_799);
    format!("{}Z", EPOCH.saturating_add(SignedDuration::from_secs(seconds)))
}

/// Returns the day of a moment in a time zone: days since 1970-01-01 there.
pub fn day(unix_ms: i64, zone: &jiff::tz::TimeZone) -> i32 {
    let offset_s = jiff::Timestamp::from_millisecond(unix_ms).map_or(0, |at| zone.to_offset(at).seconds());
    let days = (unix_ms.div_euclid(1_000).saturating_add(offset_s.into())).div_euclid(86_400);
    i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX })
}

/// Returns the date of a day as written: `2026-01-31`. Before 1970 it is that year's first.
pub fn format_day(day: i32) -> String {
    format(i64::from(day) * 86_400_000).chars().take(10).collect()
}

/// Returns the day of a date as written, `2026-01-31`, from 1970 on.
pub fn parse_day(written: &str) -> Option<i32> {
    i32::try_from(parse(&format!("{written}T00:00:00Z"))? / 86_400_000).ok()
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
            ("2016-12-31T23:59:60Z", Some(1_483_228_800_000)), // a leap second
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
