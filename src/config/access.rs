//! Who comes in by what: `[teams]`, `[auth]` and `[keys]`.

use super::compile::{Compiler, integer};
use super::file::{File, Table};
use super::settings::KeySettings;
use super::terms::whole;
use super::value::Value;
use crate::decision::plan::limits::{Quota, Scope, Terms};
use crate::decision::plan::policy::{Anonymous, Plan, PlanIndex, Team};
use std::path::PathBuf;

/// Most `[teams.NAME]` tables.
pub const TEAMS_MAX: usize = 65_535;

impl Compiler<'_, '_> {
    pub(super) fn teams(&mut self, file: &File, plans: &[Plan]) -> Vec<Team> {
        let mut teams = Vec::new();
        for table in file.all("teams") {
            let name = table.name.as_deref().unwrap_or_default();
            self.check_name("team", name, &table.at);
            if teams.len() == TEAMS_MAX {
                self.findings.key(table.at.clone(), format!("more than {TEAMS_MAX} teams"), None);
                break;
            }
            if let Some(plan) = self.plan_called(table, "plan", plans) {
                teams.push(Team { name: name.into(), scope: Scope::of("team", name.as_bytes()), plan });
            }
        }
        teams
    }

    pub(super) fn anonymous(&mut self, file: &File, plans: &[Plan]) -> Option<Anonymous> {
        let table = file.all("auth").next()?;
        for beside in ["anonymous_requests", "anonymous_concurrency"] {
            if table.has(beside)
                && !table.has("anonymous")
                && let Some((_, at)) = table.get(beside)
            {
                let hint = "add anonymous = \"PLAN\", or leave this out";
                self.findings.value(at, format!("\"{beside}\" without \"anonymous\""), Some(hint.to_owned()));
            }
        }
        let plan = self.plan_called(table, "anonymous", plans)?;
        let Some((Value::Rate(requests), _)) = table.get("anonymous_requests") else { return None };
        let concurrency = integer(table, "anonymous_concurrency")?;
        let terms = Terms { requests: vec![whole(requests)], concurrency: Some(concurrency), ..Terms::default() };
        Some(Anonymous { plan, scope: Scope::of("anonymous", &[]), terms })
    }

    /// The plan that `key` of a table names.
    fn plan_called(&mut self, table: &Table, key: &str, plans: &[Plan]) -> Option<PlanIndex> {
        let Some((Value::Text(name), at)) = table.get(key) else { return None };
        let position = plans.iter().position(|plan| *plan.name == *name);
        if position.is_none() {
            let shown: String = name.escape_debug().take(64).collect();
            let known = plans.iter().map(|plan| &*plan.name);
            let hint = match crate::files::spelling::nearest(&name, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [plans.{shown}]"),
            };
            self.findings.value(at, format!("there is no plan \"{shown}\""), Some(hint));
        }
        position.and_then(|position| u16::try_from(position).ok()).map(PlanIndex)
    }

    pub(super) fn keys(&mut self, table: &Table) -> Option<KeySettings> {
        let file = self.key_path(table, "file")?;
        let pepper_file = if table.has("pepper_file") { Some(self.key_path(table, "pepper_file")?) } else { None };
        let allow_readable = matches!(table.get("allow_readable"), Some((Value::Bool(true), _)));
        Some(KeySettings { file, allow_readable, pepper_file })
    }

    fn key_path(&mut self, table: &Table, key: &str) -> Option<PathBuf> {
        let (Value::Text(file), at) = table.get(key)? else { return None };
        if file.ends_with('/') {
            self.findings.value(at, format!("\"{key}\" must be a file name, not a folder"), None);
        }
        Some(self.base.join(file))
    }
}

/// `failures` of `[auth]`.
pub(super) fn failures(table: &Table) -> Option<Quota> {
    match table.get("failures") {
        Some((Value::Rate(rate), _)) => Some(whole(rate)),
        _ => None,
    }
}
