//! `[[issuer]]`: whose tokens are accepted, and where its keys come from.

use super::file::{File, Table};
use super::server::forbidden_address;
use super::settings::IssuerSource;
use super::value::Value;
use crate::decision::caller::token::{Issuer, Rule, jws};
use crate::decision::plan::policy::{Plan, PlanIndex, Team};
use crate::files::problem::Findings;
use reqwest::Url;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Most `[[issuer]]` tables.
pub const ISSUERS_MAX: usize = 64;

/// Most `[[issuer.rule]]` tables of one issuer.
pub const RULES_MAX: usize = 256;

/// Longest identifier of an issuer, in bytes.
const NAME_MAX: usize = 512;

/// The issuers of a file, for decisions and for the fetcher, in its order.
pub(super) fn issuers(
    file: &File,
    plans: &[Plan],
    teams: &[Team],
    base: &Path,
    findings: &mut Findings<'_>,
) -> (Vec<Issuer>, Vec<IssuerSource>) {
    let mut reader = Reader { plans, teams, base, findings };
    let mut found: Vec<(Issuer, IssuerSource)> = Vec::new();
    for table in file.all("issuer") {
        if found.len() == ISSUERS_MAX {
            reader.findings.key(table.at.clone(), format!("more than {ISSUERS_MAX} issuers"), None);
            break;
        }
        let Some((issuer, source)) = reader.issuer(table) else { continue };
        if found.iter().any(|(other, _)| other.name == issuer.name)
            && let Some((_, at)) = table.get("issuer")
        {
            reader.findings.value(at, format!("a second issuer called \"{}\"", issuer.name), None);
        }
        found.push((issuer, source));
    }
    found.into_iter().unzip()
}

struct Reader<'r, 's> {
    plans: &'r [Plan],
    teams: &'r [Team],
    base: &'r Path,
    findings: &'r mut Findings<'s>,
}

impl Reader<'_, '_> {
    fn issuer(&mut self, table: &Table) -> Option<(Issuer, IssuerSource)> {
        let (name, at) = text(table, "issuer")?;
        self.check_url("issuer", &name, at.clone());
        if name.len() > NAME_MAX {
            self.findings.value(at, format!("\"issuer\" has more than {NAME_MAX} bytes"), None);
        }
        let name: Arc<str> = name.into();
        let rules = self.rules(table);
        let plan = match text(table, "plan") {
            Some((plan, at)) => self.plan(&plan, at),
            None => None,
        };
        if table.nested("issuer.rule").next().is_none() && !table.has("plan") {
            let hint = "add plan = \"…\" for all of its users, or [[issuer.rule]] for some";
            let what = "[[issuer]] leads to no plan: nobody could use it".to_owned();
            self.findings.missing(table.at.clone(), what, Some(hint.to_owned()));
        }
        let jwks_uri = text(table, "jwks_uri").map(|(url, at)| {
            self.check_url("jwks_uri", &url, at);
            url
        });
        let proxy = text(table, "proxy").map(|(url, at)| {
            self.check_proxy(&url, at);
            url
        });
        let source = IssuerSource {
            issuer: name.clone(),
            jwks_uri,
            ca_file: text(table, "ca_file").map(|(file, _)| self.base.join(file)),
            proxy,
        };
        let max_users = match table.get("max_users")? {
            (Value::Integer(most), _) => u32::try_from(most).unwrap_or(u32::MAX),
            _ => return None,
        };
        let issuer = Issuer {
            name,
            audience: text(table, "audience")?.0.into(),
            algorithms: self.algorithms(table),
            user_claim: text(table, "user_claim")?.0.into(),
            plan,
            rules,
            max_users,
        };
        Some((issuer, source))
    }

    fn algorithms(&mut self, table: &Table) -> Vec<jsonwebtoken::Algorithm> {
        let Some((Value::Texts(words), at)) = table.get("algorithms") else { return Vec::new() };
        if words.is_empty() {
            let hint = "leave it out for RS256, ES256 and EdDSA";
            self.findings.value(at, "\"algorithms\" is an empty list".to_owned(), Some(hint.to_owned()));
        }
        words.iter().filter_map(|(word, _)| jws::algorithm(word)).collect()
    }

    fn rules(&mut self, table: &Table) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (position, rule) in table.nested("issuer.rule").enumerate() {
            if position == RULES_MAX {
                self.findings.key(rule.at.clone(), format!("more than {RULES_MAX} rules of one issuer"), None);
                break;
            }
            let (Some((claim, _)), Some((value, _)), Some((plan, at))) =
                (text(rule, "claim"), text(rule, "value"), text(rule, "plan"))
            else {
                continue;
            };
            let Some(plan) = self.plan(&plan, at) else { continue };
            let team = text(rule, "team").and_then(|(team, at)| self.team(&team, at));
            rules.push(Rule { claim: claim.into(), value: value.into(), plan, team });
        }
        rules
    }

    fn plan(&mut self, name: &str, at: Range<usize>) -> Option<PlanIndex> {
        let position = self.plans.iter().position(|plan| &*plan.name == name);
        if position.is_none() {
            let known = self.plans.iter().map(|plan| &*plan.name);
            let near = crate::files::spelling::nearest(name, known).map(|near| format!("did you mean \"{near}\"?"));
            let what = format!("there is no [plans.{}]", name.escape_debug());
            self.findings.value(at, what, near);
        }
        position.and_then(|position| u16::try_from(position).ok()).map(PlanIndex)
    }

    fn team(&mut self, name: &str, at: Range<usize>) -> Option<Arc<str>> {
        let found = self.teams.iter().find(|team| &*team.name == name);
        if found.is_none() {
            let known = self.teams.iter().map(|team| &*team.name);
            let near = crate::files::spelling::nearest(name, known).map(|near| format!("did you mean \"{near}\"?"));
            self.findings.value(at, format!("there is no [teams.{}]", name.escape_debug()), near);
        }
        found.map(|team| team.name.clone())
    }

    /// Keys that come in the clear could be anybody's, so `http` is for this machine.
    fn check_url(&mut self, key: &str, written: &str, at: Range<usize>) {
        let mut wrong = |what: &str, hint: &str| {
            self.findings.value(at.clone(), format!("\"{key}\" {what}"), Some(hint.to_owned()));
        };
        let Ok(url) = Url::parse(written) else {
            return wrong("is not a URL", "such as \"https://id.example.com/\"");
        };
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        let here = address.map_or(bare == "localhost", |address| address.is_loopback());
        if !url.username().is_empty() || url.password().is_some() {
            wrong("holds a credential", "leave it out: key sets are public");
        } else if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            wrong("must begin with https://", "http:// is for an issuer on this machine");
        } else if url.fragment().is_some() || (key == "issuer" && url.query().is_some()) {
            wrong("has a query or a fragment", "the identifier as its tokens have it in \"iss\"");
        } else if let Some(fault) = address.and_then(forbidden_address) {
            wrong(fault.what, fault.hint);
        }
    }

    fn check_proxy(&mut self, written: &str, at: Range<usize>) {
        let mut wrong = |what: &str, hint: &str| {
            self.findings.value(at.clone(), format!("\"proxy\" {what}"), Some(hint.to_owned()));
        };
        match Url::parse(written) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                wrong("holds a credential", "use a proxy that knows this machine by its address");
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none() => {}
            _ => wrong("is not a proxy's URL", "such as \"http://proxy.example.com:3128\""),
        }
    }
}

fn text(table: &Table, key: &str) -> Option<(String, Range<usize>)> {
    match table.get(key)? {
        (Value::Text(text), at) => Some((text, at)),
        _ => None,
    }
}
