//! What a usage line says of a request, in the ledger's words.

use super::line::UsageLine;
use crate::ledger::tokens::charge::ObservedUsage;

/// Returns what a line says of the request's use.
pub fn observed(line: &UsageLine) -> ObservedUsage {
    ObservedUsage {
        server: line.server.as_str().into(),
        reached: line.reached,
        answered: line.answered,
        // HAProxy's two dashes: neither side, and no phase, cut it off. nginx's word for the same.
        complete: matches!(line.end.as_str(), "--" | "OK"),
        failed: line.failed,
        status: line.status.and_then(|status| u16::try_from(status).ok()),
        tokens_in: line.tokens_in,
        tokens_out: line.tokens_out,
        units: line.units,
        bytes_out: line.bytes_out,
        // nginx counts what it read, HAProxy what it parsed.
        framed: matches!(line.end.as_str(), "" | "OK"),
        ms: line.ms_total,
        ms_served: line.ms_total.map(|total| total.saturating_sub(line.ms_queue.unwrap_or(0))),
    }
}
