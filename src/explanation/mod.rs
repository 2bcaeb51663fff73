//! Explains a decision: its steps in order, each with its finding, and the reason in words.
//!
//! A decision ends at the first step that refuses, so its reason says how far it came. The findings come from the same
//! functions and the same View that decided; nothing here decides. Credentials are named by header and key, and bodies by their
//! size: an explanation shows no secret and no prompt.

mod past;
mod present;
mod why;

pub use past::past;
pub use present::present;
pub use why::why;

use crate::decision::reason::{Code, Reason};
use serde::Serialize;

closed_enum! {
    /// The steps of a decision, in their order.
    #[derive(PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Step {
        /// The question is complete, and its network may ask now.
        Question = "question",
        /// Method and path are those of an endpoint.
        Route = "route",
        /// The caller is known.
        Caller = "caller",
        /// The plan permits the kind of endpoint.
        Plan = "plan",
        /// The body is there and can be read in one way only.
        Body = "body",
        /// The model exists, and the plan permits it.
        Model = "model",
        /// The plan permits the options that the request asks for.
        Options = "options",
        /// Rates, budgets and concurrency permit the request.
        Limits = "limits",
        /// A server takes the request.
        Server = "server",
    }
}

impl Step {
    /// Returns the step that refuses for this reason.
    pub fn refusing(reason: &Reason) -> Step {
        match reason {
            Reason::DeadlineMissed | Reason::MalformedInquiry | Reason::FailedCredentials => Step::Question,
            Reason::UnknownRoute | Reason::UnsafePath | Reason::ModelInQuery => Step::Route,
            Reason::RouteNotInPlan => Step::Plan,
            Reason::BodyHidden => Step::Body,
            Reason::OptionNotInPlan(_) | Reason::OverBound(_) => Step::Options,
            Reason::FleetUnknown => Step::Model,
            Reason::NeverFits { .. } | Reason::StoreAway => Step::Limits,
            // The rest of each code is one step.
            Reason::Shed | Reason::Full | Reason::QueueFull | Reason::QueueTimeout => Step::Server,
            other => match other.code() {
                Code::InvalidApiKey | Code::NotPermitted => Step::Caller,
                Code::UnknownRoute => Step::Route,
                Code::InvalidBody | Code::AmbiguousBody | Code::BodyNotVisible | Code::UnsupportedEncoding => {
                    Step::Body
                }
                Code::ModelNotFound => Step::Model,
                Code::ExceedsLimit => Step::Options,
                Code::RateLimitExceeded | Code::QuotaExceeded | Code::ConcurrencyExceeded => Step::Limits,
                Code::NoServer => Step::Server,
                Code::Overloaded => Step::Question,
            },
        }
    }
}

/// A step of a decision, with its finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepResult {
    /// Which.
    pub step: Step,
    /// Whether the decision went on after it.
    pub passed: bool,
    /// The finding, in one line.
    pub found: String,
}

/// The steps that were taken, as they are found.
struct Walk {
    /// The step at which the decision ended; `None` where none refused.
    end: Option<(Step, &'static str)>,
    taken: Vec<StepResult>,
}

impl Walk {
    fn new(reason: Option<&Reason>) -> Walk {
        Walk { end: reason.map(|reason| (Step::refusing(reason), why(reason))), taken: Vec::new() }
    }

    /// Adds a step, unless the decision ended before it.
    fn add(&mut self, step: Step, found: impl FnOnce() -> String) {
        match self.end {
            Some((end, _)) if end < step => {}
            Some((end, why)) if end == step => {
                let found = found();
                let found = if found.is_empty() { why.to_owned() } else { format!("{found}: {why}") };
                self.taken.push(StepResult { step, passed: false, found });
            }
            _ => self.taken.push(StepResult { step, passed: true, found: found() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::caller::token::TokenFault;
    use crate::decision::plan::limits::Holder;
    use crate::decision::request::body::{BodyFault, FaultKind};

    #[test]
    fn a_reason_belongs_to_the_step_that_finds_it() {
        for (reason, step) in [
            (Reason::FailedCredentials, Step::Question),
            (Reason::MalformedInquiry, Step::Question),
            (Reason::UnsafePath, Step::Route),
            (Reason::ModelInQuery, Step::Route),
            (Reason::RevokedKey, Step::Caller),
            (Reason::Blocked, Step::Caller),
            (Reason::UnknownTeam, Step::Caller),
            (Reason::OnBehalfAmbiguous, Step::Caller),
            (Reason::RouteNotInPlan, Step::Plan),
            (Reason::BodyHidden, Step::Body),
            (Reason::Encoding, Step::Body),
            (Reason::Body(BodyFault { at: 0, kind: FaultKind::Syntax }), Step::Body),
            (Reason::ModelNotInPlan, Step::Model),
            (Reason::FleetUnknown, Step::Model),
            (Reason::OptionNotInPlan("raw"), Step::Options),
            (Reason::Token(TokenFault::Expired), Step::Caller),
            (Reason::RequestRate(Holder::Team), Step::Limits),
            (Reason::Concurrency(Holder::User), Step::Limits),
            (Reason::NoServer, Step::Server),
            (Reason::Shed, Step::Server),
        ] {
            assert_eq!(Step::refusing(&reason), step, "{reason:?}");
        }
    }

    #[test]
    fn nothing_is_told_of_steps_that_were_not_taken() {
        let mut walk = Walk::new(Some(&Reason::UnknownKey));
        walk.add(Step::Route, || "a".to_owned());
        walk.add(Step::Caller, || "b".to_owned());
        walk.add(Step::Body, || unreachable!("not taken"));
        let told: Vec<_> = walk.taken.iter().map(|taken| (taken.step, taken.passed)).collect();
        assert_eq!(told, [(Step::Route, true), (Step::Caller, false)]);
        assert_eq!(walk.taken[1].found, format!("b: {}", why(&Reason::UnknownKey)));
    }
}
