//! What a usage line says of the server: whether it served the request well, badly, or neither can be said.
//!
//! Only what a server did is held against it: a client that left, a queue that was too long and a session that the proxy
//! ended prove nothing.

use super::line::UsageLine;
use crate::decision::fleet::Served;

/// Returns how the line says that the request went at its server.
pub fn served(line: &UsageLine) -> Option<Served> {
    let status = line.status?;
    // A stream of no content, and no word of what was used.
    let is_empty = line.units == Some(0) && line.tokens_out.is_none();
    let by_status = || match status {
        200..=299 if line.failed => Some(Served::Badly("error in the stream")),
        200..=299 if is_empty => Some(Served::Badly("empty")),
        200..=299 => Some(Served::Well),
        429 | 503 => Some(Served::Full),
        500..=599 => Some(Served::Badly("status")),
        _ => None,
    };
    match line.end.as_bytes() {
        // HAProxy's termination state (configuration manual 8.5): by whom, and in which phase.
        [b'S', b'C' | b'Q'] => Some(Served::Badly("connect")),
        // The time in the queue is over: the proxy's doing.
        [b's', b'Q'] => None,
        [b's', b'C'] => Some(Served::Badly("connect timeout")),
        [b's', b'H'] => Some(Served::Badly("no answer in time")),
        [b's', b'D' | b'L'] => Some(Served::Badly("stalled")),
        [b'S', _] => Some(Served::Badly("broke off")),
        [b'-', b'-'] => by_status(),
        [_, _] if line.end != "OK" => None,
        // nginx: the request was completed. What was not may be the client's doing as well.
        b"OK" => by_status(),
        _ => match status {
            502 => Some(Served::Badly("connect")),
            504 => Some(Served::Badly("no answer in time")),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_did_is_held_against_it() {
        let cases = [
            ("200", "--", Some(Served::Well)),
            ("200", "OK", Some(Served::Well)),
            ("500", "--", Some(Served::Badly("status"))),
            ("503", "OK", Some(Served::Full)),
            ("429", "--", Some(Served::Full)),
            ("404", "--", None),
            ("400", "OK", None),
            ("503", "SC", Some(Served::Badly("connect"))),
            ("504", "sH", Some(Served::Badly("no answer in time"))),
            ("200", "sD", Some(Served::Badly("stalled"))),
            ("200", "SD", Some(Served::Badly("broke off"))),
            ("502", "SH", Some(Served::Badly("broke off"))),
            // Clients that left, queues, and what the proxy itself did.
            ("200", "CD", None),
            ("-1", "CH", None),
            ("503", "sQ", None),
            ("503", "CQ", None),
            ("503", "PR", None),
            ("503", "LR", None),
            ("200", "cD", None),
            ("200", "DD", None),
            ("499", "", None),
            ("200", "", None),
            ("502", "", Some(Served::Badly("connect"))),
            ("504", "", Some(Served::Badly("no answer in time"))),
            ("", "--", None),
            ("600", "--", None),
        ];
        for (status, end, expected) in cases {
            let line = UsageLine { status: status.parse().ok(), end: end.into(), ..UsageLine::default() };
            assert_eq!(served(&line), expected, "{status} {end}");
        }
    }

    #[test]
    fn a_200_that_brought_nothing_or_an_error_is_no_success() {
        let line = UsageLine { status: Some(200), end: "--".into(), ..UsageLine::default() };
        let cases = [
            (None, None, false, Served::Well),
            (Some(3), None, false, Served::Well),
            (Some(0), Some(0), false, Served::Well), // it says itself that it generated nothing
            (Some(0), None, false, Served::Badly("empty")),
            (Some(3), None, true, Served::Badly("error in the stream")),
        ];
        for (units, tokens_out, failed, expected) in cases {
            let line = UsageLine { units, tokens_out, failed, ..line.clone() };
            assert_eq!(served(&line), Some(expected), "{line:?}");
        }
    }
}
