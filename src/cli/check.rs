//! `herdgate check`: names every problem of the configuration and the key file.

use super::CommandError;
use crate::config::settings::IssuerSource;
use crate::config::{self, Config};
use crate::decision::plan::allowance::Allowance;
use crate::decision::plan::overshoot::{overshoot, told};
use crate::decision::plan::policy::Plan;
use crate::files::problem::{Position, Problem, Problems};
use crate::jwks::{Fetcher, KeySource};
use crate::keys;
use crate::keys::file::KeyEntry;
use crate::time::clock::Clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

pub(super) fn run(path: &Path, json: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let mut found = Vec::new();
    let (mut warnings, mut bounds) = (Vec::new(), BTreeMap::new());
    let counts = match config::load(path) {
        Ok(config) => {
            warnings = config.policy.plans.iter().filter_map(warning).collect();
            let bound = |plan: &Plan| Some((plan.name.to_string(), overshoot(&config.policy, plan)?));
            bounds = config.policy.plans.iter().filter_map(bound).collect();
            let keys = check_keys(&config).unwrap_or_else(|problems| {
                found.push(problems);
                0
            });
            found.extend(check_issuers(&config, path));
            (config.policy.servers.len(), config.policy.plans.len(), keys)
        }
        Err(problems) => {
            found.push(problems);
            (0, 0, 0)
        }
    };
    let (servers, plans, keys) = counts;
    if json {
        let problems: Vec<Value> = found.iter().flat_map(as_json).collect();
        let ok = found.is_empty();
        let report = if ok {
            json!({
                "ok": ok, "servers": servers, "plans": plans, "keys": keys, "problems": problems, "warnings": warnings,
                "overshoot": bounds.iter().map(|(plan, found)| (plan.clone(), found.ok())).collect::<BTreeMap<_, _>>(),
            })
        } else {
            json!({"ok": ok, "problems": problems})
        };
        writeln!(out, "{report}")?;
        // They stand in the report.
        return if ok { Ok(()) } else { Err(CommandError::Problems(Vec::new())) };
    }
    if !found.is_empty() {
        return Err(CommandError::Problems(found));
    }
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for (plan, found) in bounds {
        writeln!(out, "note: a burst can exceed the token limits of plan \"{plan}\" {}", told(found))?;
    }
    writeln!(out, "ok: {}, {}, {}", count(servers, "server"), count(plans, "plan"), count(keys, "key"))?;
    Ok(())
}

/// Checks the files and proxies that issuers need, which the text alone cannot show to be there. Nothing is fetched.
fn check_issuers(config: &Config, path: &Path) -> Option<Problems> {
    let file = path.display().to_string();
    let items: Vec<Problem> = config
        .settings
        .issuers
        .iter()
        .filter_map(|source| {
            let IssuerSource { issuer, jwks_uri, ca_file, proxy } = source.clone();
            let why = Fetcher::check(&KeySource { issuer, jwks_uri, ca_file, proxy }).err()?.detail;
            let what = format!("issuer {}: {why}", source.issuer);
            Some(Problem { position: None, what, hint: None, excerpt: None })
        })
        .collect();
    (!items.is_empty()).then_some(Problems { file, items, left_out: 0 })
}

/// Reads the key file against the plans and teams of the configuration and returns the number of keys.
fn check_keys(config: &Config) -> Result<usize, Problems> {
    let file = super::key_file(config);
    let set = keys::load(&file)?;
    let is_plan = |name: &str| config.policy.plans.iter().any(|plan| &*plan.name == name);
    let is_team = |name: &str| config.policy.teams.iter().any(|team| &*team.name == name);
    if set.plans().iter().all(|plan| is_plan(plan)) && set.teams().iter().all(|team| is_team(team)) {
        return Ok(set.len());
    }
    let now = Clock::new().now().unix_ms;
    let lost = |entry: KeyEntry| {
        let keys::file::KeyTerms { plan, team, user_plan, .. } = &entry.terms;
        let plans = [Some(plan), user_plan.as_ref()].into_iter().flatten();
        let plan = plans.filter(|plan| !is_plan(plan)).map(|plan| format!("on plan \"{plan}\"")).next();
        let raised = entry.raised_at(now).filter(|raised| !is_plan(&raised.plan));
        let raised = raised.map(|raised| format!("raised to plan \"{}\"", raised.plan));
        let team = team.as_ref().filter(|team| !is_team(team)).map(|team| format!("of team \"{team}\""));
        let hint = match (&plan, &team) {
            (None, None) => "add it, or end the raise: herdgate key raise NAME --end",
            _ => "add it, or revoke the key and make another",
        };
        let what = plan.or(team).or(raised)?;
        Some(Problem {
            position: Some(Position { line: entry.line, column: 1 }),
            what: format!("key \"{}\" is {what}, which is not configured", entry.name),
            hint: Some(hint.to_owned()),
            excerpt: None,
        })
    };
    let mut items: Vec<Problem> = keys::file::entries(&file)?.into_iter().filter_map(lost).collect();
    let left_out = items.len().saturating_sub(crate::files::problem::PROBLEMS_MAX);
    items.truncate(crate::files::problem::PROBLEMS_MAX);
    if items.is_empty() {
        // A raise that is over needs its plan no more.
        Ok(set.len())
    } else {
        Err(Problems { file: file.path.display().to_string(), items, left_out })
    }
}

/// Returns a warning of a limit that holds less than its operator may think.
fn warning(plan: &Plan) -> Option<String> {
    let Allowance { max_output, left_open, .. } = plan.allowance;
    (max_output.is_some() && left_open.is_none()).then(|| {
        format!(
            "plan \"{}\": a request that sets no output limit is not held to \"max_output\": the server's own default \
             limits it; choose left_open = \"allow\" or \"refuse\"",
            plan.name
        )
    })
}

fn as_json(problems: &Problems) -> Vec<Value> {
    let place = |problem: &Problem| problem.position.map(|Position { line, column }| (line, column)).unzip();
    let one = |problem: &Problem| {
        let (line, column) = place(problem);
        json!({"file": problems.file, "line": line, "column": column, "what": problem.what, "hint": problem.hint})
    };
    problems.items.iter().map(one).collect()
}

pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
