//! `[[issuer]]`: whose tokens are accepted, and where its keys come from.

use super::file::{File, Table};
use super::key_of::key;
use super::server::forbidden_address;
use super::settings::IssuerSource;
use crate::decision::caller::token::{Issuer, Rule, jws};
use crate::decision::plan::policy::{Plan, PlanIndex, Team};
use crate::files::problem::Findings;
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use url::Url;

/// Most `[[issuer]]` tables.
pub const ISSUERS_MAX: usize = 64;

/// Most `[[issuer.rule]]` tables of one issuer.
pub const RULES_MAX: usize = 256;

/// Longest identifier of an issuer, in bytes.
const NAME_MAX: usize = 512;

/// Returns the issuers of a file, for decisions and for the fetcher, in its order.
pub(super) fn issuers(
    file: &File,
    plans: &[Plan],
    teams: &[Team],
    base: &Path,
    findings: &mut Findings<'_>,
) -> (Vec<Issuer>, Vec<IssuerSource>) {
    let mut reader = IssuerReader { plans, teams, base, findings };
    let mut found: Vec<(Issuer, IssuerSource)> = Vec::new();
    for table in file.all("issuer") {
        if found.len() == ISSUERS_MAX {
            reader.findings.key(table.at.clone(), format!("more than {ISSUERS_MAX} issuers"), None);
            break;
        }
        let Some((issuer, source)) = reader.issuer(table) else { continue };
        if found.iter().any(|(other, _)| other.name == issuer.name) {
            reader.findings.value(table.at("issuer"), format!("a second issuer called \"{}\"", issuer.name), None);
        }
        found.push((issuer, source));
    }
    found.into_iter().unzip()
}

struct IssuerReader<'r, 's> {
    plans: &'r [Plan],
    teams: &'r [Team],
    base: &'r Path,
    findings: &'r mut Findings<'s>,
}

impl IssuerReader<'_, '_> {
    fn issuer(&mut self, table: &Table) -> Option<(Issuer, IssuerSource)> {
        let name = table.text(key!("issuer"))?;
        self.check_url("issuer", &name, table.at("issuer"));
        if name.len() > NAME_MAX {
            self.findings.value(table.at("issuer"), format!("\"issuer\" has more than {NAME_MAX} bytes"), None);
        }
        let name: Arc<str> = name.into();
        let rules = self.rules(table);
        let plan = table.text(key!("plan")).and_then(|plan| self.plan(&plan, table.at("plan")));
        if table.nested("issuer.rule").next().is_none() && !table.has("plan") {
            let hint = "add plan = \"…\" for all of its users, or [[issuer.rule]] for some";
            let what = "[[issuer]] leads to no plan: nobody could use it".to_owned();
            self.findings.missing(table.at.clone(), what, Some(hint.to_owned()));
        }
        let jwks_uri = table.text(key!("jwks_uri"));
        if let Some(url) = &jwks_uri {
            self.check_url("jwks_uri", url, table.at("jwks_uri"));
        }
        let proxy = table.text(key!("proxy"));
        if let Some(url) = &proxy {
            self.check_proxy(url, table.at("proxy"));
        }
        let source = IssuerSource {
            issuer: name.clone(),
            jwks_uri,
            ca_file: table.path(key!("ca_file")).map(|file| self.base.join(file)),
            proxy,
        };
        let issuer = Issuer {
            name,
            audience: table.text(key!("audience"))?.into(),
            algorithms: self.algorithms(table),
            user_claim: table.text(key!("user_claim"))?.into(),
            plan,
            rules,
            max_users: table.count(key!("max_users"))?,
        };
        Some((issuer, source))
    }

    fn algorithms(&mut self, table: &Table) -> Vec<jsonwebtoken::Algorithm> {
        let Some(words) = table.texts(key!("algorithms")) else { return Vec::new() };
        if words.is_empty() {
            let hint = "leave it out for RS256, ES256 and EdDSA";
            self.findings.value(
                table.at("algorithms"),
                "\"algorithms\" is an empty list".to_owned(),
                Some(hint.to_owned()),
            );
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
            let (Some(claim), Some(value), Some(plan)) =
                (rule.text(key!("claim")), rule.text(key!("value")), rule.text(key!("plan")))
            else {
                continue;
            };
            let Some(plan) = self.plan(&plan, rule.at("plan")) else { continue };
            let team = rule.text(key!("team")).and_then(|team| self.team(&team, rule.at("team")));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::SettingKind;
    use crate::config::sections::section;

    #[test]
    fn every_algorithm_of_the_schema_is_one_that_signatures_are_checked_with() {
        let key = section("issuer").unwrap().keys.iter().find(|key| key.name == "algorithms").unwrap();
        let SettingKind::Choices(words) = key.kind else { panic!("{key:?}") };
        let unknown: Vec<&str> =
            words.iter().map(|word| word.word).filter(|word| jws::algorithm(word).is_none()).collect();
        assert!(!words.is_empty() && unknown.is_empty(), "{unknown:?}");
    }
}
