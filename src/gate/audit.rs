//! The audit log: who was refused what and why, and which keys changed. One structured line each, target
//! `herdgate::audit`, so that it can be kept apart (`--log-json` and a filter on `target`).
//!
//! Scheme. An attacker decides how many refusals there are, and must not decide how large the log grows. For each
//! (reason, caller or network) the first ten a minute are written at INFO, and at the minute's end how many were not.
//! Over all of them, refusals of known callers and of strangers have a budget each, so that strangers from very many
//! networks neither fill the disk nor silence what callers did. All other lines are written at DEBUG, which operators turn on
//! to look and do not keep. Values of clients are escaped and cut; credentials, queries and prompts are never logged.

use super::case::Case;
use crate::decision::caller::authenticate::Caller;
use crate::decision::caller::keyset::KeyChanges;
use crate::decision::caller::network::Network;
use crate::decision::inquiry::BodyShown;
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scope;
use crate::decision::reason::Reason;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::verdict::Refusal;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Target of every line.
pub const TARGET: &str = "herdgate::audit";

/// Length of a window.
pub const WINDOW_NS: u64 = 60_000_000_000;

/// Most lines of one (reason, caller or network) in a window.
pub const LINES_EACH: u64 = 10;

/// Most lines of all known callers together, in a window.
pub const LINES_OF_CALLERS: u64 = 3_000;

/// Most lines of all strangers together, in a window.
pub const LINES_OF_STRANGERS: u64 = 300;

/// Most pairs of reason and source that are counted apart in a window; the rest count as one.
const SOURCES_MAX: usize = 8_192;

/// Most summary lines of a window. The sources with the most refusals have them.
const SUMMARIES_MAX: usize = 100;

/// Most key changes of one reload that have a line each.
pub const KEY_CHANGES_MAX: usize = 1_000;

/// Who was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AuditSource {
    Caller(Scope),
    Stranger(Network),
    /// Every source past [`SOURCES_MAX`].
    Others,
}

/// The audit log: decides which lines are written, and writes them.
#[derive(Debug, Default)]
pub struct Audit {
    window: Mutex<SampleWindow>,
}

#[derive(Debug, Default)]
struct SampleWindow {
    begun_ns: u64,
    callers: Side,
    strangers: Side,
}

/// Refusals of one window, of callers or of strangers.
#[derive(Debug, Default)]
struct Side {
    refused: HashMap<(&'static str, AuditSource), Refused>,
    written: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Refused {
    written: u64,
    left_out: u64,
}

/// Number of refusals of one source for one reason that had no line.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    reason: &'static str,
    source: AuditSource,
    count: u64,
}

/// A request that a rule would refuse, and whether it was refused.
#[derive(Debug, Clone, Copy)]
pub enum Against<'r> {
    /// The request was refused.
    Refused(&'r Refusal),
    /// The request passed, because the limit is a shadow.
    Passed(&'r Refusal),
}

impl Audit {
    /// Writes a line about a request that was refused, or that a shadow limit would refuse.
    pub(super) fn note(&self, case: &Case<'_, '_>, against: Against<'_>) {
        let Case { id, judged, question, now, .. } = case;
        let (id, inquiry, ingress, now) = (id.as_str(), question.inquiry, question.ingress.as_str(), *now);
        let (Against::Refused(refusal) | Against::Passed(refusal)) = against;
        let shadow = matches!(against, Against::Passed(_));
        let source = match (judged.key, judged.caller.filter(|_| judged.user.is_some())) {
            (Some(key), _) => AuditSource::Caller(key.scope),
            (None, Some(caller)) => AuditSource::Caller(caller.scope),
            (None, None) => AuditSource::Stranger(Network::of(inquiry.source)),
        };
        let caller = judged.key.map(|key| &*key.name).or(judged.caller.map(|caller| caller.name)).unwrap_or("-");
        let plan = judged.caller.map_or("-", |caller| &*caller.plan.name);
        let team = judged.caller.as_ref().and_then(Caller::team).map(|team| &*team.name);
        let behalf = judged.key.and_then(|key| key.on_behalf.as_ref()).and(inquiry.on_behalf.field.value);
        let user = judged.user.as_ref().map(|user| user.token.user.as_bytes()).or(behalf);
        macro_rules! line {
            ($level:ident, $what:literal) => {
                tracing::$level!(
                    target: TARGET,
                    id,
                    uid = %printable(inquiry.uid),
                    src = ?inquiry.source,
                    ingress,
                    endpoint = judged.endpoint.map_or("-", Endpoint::as_str),
                    method = %printable(inquiry.method),
                    path = %printable(path_of(inquiry.target)),
                    caller,
                    user = user.map(|user| printable(user).to_string()),
                    team,
                    plan,
                    model = refusal.model.as_deref().map(|model| printable(model.as_bytes()).to_string()),
                    status = refusal.status(),
                    code = refusal.code().as_str(),
                    reason = refusal.reason.as_str(),
                    option = refusal.reason.option(),
                    at_byte = fault_position(refusal),
                    body_bytes = body_bytes(&inquiry.body),
                    $what
                )
            };
        }
        match (self.admit(refusal.reason.as_str(), source, now), shadow) {
            (true, false) => line!(info, "refused"),
            (true, true) => line!(info, "would be refused"),
            (false, false) => line!(debug, "refused"),
            (false, true) => line!(debug, "would be refused"),
        }
    }

    /// Writes a line about a request that was refused after it had waited.
    pub fn refused_after_waiting(&self, id: &str, caller: Scope, refusal: &Refusal, waited_ms: u64, now: Moment) {
        let (reason, status) = (refusal.reason.as_str(), refusal.status());
        if self.admit(reason, AuditSource::Caller(caller), now) {
            tracing::info!(target: TARGET, id, status, reason, waited_ms, "refused after waiting");
        } else {
            tracing::debug!(target: TARGET, id, status, reason, waited_ms, "refused after waiting");
        }
    }

    /// Writes the summary of the window that is over, if one is. Called every second.
    pub fn tick(&self, now: Moment) {
        tell(&self.lock().turn(now));
    }

    /// Returns whether a line is written at INFO.
    fn admit(&self, reason: &'static str, source: AuditSource, now: Moment) -> bool {
        let mut window = self.lock();
        let left_out = window.turn(now);
        let written = window.admit(reason, source);
        drop(window);
        tell(&left_out);
        written
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SampleWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SampleWindow {
    /// Begins the next window where this one is over. Returns the refusals that had no line in this one.
    fn turn(&mut self, now: Moment) -> Vec<LeftOut> {
        if now.mono_ns < self.begun_ns.saturating_add(WINDOW_NS) {
            return Vec::new();
        }
        let over = std::mem::replace(self, SampleWindow { begun_ns: now.mono_ns, ..SampleWindow::default() });
        let refused = over.callers.refused.into_iter().chain(over.strangers.refused);
        let left_out = refused.map(|((reason, source), refused)| LeftOut { reason, source, count: refused.left_out });
        let mut found: Vec<LeftOut> = left_out.filter(|left_out| left_out.count > 0).collect();
        // Sources with the most refusals come first, because only some are kept.
        found.sort_by_key(|left_out| std::cmp::Reverse(left_out.count));
        found.truncate(SUMMARIES_MAX);
        found
    }

    fn admit(&mut self, reason: &'static str, source: AuditSource) -> bool {
        match source {
            AuditSource::Caller(_) => self.callers.admit(reason, source, LINES_OF_CALLERS),
            AuditSource::Stranger(_) | AuditSource::Others => self.strangers.admit(reason, source, LINES_OF_STRANGERS),
        }
    }
}

impl Side {
    fn admit(&mut self, reason: &'static str, source: AuditSource, most: u64) -> bool {
        let has_room = self.refused.len() < SOURCES_MAX || self.refused.contains_key(&(reason, source));
        let source = if has_room { source } else { AuditSource::Others };
        let refused = self.refused.entry((reason, source)).or_default();
        let is_written = refused.written < LINES_EACH && self.written < most;
        let count = if is_written { &mut refused.written } else { &mut refused.left_out };
        *count = count.saturating_add(1);
        self.written = self.written.saturating_add(u64::from(is_written));
        is_written
    }
}

fn tell(left_out: &[LeftOut]) {
    for LeftOut { reason, source, count } in left_out {
        let network = match source {
            AuditSource::Stranger(network) => Some(*network),
            AuditSource::Caller(_) | AuditSource::Others => None,
        };
        let known = matches!(source, AuditSource::Caller(_));
        tracing::info!(target: TARGET, reason, ?network, known, count, "refused as well, without a line each");
    }
}

/// Writes a line for each key that changed. `owner` is the user that the key file belongs to.
pub fn keys_changed(changes: &KeyChanges<'_>, owner: Option<u32>) {
    for change in &changes.first {
        let (raised_plan, until) = change.raised.map(|(plan, until)| (plan, crate::time::date::format(until))).unzip();
        tracing::info!(target: TARGET, key = change.name, what = change.what, owner, raised_plan, until, "key changed");
    }
    let left_out = changes.total.saturating_sub(changes.first.len());
    if left_out > 0 {
        tracing::info!(target: TARGET, count = left_out, "keys changed as well, without a line each");
    }
}

/// Writes a line about a command that an operator gave over the control socket.
pub fn commanded(what: &'static str, kind: &'static str, name: &str, seconds: Option<u64>) {
    let name = printable(name.as_bytes());
    tracing::info!(target: TARGET, kind, %name, seconds, "{what}");
}

fn fault_position(refusal: &Refusal) -> Option<u64> {
    match &refusal.reason {
        Reason::Body(fault) => Some(fault.at),
        _ => None,
    }
}

fn body_bytes(body: &BodyShown<'_>) -> Option<u64> {
    match body {
        BodyShown::Bytes { size, .. } => Some(*size),
        BodyShown::Read(Ok(body)) => Some(body.len),
        BodyShown::Read(Err(_)) | BodyShown::TooLarge | BodyShown::Hidden => None,
    }
}

/// Returns the target without its query, which may carry a key (`?key=…`) and is never logged or kept.
pub fn path_of(target: &[u8]) -> &[u8] {
    target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default()
}

/// Returns a client's bytes as a log may show them: at most 128, printable ASCII, the rest escaped.
pub fn printable(bytes: &[u8]) -> std::slice::EscapeAscii<'_> {
    bytes.get(..128).unwrap_or(bytes).escape_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64) -> Moment {
        Moment { mono_ns: WINDOW_NS + ns, unix_ms: 0 }
    }

    fn stranger(number: u32) -> AuditSource {
        AuditSource::Stranger(Network::V4(number.to_be_bytes()))
    }

    #[test]
    fn the_first_ten_a_minute_of_each_are_written_and_the_rest_counted() {
        let mut window = SampleWindow::default();
        assert_eq!(window.turn(at(0)), []);
        let written = |window: &mut SampleWindow, reason, source, times: u32| {
            (0..times).filter(|_| window.admit(reason, source)).count()
        };
        assert_eq!(written(&mut window, "unknown_key", stranger(1), 25), 10);
        assert_eq!(written(&mut window, "unknown_key", stranger(2), 5), 5);
        assert_eq!(written(&mut window, "early_key", stranger(1), 5), 5);
        assert_eq!(window.turn(at(WINDOW_NS - 1)), []);
        let expected = LeftOut { reason: "unknown_key", source: stranger(1), count: 15 };
        assert_eq!(window.turn(at(WINDOW_NS)), [expected]);
        assert_eq!(written(&mut window, "unknown_key", stranger(1), 25), 10, "another minute");
    }

    #[test]
    fn strangers_from_very_many_networks_neither_fill_the_disk_nor_silence_callers() {
        let mut window = SampleWindow::default();
        window.turn(at(0));
        let networks = 3 * SOURCES_MAX as u32;
        let written = (0..networks).filter(|number| window.admit("unknown_key", stranger(*number))).count();
        assert_eq!(written as u64, LINES_OF_STRANGERS);
        let held = window.strangers.refused.len();
        assert!(held <= SOURCES_MAX + 30, "{held} held; one more for each reason, at most");
        assert!(window.admit("unknown_key", AuditSource::Caller(Scope(1))));
        let written = (0..10_000).filter(|n| window.admit("request_rate", AuditSource::Caller(Scope(*n)))).count();
        assert_eq!(written as u64, LINES_OF_CALLERS - 1);
        assert_eq!(window.turn(at(WINDOW_NS)).len(), SUMMARIES_MAX);
    }
}
