//! The steps of a remembered decision, as the control socket answers them.

use super::{Step, StepResult, Walk, why};
use crate::decision::answer::dialect::refusal_body;
use crate::decision::reason::Reason;
use crate::decision::verdict::Refusal;
use crate::files::problem::masked;
use crate::gate::recent::{Past, PastOutcome};
use crate::time::date;
use serde_json::{Value, json};

/// Returns a past decision as JSON: its facts, its steps, and why it was refused.
pub fn past(past: &Past) -> Value {
    let or_none = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let refusal = past.reason.clone().map(|reason| Refusal {
        retry_after_s: past.retry_after_s,
        standing: past.standing,
        model: or_none(past.model.as_str()).map(Into::into),
        ..Refusal::new(reason)
    });
    let verdict = match past.end {
        PastOutcome::Allow => "allow",
        PastOutcome::Answer => "answer",
        PastOutcome::Refuse => "refuse",
    };
    let fault = match &past.reason {
        Some(Reason::Body(fault)) => Some(fault.at),
        _ => None,
    };
    json!({
        "id": format!("{:032x}", past.id),
        "at": date::format(past.at.unix_ms),
        "ingress": past.ingress.as_str(),
        "src": past.source,
        "method": past.method.as_str(),
        "path": masked(past.path.as_str()),
        "endpoint": past.endpoint.map(|endpoint| endpoint.as_str()),
        "verdict": verdict,
        "status": refusal.as_ref().map_or(200, Refusal::status),
        "code": refusal.as_ref().map(|refusal| refusal.code().as_str()),
        "reason": past.reason.as_ref().map(Reason::as_str),
        "at_byte": fault,
        "caller": or_none(past.caller.as_str()),
        "plan": or_none(past.plan.as_str()),
        "raised_plan": or_none(past.raised.as_str()),
        "team": or_none(past.team.as_str()),
        "model": or_none(past.model.as_str()),
        "server": or_none(past.server.as_str()),
        "server2": or_none(past.server2.as_str()),
        "retry_after_s": past.retry_after_s,
        "limit": past.standing.map(|standing| standing.limit),
        "remaining": past.standing.map(|standing| standing.remaining),
        "why": past.reason.as_ref().map(why),
        "body": refusal.as_ref().map(|refusal| refusal_body(refusal, past.dialect)),
        "steps": steps(past),
    })
}

fn steps(past: &Past) -> Vec<StepResult> {
    let mut walk = Walk::new(past.reason.as_ref());
    let quoted = |text: &str| if text.is_empty() { String::new() } else { format!("\"{}\"", text.escape_debug()) };
    if walk.end.is_some_and(|(end, _)| end == Step::Question) {
        walk.add(Step::Question, String::new);
        return walk.taken;
    }
    walk.add(Step::Route, || {
        let asked = format!("{} {}", past.method.as_str().escape_debug(), masked(past.path.as_str()).escape_debug());
        past.endpoint.map_or(asked.clone(), |endpoint| format!("{asked} is endpoint {}", endpoint.as_str()))
    });
    walk.add(Step::Caller, || match (past.caller.as_str(), past.team.as_str()) {
        (caller, "") => quoted(caller),
        (caller, team) => format!("{}, of team {}", quoted(caller), quoted(team)),
    });
    walk.add(Step::Plan, || format!("plan {}", quoted(past.plan.as_str())));
    let answered_here = past.endpoint.is_some_and(|endpoint| endpoint.is_answered_here());
    if !answered_here {
        walk.add(Step::Body, || match &past.reason {
            Some(Reason::Body(fault)) => format!("at byte {}", fault.at),
            _ => "read".to_owned(),
        });
    }
    // A refusal after the model was resolved does not carry it.
    let ended = walk.end.map(|(end, _)| end);
    if !past.model.as_str().is_empty() || ended == Some(Step::Model) {
        walk.add(Step::Model, || quoted(past.model.as_str()));
    }
    if answered_here {
        return walk.taken;
    }
    if ended == Some(Step::Options) {
        let option = past.reason.as_ref().and_then(Reason::option).unwrap_or_default();
        walk.add(Step::Options, || option.to_owned());
    }
    walk.add(Step::Limits, || {
        let by = match past.raised.as_str() {
            "" => String::new(),
            plan => format!(", raised to plan {}", quoted(plan)),
        };
        match past.standing {
            Some(standing) => format!("{} of {} left{by}", standing.remaining, standing.limit),
            None => format!("not limited by a rate{by}"),
        }
    });
    walk.add(Step::Server, || match past.server2.as_str() {
        "" => past.server.as_str().to_owned(),
        second => format!("{}, else {second}", past.server.as_str()),
    });
    walk.taken
}
