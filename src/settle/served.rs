//! What a usage line says of the server: whether it served the request well, badly, or neither can be said.
//!
//! Only what a server did is held against it: a client that left, a queue that was too long and a session that the proxy
//! ended prove nothing.

use super::line::UsageLine;
use crate::decision::fleet::ServiceResult;

/// Returns how the line says that the request went at its server.
pub fn served(line: &UsageLine) -> Option<ServiceResult> {
    let status = line.status?;
    // A stream of no content, and no word of what was used.
    let is_empty = line.units == Some(0) && line.tokens_out.is_none();
    let by_status = || match status {
        200..=299 if line.failed => Some(ServiceResult::Badly("error in the stream")),
        200..=299 if is_empty => Some(ServiceResult::Badly("empty")),
        200..=299 => Some(ServiceResult::Well),
        429 | 503 => Some(ServiceResult::Full),
        500..=599 => Some(ServiceResult::Badly("status")),
        _ => None,
    };
    match line.end.as_bytes() {
        // HAProxy's termination state (configuration manual 8.5): by whom, and in which phase.
        [b'S', b'C' | b'Q'] => Some(ServiceResult::Badly("connect")),
        // The time in the queue is over: the proxy's doing.
        [b's', b'Q'] => None,
        [b's', b'C'] => Some(ServiceResult::Badly("connect timeout")),
        [b's', b'H'] => Some(ServiceResult::Badly("no answer in time")),
        [b's', b'D' | b'L'] => Some(ServiceResult::Badly("stalled")),
        [b'S', _] => Some(ServiceResult::Badly("broke off")),
        [b'-', b'-'] => by_status(),
        [_, _] if line.end != "OK" => None,
        // nginx: the request was completed. What was not may be the client's doing as well.
        b"OK" => by_status(),
        _ => match status {
            502 => Some(ServiceResult::Badly("connect")),
            504 => Some(ServiceResult::Badly("no answer in time")),
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
            ("200", "--", Some(ServiceResult::Well)),
            ("200", "OK", Some(ServiceResult::Well)),
            ("500", "--", Some(ServiceResult::Badly("status"))),
            ("503", "OK", Some(ServiceResult::Full)),
            ("429", "--", Some(ServiceResult::Full)),
            ("404", "--", None),
            ("400", "OK", None),
            ("503", "SC", Some(ServiceResult::Badly("connect"))),
            ("504", "sH", Some(ServiceResult::Badly("no answer in time"))),
            ("200", "sD", Some(ServiceResult::Badly("stalled"))),
            ("200", "SD", Some(ServiceResult::Badly("broke off"))),
            ("502", "SH", Some(ServiceResult::Badly("broke off"))),
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
            ("502", "", Some(ServiceResult::Badly("connect"))),
            ("504", "", Some(ServiceResult::Badly("no answer in time"))),
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
            (None, None, false, ServiceResult::Well),
            (Some(3), None, false, ServiceResult::Well),
            (Some(0), Some(0), false, ServiceResult::Well), // it says itself that it generated nothing
            (Some(0), None, false, ServiceResult::Badly("empty")),
            (Some(3), None, true, ServiceResult::Badly("error in the stream")),
        ];
        for (units, tokens_out, failed, expected) in cases {
            let line = UsageLine { units, tokens_out, failed, ..line.clone() };
            assert_eq!(served(&line), Some(expected), "{line:?}");
        }
    }
}
