//! What holders are held to: the limits of `[plans]`, `[models]`, `[routes]` and `[gate]`.

use super::compile::Compiler;
use super::file::{File, Table};
use super::key_of::{KeyOf, key};
use super::quantity::Rate;
use super::value::WrittenRates;
use crate::decision::plan::limits::{Budget, Cost, Quota, RATES_MAX, Scope, Terms};
use crate::decision::plan::policy::{ModelPolicy, RoutePolicy};
use crate::decision::request::endpoint::{Class, Endpoint};
use crate::decision::request::name::{ModelName, NAME_MAX};
use std::collections::HashMap;
use std::num::NonZeroU64;

/// Most `[models.NAME]` tables.
pub const MODELS_MAX: usize = 10_000;

impl Compiler<'_, '_> {
    /// Returns the limits of a table.
    pub(super) fn terms(&mut self, table: &Table) -> Terms {
        Terms {
            requests: self.quotas(table),
            concurrency: table.count(key!("concurrency")),
            tokens: table.rate(key!("tokens")).map(whole),
            budgets: self.budgets(table),
            shadow: table.flag(key!("shadow")).unwrap_or(false),
        }
    }

    fn budgets(&mut self, table: &Table) -> Vec<Budget> {
        let Some(written) = table.budgets(key!("budget")) else { return Vec::new() };
        if written.is_empty() {
            let hint = "leave it out for no limit";
            self.findings.value(table.at("budget"), "\"budget\" is an empty list".to_owned(), Some(hint.to_owned()));
        }
        let mut budgets: Vec<Budget> = Vec::new();
        for (budget, at) in written {
            if budgets.iter().any(|other| other.window == budget.window) {
                let what = format!("\"budget\" has two amounts by {}", budget.window.as_str());
                self.findings.value(at, what, Some("the smaller one would always decide: keep that".to_owned()));
                continue;
            }
            budgets.push(budget);
        }
        budgets
    }

    fn quotas(&mut self, table: &Table) -> Vec<Quota> {
        let burst = table.count(key!("burst")).and_then(|burst| NonZeroU64::new(burst.into()));
        let quota = |rate: Rate, burst| Quota { count: rate.count, period_ns: rate.period_ns, burst };
        match (table.rates(key!("requests")), burst) {
            (Some(WrittenRates::One(rate)), burst) => vec![quota(rate, burst.unwrap_or(rate.count))],
            (Some(WrittenRates::Each(rates)), burst) => {
                let at = table.at("requests");
                if burst.is_some() {
                    let hint = "of a list, each rate's own count is its burst; leave \"burst\" out";
                    let what = "\"burst\" goes with a single rate, and \"requests\" is a list";
                    self.findings.value(table.at("burst"), what.to_owned(), Some(hint.to_owned()));
                }
                if rates.is_empty() {
                    let hint = "leave it out for no limit";
                    self.findings.value(at, "\"requests\" is an empty list".to_owned(), Some(hint.to_owned()));
                } else if rates.len() > RATES_MAX {
                    self.findings.value(at, format!("\"requests\" has more than {RATES_MAX} rates"), None);
                }
                rates.into_iter().map(|rate| quota(rate, rate.count)).collect()
            }
            (None, Some(_)) => {
                let (at, hint) = (table.at("burst"), "add requests = \"60/min\"");
                self.findings.missing(at, "\"burst\" without \"requests\"".to_owned(), Some(hint.to_owned()));
                Vec::new()
            }
            (None, None) => Vec::new(),
        }
    }

    pub(super) fn models_held(&mut self, file: &File) -> HashMap<ModelName, ModelPolicy> {
        let mut models = HashMap::new();
        for table in file.all("models") {
            let written = table.name.as_deref().unwrap_or_default();
            if written.trim().is_empty() || written.len() > NAME_MAX || written.contains('*') {
                let what = format!("\"{}\" cannot be a model", written.escape_debug().take(64).collect::<String>());
                let hint = format!("a whole name of at most {NAME_MAX} bytes, such as [models.\"llama3.1:8b\"]");
                self.findings.key(table.at.clone(), what, Some(hint));
                continue;
            }
            if models.len() == MODELS_MAX {
                self.findings.key(table.at.clone(), format!("more than {MODELS_MAX} models"), None);
                break;
            }
            let name = ModelName::canonical(written);
            let scope = Scope::of("model", name.as_str().as_bytes());
            // Thousandths; a float's cast saturates, and the reader has bounded it.
            let weight = |key: KeyOf<f64>| table.number(key).map_or(1000, |weight| (weight * 1000.0).round() as u32);
            let cost = Cost { input_milli: weight(key!("input")), output_milli: weight(key!("output")) };
            if models.insert(name.clone(), ModelPolicy { scope, terms: self.terms(table), cost }).is_some() {
                let what = format!("[models] has \"{}\" twice, in two spellings", name.as_str());
                self.findings.key(table.at.clone(), what, Some("one name is enough for all of them".to_owned()));
            }
        }
        models
    }

    pub(super) fn routes_held(&mut self, file: &File) -> Vec<RoutePolicy> {
        let metered = || Endpoint::ALL.into_iter().filter(|endpoint| endpoint.class() == Class::Inference);
        let mut routes = Vec::new();
        for table in file.all("routes") {
            let name = table.name.as_deref().unwrap_or_default();
            let Some(endpoint) = metered().find(|endpoint| endpoint.as_str() == name) else {
                let known = metered().map(Endpoint::as_str);
                let hint = match crate::files::spelling::nearest(name, known.clone()) {
                    Some(near) => format!("did you mean [routes.{near}]?"),
                    None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
                };
                let shown: String = name.escape_debug().take(64).collect();
                self.findings.key(table.at.clone(), format!("there is no route \"{shown}\" to limit"), Some(hint));
                continue;
            };
            routes.push(RoutePolicy { endpoint, scope: Scope::of("route", name.as_bytes()), terms: self.terms(table) });
        }
        routes.retain(|route: &RoutePolicy| !route.terms.is_empty());
        routes
    }

    pub(super) fn gate(&mut self, file: &File) -> Option<(Scope, Terms)> {
        let terms = self.terms(file.all("gate").next()?);
        (!terms.is_empty()).then(|| (Scope::of("gate", b""), terms))
    }
}

/// Returns a rate as a quota all of which may come at once.
pub(super) fn whole(rate: Rate) -> Quota {
    Quota { count: rate.count, period_ns: rate.period_ns, burst: rate.count }
}
