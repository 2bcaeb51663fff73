//! The steps of a decision that has just been made, with what each looked at.

use super::{Step, StepResult, Walk};
use crate::decision::caller::authenticate::{Caller, Identity};
use crate::decision::fleet::roster::Pool;
use crate::decision::inquiry::{BodyShown, Inquiry};
use crate::decision::plan::limits::{Quota, Terms};
use crate::decision::plan::overshoot::{self, overshoot_of};
use crate::decision::plan::policy::{ModelPattern, Plan};
use crate::decision::request::endpoint::{Class, Endpoint};
use crate::decision::request::name::NameBuffer;
use crate::decision::request::route::route;
use crate::decision::verdict::{Grant, Verdict};
use crate::decision::view::View;
use crate::files::problem::masked;
use crate::gate::Decision;
use std::fmt::Write;

/// Most servers that are listed one by one.
const SERVERS_TOLD: usize = 20;

/// Returns the steps of `decided`, which was taken on `view` for `inquiry`. `requested` is the model as the client
/// wrote it, where the decision came as far as reading it.
pub fn present(view: &View, inquiry: &Inquiry<'_>, decided: &Decision<'_>, requested: Option<&str>) -> Vec<StepResult> {
    let reason = match &decided.verdict {
        Verdict::Refuse(refusal) => Some(&refusal.reason),
        Verdict::Allow(_) | Verdict::Answer(_) => None,
    };
    let endpoint = route(inquiry.method, inquiry.target).ok().map(|route| route.endpoint);
    let answered_here = endpoint.is_some_and(Endpoint::is_answered_here);
    let mut walk = Walk::new(reason);
    if walk.end.is_some_and(|(end, _)| end == Step::Question) {
        walk.add(Step::Question, String::new);
    }
    walk.add(Step::Route, || told_route(inquiry, endpoint));
    walk.add(Step::Caller, || told_caller(inquiry, decided));
    let Some(caller) = decided.caller else { return walk.taken };
    let class = endpoint.map_or("", |endpoint| word(endpoint.class()));
    walk.add(Step::Plan, || format!("plan \"{}\" on {class} endpoints", caller.plan.name));
    if !answered_here {
        walk.add(Step::Body, || told_body(&inquiry.body));
    }
    let pool = requested
        .and_then(|requested| NameBuffer::default().canonical(requested).and_then(|name| view.roster.get(name)));
    if let Some(requested) = requested {
        walk.add(Step::Model, || told_model(requested, pool, caller.plan, view));
    }
    if answered_here {
        return walk.taken;
    }
    // Told only where it refuses: what the plan leaves alone is not worth a line.
    if walk.end.is_some_and(|(end, _)| end == Step::Options) {
        walk.add(Step::Options, || told_options(&decided.verdict));
    }
    walk.add(Step::Limits, || told_limits(view, caller, endpoint));
    walk.add(Step::Server, || match &decided.verdict {
        Verdict::Allow(grant) => told_choice(grant, pool, view),
        _ => servers(pool, view),
    });
    walk.taken
}

fn word(class: Class) -> &'static str {
    match class {
        Class::Inference => "inference",
        Class::Catalog => "catalog",
        Class::Admin => "admin",
    }
}

fn told_route(inquiry: &Inquiry<'_>, endpoint: Option<Endpoint>) -> String {
    let path = String::from_utf8_lossy(crate::gate::audit::path_of(inquiry.target)).into_owned();
    let asked = format!("{} {}", inquiry.method.escape_ascii(), masked(&path).escape_debug());
    match endpoint {
        Some(endpoint) => format!("{asked} is endpoint {}, of class {}", endpoint.as_str(), word(endpoint.class())),
        None => asked,
    }
}

/// Returns the owner of the credential, with the header that carries it; never the credential.
fn told_caller(inquiry: &Inquiry<'_>, decided: &Decision<'_>) -> String {
    let fields =
        [("authorization", inquiry.authorization), ("x-api-key", inquiry.x_api_key), ("api-key", inquiry.api_key)];
    let carried: Vec<&str> = fields.iter().filter(|(_, field)| field.is_present()).map(|(name, _)| *name).collect();
    let mut told = if carried.is_empty() { "no credential".to_owned() } else { carried.join(" and ") };
    let Some(caller) = decided.caller else {
        if let Some(key) = decided.key {
            let _ = write!(told, " of key \"{}\"", key.name);
        }
        return told;
    };
    let _ = match caller.identity {
        Identity::Token { .. } => write!(told, ", a token of \"{}\" on plan \"{}\"", caller.name, caller.plan.name),
        Identity::Key { .. } => write!(told, " of key \"{}\" on plan \"{}\"", caller.name, caller.plan.name),
        _ => write!(told, ": \"{}\" on plan \"{}\"", caller.name, caller.plan.name),
    };
    if let Identity::Key { team: Some((team, plan)), .. } | Identity::Token { team: Some((team, plan)) } =
        caller.identity
    {
        let _ = write!(told, ", of team \"{}\" (plan \"{}\")", team.name, plan.name);
    }
    if let Identity::Key { key, user, .. } = caller.identity
        && let (Some(behalf), Some((_, plan))) = (&key.on_behalf, user)
    {
        let named = inquiry.on_behalf.field.value.is_some_and(|name| !name.trim_ascii().is_empty());
        let who = if named { "the user that" } else { "nobody, as" };
        let without = if named { "names" } else { "names none" };
        let _ = write!(told, ", asking for {who} {} {without} (plan \"{}\")", behalf.header, plan.name);
    }
    told
}

fn told_body(body: &BodyShown<'_>) -> String {
    match body {
        BodyShown::Bytes { seen, size } if (seen.len() as u64) < *size => {
            format!("{} of {size} bytes are shown", seen.len())
        }
        BodyShown::Bytes { seen, .. } => format!("{} bytes", seen.len()),
        BodyShown::Read(Ok(body)) => format!("{} bytes", body.len),
        BodyShown::Read(Err(_)) | BodyShown::TooLarge | BodyShown::Hidden => String::new(),
    }
}

fn told_model(requested: &str, pool: Option<&Pool>, plan: &Plan, view: &View) -> String {
    let mut told = format!("\"{}\"", requested.escape_debug());
    let Some(pool) = pool else { return told };
    let _ = write!(told, " is {}, on {}", pool.name, servers(Some(pool), view));
    let by = plan.models.iter().find(|pattern| pattern.permits(&pool.name)).map(|pattern| match pattern {
        ModelPattern::Exact(name) => name.as_str(),
        ModelPattern::Glob(glob) => glob,
    });
    if let Some(by) = by {
        let _ = write!(told, "; \"{by}\" of plan \"{}\"", plan.name);
    }
    told
}

fn told_options(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::Refuse(refusal) => refusal.reason.option().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

fn told_limits(view: &View, caller: Caller<'_>, endpoint: Option<Endpoint>) -> String {
    if endpoint.is_some_and(|endpoint| endpoint.class() != Class::Inference) {
        return "not metered".to_owned();
    }
    let mut told = Vec::new();
    let mut holder = |who: &str, terms: &Terms| {
        let mut limits: Vec<String> = terms.requests.iter().map(|quota| told_quota(*quota, "requests")).collect();
        limits.extend(terms.concurrency.map(|most| format!("{most} in flight")));
        limits.extend(terms.tokens.map(|quota| told_quota(quota, "tokens")));
        limits
            .extend(terms.budgets.iter().map(|budget| format!("{} tokens a {}", budget.most, budget.window.as_str())));
        let shadow = if terms.shadow { " (shadow: told, not refused)" } else { "" };
        let limits = if limits.is_empty() { "unlimited".to_owned() } else { limits.join(", ") };
        told.push(format!("{who} {limits}{shadow}"));
    };
    let who = match caller.identity {
        Identity::Anonymous(_) => "network",
        Identity::Token { .. } => "user",
        Identity::Key { .. } => "key",
    };
    let raised = caller.raised().map(|plan| format!("{who}, raised to plan \"{}\",", plan.name));
    holder(raised.as_deref().unwrap_or(who), &caller.held_to.terms);
    if let Identity::Key { user, .. } = caller.identity
        && let Some((_, plan)) = user
    {
        holder("user", &plan.terms);
    }
    if let Identity::Key { team: Some((_, plan)), .. } | Identity::Token { team: Some((_, plan)) } = caller.identity {
        holder("team", &plan.terms);
    }
    if let Identity::Anonymous(all) = caller.identity {
        holder("all anonymous", &all.terms);
    }
    let bound = overshoot_of(&view.policy, &caller.held_to.terms, &caller.plan.allowance);
    told.extend(bound.map(|found| format!("a burst can exceed its token limits {}", overshoot::told(found))));
    told.join("; ")
}

fn told_quota(quota: Quota, of: &str) -> String {
    let period_s = quota.period_ns.get() / 1_000_000_000;
    format!("{} {of} in {period_s} s ({} at once)", quota.count, quota.burst)
}

fn told_choice(grant: &Grant<'_>, pool: Option<&Pool>, view: &View) -> String {
    let second = grant.server2.map_or_else(String::new, |server| format!(", else {}", server.name));
    format!("{}{second}, out of {}", grant.server.name, servers(pool, view))
}

/// Returns the servers of a pool, or all, each with its state.
fn servers(pool: Option<&Pool>, view: &View) -> String {
    let members: Vec<_> = match pool {
        Some(pool) => pool.members.iter().filter_map(|index| view.server(*index)).collect(),
        None => view.policy.servers.iter().collect(),
    };
    let told = members.iter().take(SERVERS_TOLD).map(|server| {
        let state = view.fleet.servers.get(&server.name).map_or("unknown", |seen| seen.state.as_str());
        let odd = pool.is_some_and(|pool| {
            view.roster.disagreements.iter().any(|found| found.quarantines(&pool.name, &server.name))
        });
        match (odd, server.weight) {
            (true, _) => format!("{} ({state}, quarantined for other content)", server.name),
            (false, 0) => format!("{} ({state}, weight 0)", server.name),
            (false, _) => format!("{} ({state})", server.name),
        }
    });
    let mut told: Vec<String> = told.collect();
    if members.len() > SERVERS_TOLD {
        told.push(format!("and {} more", members.len() - SERVERS_TOLD));
    }
    told.join(", ")
}
