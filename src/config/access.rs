//! Who comes in by what: `[teams]`, `[auth]` and `[keys]`.

use super::compile::Compiler;
use super::file::{File, Table};
use super::key_of::{KeyOf, key};
use super::settings::KeySettings;
use super::terms::whole;
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
            if let Some(plan) = self.plan_called(table, key!("plan"), plans) {
                teams.push(Team { name: name.into(), scope: Scope::of("team", name.as_bytes()), plan });
            }
        }
        teams
    }

    pub(super) fn anonymous(&mut self, file: &File, plans: &[Plan]) -> Option<Anonymous> {
        let table = file.all("auth").next()?;
        for beside in ["anonymous_requests", "anonymous_concurrency"] {
            if table.has(beside) && !table.has("anonymous") {
                let hint = "add anonymous = \"PLAN\", or leave this out";
                self.findings.value(
                    table.at(beside),
                    format!("\"{beside}\" without \"anonymous\""),
                    Some(hint.to_owned()),
                );
            }
        }
        let plan = self.plan_called(table, key!("anonymous"), plans)?;
        let requests = table.rate(key!("anonymous_requests"))?;
        let concurrency = table.count(key!("anonymous_concurrency"))?;
        let terms = Terms { requests: vec![whole(requests)], concurrency: Some(concurrency), ..Terms::default() };
        Some(Anonymous { plan, scope: Scope::of("anonymous", &[]), terms })
    }

    /// Returns the plan that `key` of a table names.
    fn plan_called(&mut self, table: &Table, key: KeyOf<String>, plans: &[Plan]) -> Option<PlanIndex> {
        let name = table.text(key)?;
        let position = plans.iter().position(|plan| *plan.name == *name);
        if position.is_none() {
            let shown: String = name.escape_debug().take(64).collect();
            let known = plans.iter().map(|plan| &*plan.name);
            let hint = match crate::files::spelling::nearest(&name, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("add [plans.{shown}]"),
            };
            self.findings.value(table.at(key.name()), format!("there is no plan \"{shown}\""), Some(hint));
        }
        position.and_then(|position| u16::try_from(position).ok()).map(PlanIndex)
    }

    pub(super) fn keys(&mut self, table: &Table) -> Option<KeySettings> {
        Some(KeySettings {
            file: self.file(table, key!("file"))?,
            allow_readable: table.flag(key!("allow_readable")).unwrap_or(false),
            pepper_file: self.file(table, key!("pepper_file")),
        })
    }

    /// Returns a file, made relative to the configuration's folder.
    pub(super) fn file(&mut self, table: &Table, key: KeyOf<PathBuf>) -> Option<PathBuf> {
        let file = table.path(key)?;
        if file.as_os_str().as_encoded_bytes().ends_with(b"/") {
            let what = format!("\"{}\" must be a file name, not a folder", key.name());
            self.findings.value(table.at(key.name()), what, None);
        }
        Some(self.base.join(file))
    }
}

/// Returns `failures` of `[auth]`.
pub(super) fn failures(table: &Table) -> Option<Quota> {
    table.rate(key!("failures")).map(whole)
}
