//! What a usage line says of the server: whether it served the request well, badly, or neither can be said.
//!
//! Only what a server did is held against it: a client that left, a queue that was too long and a session that the proxy
//! ended prove nothing.

use super::line::UsageLine;
use crate::decision::fleet::Served;

/// Judges a line.
pub fn served(line: &UsageLine) -> Option<Served> {
    let status: u16 = line.status.parse().ok()?;
    let by_status = || match status {
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
            ("99999", "--", None),
        ];
        for (status, end, expected) in cases {
            let line = UsageLine { status: status.into(), end: end.into(), ..UsageLine::default() };
            assert_eq!(served(&line), expected, "{status} {end}");
        }
    }
}
