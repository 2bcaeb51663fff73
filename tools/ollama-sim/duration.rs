//! Go durations (`time.ParseDuration`) as Ollama's `keep_alive` uses them (`api/types.go`, `Duration`).

use crate::json::Json;

/// How long a model stays in memory once idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Nanoseconds; zero unloads at once.
    For(u64),
    /// A negative number or duration: until the server ends.
    Forever,
}

impl KeepAlive {
    /// Reads the value of `keep_alive`: a number of seconds, or a duration string. Errors are Go's words.
    pub fn of(value: &Json) -> Result<KeepAlive, String> {
        match value {
            Json::Number(number) => {
                let seconds: f64 = number.parse().map_err(|_| format!("invalid number {number}"))?;
                if !seconds.is_finite() {
                    return Err(format!("json: cannot unmarshal number {number} into Go value of type float64"));
                }
                Ok(KeepAlive::of_ns(seconds * 1e9))
            }
            Json::Text(text) => KeepAlive::parse(text),
            other => Err(format!(
                "Unsupported type: '{}'",
                match other {
                    Json::Bool(_) => "bool",
                    Json::Array(_) => "[]interface {}",
                    _ => "map[string]interface {}",
                }
            )),
        }
    }

    /// Reads a duration string such as `5m`, `1h30m`, `250ms` or `-1s`. A bare number is refused, as in Go; only `0` is one.
    pub fn parse(text: &str) -> Result<KeepAlive, String> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(KeepAlive::For(0));
        }
        let invalid = || format!("time: invalid duration {text:?}");
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0.0;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            let number: f64 = number.parse().map_err(|_| invalid())?;
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            total += number
                * match unit {
                    "ns" => 1.0,
                    "us" | "µs" | "μs" => 1e3,
                    "ms" => 1e6,
                    "s" => 1e9,
                    "m" => 60e9,
                    "h" => 3600e9,
                    "" => return Err(format!("time: missing unit in duration {text:?}")),
                    unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
                };
            rest = tail;
        }
        if total > 9.2e18 {
            return Err(invalid());
        }
        Ok(KeepAlive::of_ns(if negative { -total } else { total }))
    }

    fn of_ns(ns: f64) -> KeepAlive {
        if (0.0..=9.2e18).contains(&ns) { KeepAlive::For(ns as u64) } else { KeepAlive::Forever }
    }
}
