//! The first half of a decision: route, authenticate, read the body, resolve the model, name the limits. Pure.

use super::authenticate::{Caller, Identity, authenticate};
use super::body::{Body, BodyFault, BodyReader, FaultKind};
use super::inquiry::{BodyShown, Inquiry};
use super::keyset::Key;
use super::limits::{Concurrency, Holder, Limit, Limits, Quota, Scope, Seats, User};
use super::moment::Moment;
use super::priority::Priority;
use super::resolve::resolve;
use super::roster::Pool;
use super::route::{Class, Dialect, Endpoint, Route, percent_decoded, route};
use super::token::{self, Afresh, Tokens};
use super::verdict::{Answer, Reason, Refusal};
use super::view::View;

/// What judging an inquiry came to, and what is worth writing down of it whatever that is.
#[derive(Debug, Clone)]
pub struct Judged<'v> {
    /// How a refusal must be written.
    pub dialect: Dialect,
    /// The endpoint, once known.
    pub endpoint: Option<Endpoint>,
    /// The caller, once known.
    pub caller: Option<Caller<'v>>,
    /// The key, once known, also where it may not call.
    pub key: Option<&'v Key>,
    /// The user that the caller's token names.
    pub user: Option<token::User>,
    /// Claim, answer or refusal.
    pub judgement: Judgement<'v>,
}

/// The three ends of judging. Claims are large because limits are kept in place: one is made a decision and none is
/// stored, while a box would cost the hot path an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Judgement<'v> {
    /// May pass, if the limits allow it and a server can take it.
    Claim(Claim<'v>),
    /// herdgate answers it.
    Answer(Answer<'v>),
    /// May not pass.
    Refuse(Refusal),
}

/// A judged request: what it wants, and which limits it must take from.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'v> {
    /// The pool of its model; `None` where the ingress hides bodies and the plan permits every model.
    pub pool: Option<&'v Pool>,
    /// Limits to take from, all or none.
    pub limits: Limits,
    /// Whose slots to take; empty for what is unmetered.
    pub seats: Seats,
    /// The user behind the caller, whose scope is among both.
    pub user: Option<User>,
    /// Its place in queues.
    pub priority: Priority,
}

/// Below this many bytes an unfinished document is the client's mistake; above, the proxy's buffer was too small for it.
/// No HAProxy buffer is this small: `tune.bufsize` defaults to 16 KiB.
const PREFIX_MIN: usize = 4096;

/// Judges an inquiry: the steps of `DESIGN.md`, in order. Each step can only end the decision or narrow it.
pub fn judge<'v>(view: &'v View, inquiry: &Inquiry<'_>, now: Moment) -> Judged<'v> {
    judge_with(view, inquiry, &Afresh, now)
}

/// The same, with tokens proven by `tokens`, which may remember some.
pub fn judge_with<'v>(view: &'v View, inquiry: &Inquiry<'_>, tokens: &dyn Tokens, now: Moment) -> Judged<'v> {
    let route = match route(inquiry.method, inquiry.target) {
        Ok(route) => route,
        Err((reason, dialect)) => {
            let judgement = Judgement::Refuse(Refusal::new(reason));
            return Judged { dialect, endpoint: None, caller: None, key: None, user: None, judgement };
        }
    };
    let mut judged = Judged {
        dialect: route.dialect,
        endpoint: Some(route.endpoint),
        caller: None,
        key: None,
        user: None,
        judgement: Judgement::Refuse(Refusal::new(Reason::NoCredential)),
    };
    let caller = match authenticate(view, inquiry, tokens, now) {
        Ok((caller, user)) => {
            judged.user = user;
            caller
        }
        Err(turned) => {
            judged.key = turned.key;
            judged.judgement = Judgement::Refuse(Refusal::new(turned.reason));
            return judged;
        }
    };
    judged.caller = Some(caller);
    if let Identity::Key { key, .. } = caller.identity {
        judged.key = Some(key);
    }
    judged.judgement = match permitted(view, inquiry, &route, caller) {
        Ok(judgement) => judgement,
        Err(refusal) => Judgement::Refuse(refusal),
    };
    judged
}

fn permitted<'v>(
    view: &'v View,
    inquiry: &Inquiry<'_>,
    route: &Route<'_>,
    caller: Caller<'v>,
) -> Result<Judgement<'v>, Refusal> {
    let allowed = match route.endpoint.class() {
        Class::Inference => caller.plan.routes.inference,
        Class::Catalog => caller.plan.routes.catalog,
        Class::Admin => false,
    };
    if !allowed {
        return Err(Refusal::new(Reason::RouteNotInPlan));
    }
    if route.endpoint.is_answered_here() {
        return answer(view, route, caller).map(Judgement::Answer);
    }
    let Demand { limits, seats, user } = match route.endpoint.class() {
        Class::Inference => demand_of(caller)?,
        _ => Demand::default(),
    };
    let priority = caller.plan.priority;
    if matches!(inquiry.body, BodyShown::Hidden) {
        // Without a body the model is unknown: only a plan that may use every model may pass. `*` alone is not enough
        // where some model leaves the fleet, because it does not permit that one.
        let pattern = caller.plan.models.iter().any(|pattern| pattern.permits_all());
        // Nor can options be judged that are not seen.
        let options = route.endpoint.class() != Class::Inference || caller.plan.allowance.permits_all();
        let everything = pattern && options && view.roster.permits_all(caller.plan_index);
        return if everything {
            Ok(Judgement::Claim(Claim { pool: None, limits, seats, user, priority }))
        } else {
            Err(Refusal::new(Reason::BodyHidden))
        };
    }
    if inquiry.encoding.is_some_and(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::new(Reason::Encoding));
    }
    let body = read(&inquiry.body)?;
    let model = requested_model(&body, route.endpoint)?;
    let pool = resolve(view, caller.plan, caller.plan_index, model)?;
    if route.endpoint.class() == Class::Inference {
        let kinds = pool.members.iter().filter_map(|member| view.server(*member)).map(|server| server.kind);
        caller.plan.allowance.check(kinds, route.endpoint, &body)?;
    }
    Ok(Judgement::Claim(Claim { pool: Some(pool), limits, seats, user, priority }))
}

fn answer<'v>(view: &'v View, route: &Route<'_>, caller: Caller<'v>) -> Result<Answer<'v>, Refusal> {
    let pool = match route.model_in_path {
        None => None,
        Some(encoded) => {
            let decoded: Vec<u8> = percent_decoded(encoded).collect();
            let name = String::from_utf8_lossy(&decoded);
            Some(resolve(view, caller.plan, caller.plan_index, &name)?)
        }
    };
    Ok(Answer { endpoint: route.endpoint, plan: caller.plan_index, pool, head: route.head })
}

/// Reads the body as far as the ingress shows it. A prefix is never decided on.
fn read(shown: &BodyShown<'_>) -> Result<Body, Refusal> {
    let body_fault = |fault: BodyFault| Refusal::new(Reason::Body(fault));
    match shown {
        BodyShown::Bytes { seen, size } => {
            if u64::try_from(seen.len()).unwrap_or(u64::MAX) < *size {
                return Err(Refusal::new(Reason::BodyNotVisible));
            }
            let mut reader = BodyReader::new();
            reader.push(seen);
            reader.finish().map_err(|fault| match fault.kind {
                // Where the size is unknown (chunked), a document that does not end is how a full buffer shows.
                FaultKind::Incomplete if seen.len() >= PREFIX_MIN => Refusal::new(Reason::BodyNotVisible),
                _ => body_fault(fault),
            })
        }
        BodyShown::Read(result) => (*result).clone().map_err(body_fault),
        BodyShown::TooLarge | BodyShown::Hidden => Err(Refusal::new(Reason::BodyNotVisible)),
    }
}

/// The model a server would act on. `/api/show` falls back to `name` where `model` is absent or empty (Ollama
/// `server/routes.go`, `cmp.Or(req.Model, req.Name)`).
pub fn requested_model(body: &Body, endpoint: Endpoint) -> Result<&str, Refusal> {
    let model = body.model.as_ref().and_then(|watched| watched.value.as_ref());
    let name = body.name.as_ref().and_then(|watched| watched.value.as_ref());
    let text = match model {
        Some(text) if !text.as_str().is_empty() => Some(text),
        _ if endpoint == Endpoint::Show && name.is_some() => name,
        other => other,
    };
    match text {
        Some(text) if text.cut => {
            Err(Refusal { model: Some(text.as_str().into()), ..Refusal::new(Reason::UnknownModel) })
        }
        Some(text) => Ok(text.as_str()),
        None => Err(Refusal::new(Reason::Body(BodyFault { at: body.len, kind: FaultKind::WrongType("model") }))),
    }
}

/// What a caller's request must take, from whomever it is counted for.
#[derive(Default)]
struct Demand {
    limits: Limits,
    seats: Seats,
    user: Option<User>,
}

impl Demand {
    fn add(&mut self, scope: Scope, holder: Holder, requests: &[Quota], most: Option<u32>) -> Result<(), Refusal> {
        for (position, quota) in requests.iter().enumerate() {
            let position = u8::try_from(position).unwrap_or(u8::MAX);
            if !self.limits.push(Limit { scope, holder, position, quota: *quota }) {
                return Err(Refusal::new(Reason::RequestRate(holder)));
            }
        }
        if self.seats.push(Concurrency { scope, holder, most }) {
            return Ok(());
        }
        Err(Refusal::new(Reason::Concurrency(holder)))
    }
}

fn demand_of(caller: Caller<'_>) -> Result<Demand, Refusal> {
    let mut demand = Demand { user: caller.user(), ..Demand::default() };
    let (requests, most) = (&caller.plan.requests, caller.plan.concurrency);
    match caller.identity {
        Identity::Key { team, user, .. } => {
            demand.add(caller.scope, Holder::Key, requests, most)?;
            if let Some((user, plan)) = user {
                demand.add(user.scope, Holder::User, &plan.requests, plan.concurrency)?;
            }
            if let Some((team, plan)) = team {
                demand.add(team.scope, Holder::Team, &plan.requests, plan.concurrency)?;
            }
        }
        Identity::Token { team } => {
            demand.add(caller.scope, Holder::User, requests, most)?;
            if let Some((team, plan)) = team {
                demand.add(team.scope, Holder::Team, &plan.requests, plan.concurrency)?;
            }
        }
        Identity::Anonymous(all) => {
            demand.add(caller.scope, Holder::Address, requests, most)?;
            demand.add(all.scope, Holder::Anonymous, &[all.requests], Some(all.concurrency))?;
        }
    }
    Ok(demand)
}
