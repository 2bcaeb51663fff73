//! The first half of a decision: routes, authenticates, reads the body, resolves the model and names the limits. Pure.

use super::inquiry::{BodyShown, Inquiry};
use super::moment::Moment;
use super::reason::Reason;
use super::resolve::resolve;
use super::verdict::{LocalAnswer, Refusal};
use super::view::View;
use crate::decision::caller::authenticate::{Caller, Identity, authenticate};
use crate::decision::caller::keyset::Key;
use crate::decision::caller::token::verify::Afresh;
use crate::decision::caller::token::{self, TokenProver};
use crate::decision::fleet::roster::Pool;
use crate::decision::plan::bounds::Output;
use crate::decision::plan::limits::{
    Account, Accounts, Demand, Holder, RequestShape, RequestedOutput, Scope, Terms, UserScopes,
};
use crate::decision::plan::priority::Priority;
use crate::decision::plan::server::ServerKind;
use crate::decision::request::body::{Body, BodyFault, BodyReader, FaultKind, Watched};
use crate::decision::request::endpoint::{Class, Dialect, Endpoint};
use crate::decision::request::route::{Route, percent_decoded, route};

/// The result of judging an inquiry, and the facts about it that are worth logging whatever the result.
#[derive(Debug, Clone)]
pub struct JudgedInquiry<'v> {
    /// The dialect in which a refusal must be written.
    pub dialect: Dialect,
    /// The endpoint, once known.
    pub endpoint: Option<Endpoint>,
    /// The caller, once known.
    pub caller: Option<Caller<'v>>,
    /// The key, once known, even if it may not call.
    pub key: Option<&'v Key>,
    /// The user that the caller's JWT names.
    pub user: Option<token::TokenUser>,
    /// The claim, answer or refusal.
    pub judgement: Judgement<'v>,
}

/// The three results of judging. Claims are large because limits are stored in place: one is made per decision and none
/// is stored, while a box would cost the hot path an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub enum Judgement<'v> {
    /// The request may pass, if the limits allow it and a server can take it.
    Claim(Claim<'v>),
    /// herdgate answers the request itself.
    Answer(LocalAnswer<'v>),
    /// The request may not pass.
    Refuse(Refusal),
}

/// A judged request: what it wants, and the limits that apply to it.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'v> {
    /// The pool of its model; `None` if the ingress hides bodies and the plan permits every model.
    pub pool: Option<&'v Pool>,
    /// The accounts from which to take, all or none; empty if the request is not metered.
    pub accounts: Accounts<'v>,
    /// The user behind the caller, whose scope is among them.
    pub user: Option<UserScopes>,
    /// The most that it may use.
    pub demand: Demand,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its urgency in queues.
    pub priority: Priority,
}

impl Claim<'_> {
    /// Returns the most weighted LLM tokens that fit into every limit that applies to it; `None` if no token limit
    /// applies.
    pub fn room(&self) -> Option<u64> {
        self.accounts.iter().filter_map(|account| account.terms.most_tokens()).min()
    }
}

/// Size in bytes below which an unfinished document is the client's mistake; above it, the proxy's buffer was too small
/// for the document. No HAProxy buffer is this small: `tune.bufsize` defaults to 16 KiB.
const PREFIX_MIN: usize = 4096;

/// Judges an inquiry step by step: route, caller, permission, body, model, options, limits. Each step can only end the
/// decision or narrow it.
pub fn judge<'v>(view: &'v View, inquiry: &Inquiry<'_>, now: Moment) -> JudgedInquiry<'v> {
    judge_with(view, inquiry, &Afresh, now)
}

/// Judges an inquiry in the same way, with JWTs proven by `tokens`, which may remember some.
pub fn judge_with<'v>(
    view: &'v View,
    inquiry: &Inquiry<'_>,
    tokens: &dyn TokenProver,
    now: Moment,
) -> JudgedInquiry<'v> {
    let route = match route(inquiry.method, inquiry.target) {
        Ok(route) => route,
        Err((reason, dialect)) => {
            let judgement = Judgement::Refuse(Refusal::new(reason));
            return JudgedInquiry { dialect, endpoint: None, caller: None, key: None, user: None, judgement };
        }
    };
    let mut judged = JudgedInquiry {
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
    let endpoint = route.endpoint;
    let priority = caller.plan.priority;
    let is_metered = endpoint.class() == Class::Inference;
    let user = caller.user().filter(|_| is_metered);
    if matches!(inquiry.body, BodyShown::Hidden) {
        // Without a body the model is unknown: only a plan that may use every model may pass. `*` alone is not enough
        // if some model leaves the fleet, because it does not permit that one.
        let pattern = caller.plan.models.iter().any(|pattern| pattern.permits_all());
        // Options that are not seen cannot be judged either.
        let options = !is_metered || caller.plan.allowance.permits_all();
        let everything = pattern && options && view.roster.permits_all(caller.plan_index);
        return if everything {
            let accounts = if is_metered { accounts_of(view, caller, endpoint, None)? } else { Accounts::default() };
            let output = RequestedOutput::Open(caller.plan.allowance.max_output);
            let demand = Demand { output, stream: true, ..Demand::default() };
            Ok(Judgement::Claim(Claim { pool: None, accounts, user, demand, endpoint, priority }))
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
    let (mut accounts, mut demand) = (Accounts::default(), Demand::default());
    if is_metered {
        let kinds = || pool.members.iter().filter_map(|member| view.server(*member)).map(|server| server.kind);
        caller.plan.allowance.check(kinds(), endpoint, &body)?;
        accounts = accounts_of(view, caller, endpoint, Some(pool))?;
        demand = demand_of(view, caller, endpoint, pool, &body, kinds());
    }
    Ok(Judgement::Claim(Claim { pool: Some(pool), accounts, user, demand, endpoint, priority }))
}

fn answer<'v>(view: &'v View, route: &Route<'_>, caller: Caller<'v>) -> Result<LocalAnswer<'v>, Refusal> {
    let pool = match route.model_in_path {
        None => None,
        Some(encoded) => {
            let decoded: Vec<u8> = percent_decoded(encoded).collect();
            let name = String::from_utf8_lossy(&decoded);
            Some(resolve(view, caller.plan, caller.plan_index, &name)?)
        }
    };
    Ok(LocalAnswer { endpoint: route.endpoint, plan: caller.plan_index, pool, head: route.head })
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
                // If the size is unknown (chunked), a full buffer shows as a document that does not end.
                FaultKind::Incomplete if seen.len() >= PREFIX_MIN => Refusal::new(Reason::BodyNotVisible),
                _ => body_fault(fault),
            })
        }
        BodyShown::Read(result) => (*result).clone().map_err(body_fault),
        BodyShown::TooLarge | BodyShown::Hidden => Err(Refusal::new(Reason::BodyNotVisible)),
    }
}

/// Returns the model on which a server would act. `/api/show` falls back to `name` if `model` is absent or empty
/// (Ollama `server/routes.go`, `cmp.Or(req.Model, req.Name)`).
///
/// # Errors
/// [`Reason::UnknownModel`] if the name is longer than [`NAME_MAX`](crate::decision::request::name::NAME_MAX);
/// [`Reason::Body`] if the body names no model.
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

/// Returns the accounts in which a request is counted.
fn accounts_of<'v>(
    view: &'v View,
    caller: Caller<'v>,
    endpoint: Endpoint,
    pool: Option<&Pool>,
) -> Result<Accounts<'v>, Refusal> {
    let mut accounts = Accounts::default();
    let mut add = |scope: Scope, holder: Holder, terms: &'v Terms| {
        // There is room for every kind of holder once; one too many must not go uncounted.
        if accounts.push(Account { scope, holder, terms }) {
            Ok(())
        } else {
            Err(Refusal::new(Reason::Concurrency(holder)))
        }
    };
    match caller.identity {
        Identity::Key { team, user, .. } => {
            add(caller.scope, Holder::Key, &caller.held_to.terms)?;
            if let Some((user, plan)) = user {
                add(user.scope, Holder::User, &plan.terms)?;
            }
            if let Some((team, plan)) = team {
                add(team.scope, Holder::Team, &plan.terms)?;
            }
        }
        Identity::Token { team } => {
            add(caller.scope, Holder::User, &caller.held_to.terms)?;
            if let Some((team, plan)) = team {
                add(team.scope, Holder::Team, &plan.terms)?;
            }
        }
        Identity::Anonymous(all) => {
            add(caller.scope, Holder::Address, &caller.held_to.terms)?;
            add(all.scope, Holder::Anonymous, &all.terms)?;
        }
    }
    // Of these, only those that have limits: nothing else reads their counters.
    if let Some(model) =
        pool.and_then(|pool| view.policy.models.get(&pool.name)).filter(|model| !model.terms.is_empty())
    {
        add(model.scope, Holder::Model, &model.terms)?;
    }
    if let Some(route) = view.policy.routes.iter().find(|route| route.endpoint == endpoint) {
        add(route.scope, Holder::Route, &route.terms)?;
    }
    if let Some((scope, terms)) = &view.policy.gate {
        add(*scope, Holder::Gate, terms)?;
    }
    Ok(accounts)
}

/// Returns the most that a request may use.
fn demand_of(
    view: &View,
    caller: Caller<'_>,
    endpoint: Endpoint,
    pool: &Pool,
    body: &Body,
    kinds: impl Iterator<Item = ServerKind>,
) -> Demand {
    // A pool of a thousand servers still has two kinds.
    let (mut judged, mut asked, mut is_open) = ([false; 2], Output::None, false);
    for kind in kinds {
        if !std::mem::replace(&mut judged[kind as usize & 1], true) {
            asked = asked.most(Output::asked(kind, endpoint, body));
            is_open |= Output::left_open(kind, endpoint, body).is_some();
        }
    }
    let output = match asked {
        Output::None => RequestedOutput::Nothing,
        Output::Bounded { tokens, .. } if is_open => RequestedOutput::AtLeast(tokens, caller.plan.allowance.max_output),
        Output::Bounded { tokens, .. } => RequestedOutput::AtMost(tokens),
        Output::Open(_) | Output::Endless(_) => RequestedOutput::Open(caller.plan.allowance.max_output),
    };
    Demand {
        written: written(body),
        output,
        stream: streams(endpoint, body),
        cost: view.policy.models.get(&pool.name).map_or_else(Default::default, |model| model.cost),
    }
}

fn written(body: &Body) -> RequestShape {
    let is_true = |watched: &Option<Watched<bool>>| watched.as_ref().is_some_and(|watched| watched.value == Some(true));
    let name = body.model.as_ref().and_then(|model| model.value.as_ref()).map_or(0, |name| name.as_str().len());
    RequestShape {
        prompt_bytes: body.prompt_bytes,
        images: body.images,
        name: u16::try_from(name).unwrap_or(u16::MAX),
        usage: is_true(&body.include_usage),
        raw: is_true(&body.raw),
        openai: false,
    }
}

/// Returns whether the answer streams: Ollama's own API streams unless told otherwise, all others only if told so.
pub fn streams(endpoint: Endpoint, body: &Body) -> bool {
    let asked = body.stream.as_ref().and_then(|stream| stream.value);
    match endpoint {
        Endpoint::Generate | Endpoint::Chat => asked.unwrap_or(true),
        Endpoint::Embed | Endpoint::Embeddings | Endpoint::V1Embeddings => false,
        _ => asked.unwrap_or(false),
    }
}
