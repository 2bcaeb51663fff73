//! The request limits of a plan: length of the answer, context, time for which a model stays loaded, template, images.
//!
//! Scheme. An option that the plan does not permit at all is refused with `not_permitted`, one above its limit with
//! `exceeds_limit`, which names option and limit. An option counts wherever its key stands at its place in the body,
//! whether or not the server of this endpoint reads it: being strict costs nobody anything, and servers change. Only
//! the length of an answer is judged by what the servers of the model's pool read in the body (see `bounds`), because
//! there a key that no server reads would be no bound at all.

use super::bounds::Output;
use super::excess::{OptionExcess, RequestedAmount, Unit};
use super::server::ServerKind;
use crate::decision::reason::Reason;
use crate::decision::request::body::{Body, BodyFault, FaultKind, KeepAlive, Watched};
use crate::decision::request::endpoint::Endpoint;
use crate::decision::verdict::Refusal;

/// The request limits of a plan. The default permits everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// Most LLM tokens that may be generated for one request, over all its answers.
    pub max_output: Option<u64>,
    /// What happens to a request that gives no bound although the plan has one; `None` if the operator did not say.
    pub left_open: Option<LeftOpen>,
    /// Largest `num_ctx`, in LLM tokens.
    pub max_context: Option<u64>,
    /// How long a caller may ask a model to stay loaded.
    pub keep_alive: KeepAliveLimit,
    /// Whether `raw` and prompt templates of the caller's own are refused.
    pub template_only: bool,
    /// Most images of a request.
    pub max_images: Option<u32>,
    /// Longest text of an image, in bytes as it stands in the body.
    pub max_image_size: Option<u64>,
}

/// What happens to a request that leaves the length of its answer open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOpen {
    /// The request passes, and the server's default applies.
    Allow,
    /// The request is refused: the caller must give a bound.
    Refuse,
}

/// How long a caller may ask a model to stay loaded (`keep_alive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepAliveLimit {
    /// Any time, including for ever and not at all.
    #[default]
    Any,
    /// At least a second, at most so many seconds. A shorter time unloads the model for everybody, and for ever pins
    /// it.
    AtMost(u64),
    /// The option must not be present.
    Deny,
}

impl Allowance {
    /// Returns whether no body can be refused, so that no body need be seen.
    pub fn permits_all(&self) -> bool {
        *self == Allowance { left_open: self.left_open, ..Allowance::default() }
    }

    /// Checks the options of a request that goes to a server of one of these kinds.
    ///
    /// # Errors
    /// [`Reason::OptionNotInPlan`] or [`Reason::OverBound`]; [`Reason::Body`] for a `keep_alive` that is not a
    /// duration.
    pub fn check(
        &self,
        kinds: impl Iterator<Item = ServerKind>,
        endpoint: Endpoint,
        body: &Body,
    ) -> Result<(), Refusal> {
        if self.template_only && body.raw.as_ref().and_then(|raw| raw.value) == Some(true) {
            return Err(not_in_plan("raw"));
        }
        if self.template_only && body.has_template {
            return Err(not_in_plan("template"));
        }
        self.check_keep_alive(body)?;
        at_most("num_ctx", body.num_ctx.as_ref().and_then(given), self.max_context, Unit::Context)?;
        at_most("images", Some(u64::from(body.images)), self.max_images.map(u64::from), Unit::Images)?;
        at_most("images", Some(body.largest_image), self.max_image_size, Unit::Bytes)?;
        match self.max_output {
            Some(bound) => self.check_output(bound, kinds, endpoint, body),
            None => Ok(()),
        }
    }

    fn check_output(
        &self,
        bound: u64,
        kinds: impl Iterator<Item = ServerKind>,
        endpoint: Endpoint,
        body: &Body,
    ) -> Result<(), Refusal> {
        let over = |option, asked| over(OptionExcess { option, asked, bound, unit: Unit::Output });
        // A pool of a thousand servers still has two kinds.
        let mut judged = [false; 2];
        for kind in kinds {
            if std::mem::replace(&mut judged[kind as usize & 1], true) {
                continue;
            }
            match Output::asked(kind, endpoint, body) {
                Output::Endless(key) => return Err(over(key.as_str(), RequestedAmount::Endless)),
                Output::Bounded { key, tokens, answers: 1 } if tokens > bound => {
                    return Err(over(key.as_str(), RequestedAmount::Given(tokens)));
                }
                Output::Bounded { key, tokens, answers } if tokens > bound => {
                    return Err(over(key.as_str(), RequestedAmount::Times(tokens, answers)));
                }
                _ => {}
            }
            if self.left_open == Some(LeftOpen::Refuse)
                && let Some(key) = Output::left_open(kind, endpoint, body)
            {
                return Err(over(key.as_str(), RequestedAmount::Open));
            }
        }
        Ok(())
    }

    fn check_keep_alive(&self, body: &Body) -> Result<(), Refusal> {
        let Some(Watched { value: Some(value), start, .. }) = &body.keep_alive else { return Ok(()) };
        let most = match self.keep_alive {
            KeepAliveLimit::Any => return Ok(()),
            KeepAliveLimit::Deny => return Err(not_in_plan("keep_alive")),
            KeepAliveLimit::AtMost(seconds) => seconds,
        };
        let unreadable = BodyFault { at: *start, kind: FaultKind::WrongType("keep_alive") };
        let seconds = seconds(value).ok_or(Refusal::new(Reason::Body(unreadable)))?;
        // `exceeds_limit` would be no help: the plan permits neither unloading nor pinning, whatever its limit.
        if seconds < 1.0 {
            return Err(not_in_plan("keep_alive"));
        }
        // Rounded up, so that the client reads a number above the limit. A cast from a float saturates.
        at_most("keep_alive", Some(seconds.ceil() as u64), Some(most), Unit::Seconds)
    }
}

/// Returns a number that asks for something; 0 and less stand for a server's minimum.
fn given(watched: &Watched<i64>) -> Option<u64> {
    watched.value.and_then(|value| u64::try_from(value).ok())
}

fn at_most(option: &'static str, asked: Option<u64>, bound: Option<u64>, unit: Unit) -> Result<(), Refusal> {
    match (asked, bound) {
        (Some(asked), Some(bound)) if asked > bound => {
            Err(over(OptionExcess { option, asked: RequestedAmount::Given(asked), bound, unit }))
        }
        _ => Ok(()),
    }
}

fn over(excess: OptionExcess) -> Refusal {
    Refusal::new(Reason::OverBound(excess))
}

fn not_in_plan(option: &'static str) -> Refusal {
    Refusal::new(Reason::OptionNotInPlan(option))
}

/// Returns a `keep_alive` in seconds, as Ollama reads it (`api/types.go`, `Duration`): a number of seconds, or a Go
/// duration.
fn seconds(written: &KeepAlive) -> Option<f64> {
    match written {
        KeepAlive::Number(number) => number.as_str().parse().ok().filter(|_| !number.cut),
        KeepAlive::Text(text) if text.cut => None,
        KeepAlive::Text(text) => go_duration(text.as_str()),
    }
}

/// Parses Go's `time.ParseDuration`, in seconds: `[-+]?([0-9]*(\.[0-9]*)?UNIT)+`, or a zero without unit.
fn go_duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, text.get(1..)?),
        b'+' => (1.0, text.get(1..)?),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut total = 0.0;
    while !rest.is_empty() || total == 0.0 {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        // Go requires a digit and at most one point; so does this parser, which accepts "1." and ".5" as Go does.
        let number: f64 = number.parse().ok()?;
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        total += number
            * match unit {
                "ns" => 1e-9,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("5m", Some(300.0)),
            ("1h30m", Some(5_400.0)),
            ("1.5h", Some(5_400.0)),
            (".5s", Some(0.5)),
            ("1.s", Some(1.0)),
            ("+5s", Some(5.0)),
            ("-1m", Some(-60.0)),
            ("-1", None),
            ("0", Some(0.0)),
            ("-0", Some(0.0)),
            ("0s", Some(0.0)),
            ("0h0m", Some(0.0)),
            ("1500ms", Some(1.5)),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1..2s", None),
            ("5 m", None),
            ("5M", None),
            ("1d", None),
            ("forever", None),
            ("1e3s", None),
            ("infs", None),
            ("99999999999999999999h", Some(99_999_999_999_999_999_999.0 * 3_600.0)),
        ] {
            assert_eq!(go_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_what_no_body_can_break_needs_no_body() {
        assert!(Allowance::default().permits_all());
        assert!(Allowance { left_open: Some(LeftOpen::Refuse), ..Allowance::default() }.permits_all());
        for bounded in [
            Allowance { max_output: Some(1), ..Allowance::default() },
            Allowance { max_context: Some(1), ..Allowance::default() },
            Allowance { keep_alive: KeepAliveLimit::AtMost(1), ..Allowance::default() },
            Allowance { keep_alive: KeepAliveLimit::Deny, ..Allowance::default() },
            Allowance { template_only: true, ..Allowance::default() },
            Allowance { max_images: Some(1), ..Allowance::default() },
            Allowance { max_image_size: Some(1), ..Allowance::default() },
        ] {
            assert!(!bounded.permits_all(), "{bounded:?}");
        }
    }
}
