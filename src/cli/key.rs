//! `herdgate key`: makes, lists, rotates, raises, revokes and imports API keys.

use super::table::{TableColumn, TextTable};
use super::{CommandError, KeyCommand, KeyTermsArgs};
use crate::config::Config;
use crate::config::quantity;
use crate::decision::caller::on_behalf;
use crate::keys::file::{self, KeyEntry, Raise, entries, is_name};
use crate::keys::{KeyFile, Secret, used, write};
use crate::time::clock::Clock;
use crate::time::date;
use serde_json::json;
use std::io::{self, Read, Write};
use std::path::Path;

/// Most that is read from standard input, in bytes.
const IMPORT_MAX: u64 = 64 * 1024 * 1024;

pub(super) fn run(command: KeyCommand, config: &Path, out: &mut dyn Write) -> Result<(), CommandError> {
    if crate::config::is_stdin(config) && matches!(command, KeyCommand::Import { .. }) {
        return Err(CommandError::Usage("standard input holds the secrets; name the configuration file".to_owned()));
    }
    let config = super::load(config)?;
    let file = &super::key_file(&config);
    let now = Clock::new().now().unix_ms;
    match command {
        KeyCommand::New { name, terms, print } => new(&name, &Granted::new(&terms, &config, now)?, print, file, out),
        KeyCommand::List { expiring, json } => list(expiring.as_deref(), json.json, now, file, out),
        KeyCommand::Revoke { name } => revoke(&name, now, file, out),
        KeyCommand::Rotate { name, grace, expires, print } => {
            let until = expires.as_deref().map(|when| moment(when, "--expires", now)).transpose()?;
            rotate(&name, &grace, until, print, now, file, out)
        }
        KeyCommand::Raise { name, plan, until, end: _ } => {
            let to = match plan.zip(until) {
                None => None,
                Some((plan, until)) => {
                    Some(Raise { plan: known_plan(&plan, &config)?, until_unix_ms: moment(&until, "--until", now)? })
                }
            };
            raise(&name, to.as_ref(), file, out)
        }
        KeyCommand::Import { name_prefix, weak, terms } => {
            import(&name_prefix, weak, &Granted::new(&terms, &config, now)?, file, out)
        }
    }
}

/// [`KeyTermsArgs`], checked.
struct Granted {
    terms: file::KeyTerms,
    created_unix_ms: i64,
    not_before_unix_ms: Option<i64>,
    expires_unix_ms: Option<i64>,
}

impl Granted {
    fn new(terms: &KeyTermsArgs, config: &Config, now: i64) -> Result<Granted, CommandError> {
        let plans = || config.policy.plans.iter().map(|plan| &*plan.name);
        let known = |plan: &str| known_plan(plan, config);
        let plan = match (&terms.plan, plans().next(), plans().nth(1)) {
            (Some(plan), ..) => known(plan)?,
            (None, Some(only), None) => only.to_owned(),
            (None, ..) => {
                let listed = listed(&mut plans());
                return Err(CommandError::Usage(format!("say which plan with --plan; the plans are {listed}")));
            }
        };
        let teams = || config.policy.teams.iter().map(|team| &*team.name);
        if let Some(team) = terms.team.as_deref().filter(|team| !teams().any(|known| known == *team)) {
            let team = team.escape_debug();
            let what = match teams().next() {
                None => format!("there is no team \"{team}\"; add [teams.{team}] to the configuration"),
                Some(_) => format!("there is no team \"{team}\"; the teams are {}", listed(&mut teams())),
            };
            return Err(CommandError::Usage(what));
        }
        let on_behalf_of = terms.on_behalf_of.as_deref().map(str::to_ascii_lowercase);
        if on_behalf_of.as_deref().is_some_and(|header| !on_behalf::is_header(header)) {
            let what =
                "--on-behalf-of is the name of a header, such as x-openwebui-user-email, and none of a credential's";
            return Err(CommandError::Usage(what.to_owned()));
        }
        let user_plan = terms.user_plan.as_deref().map(known).transpose()?;
        let at = |when: &Option<String>, option| when.as_deref().map(|when| moment(when, option, now)).transpose();
        Ok(Granted {
            terms: file::KeyTerms { plan, team: terms.team.clone(), on_behalf_of, user_plan },
            created_unix_ms: now,
            not_before_unix_ms: at(&terms.not_before, "--not-before")?,
            expires_unix_ms: at(&terms.expires, "--expires")?,
        })
    }

    fn entry(&self, name: &str, secret: &Secret, weak: bool, file: &KeyFile) -> Result<KeyEntry, CommandError> {
        let (digest, peppered) = file.digest(secret.reveal().as_bytes())?;
        Ok(KeyEntry {
            name: name.to_owned(),
            terms: self.terms.clone(),
            digest,
            peppered,
            weak,
            created_unix_ms: self.created_unix_ms,
            not_before_unix_ms: self.not_before_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            retires_unix_ms: None,
            revoked_unix_ms: None,
            raised: None,
            line: 0,
            retires_line: 0,
            raised_lines: [0; 2],
        })
    }
}

/// Returns the name of a plan that the configuration has.
fn known_plan(plan: &str, config: &Config) -> Result<String, CommandError> {
    let mut plans = config.policy.plans.iter().map(|plan| &*plan.name);
    if plans.clone().any(|known| known == plan) {
        return Ok(plan.to_owned());
    }
    let plan = plan.escape_debug();
    Err(CommandError::Usage(format!("there is no plan \"{plan}\"; the plans are {}", listed(&mut plans))))
}

fn listed(names: &mut dyn Iterator<Item = &str>) -> String {
    names.take(20).collect::<Vec<_>>().join(", ")
}

/// Reads a time to come, in milliseconds since 1970.
fn moment(when: &str, option: &str, now: i64) -> Result<i64, CommandError> {
    let after = |duration: std::time::Duration| now.saturating_add(milliseconds(duration));
    let at = quantity::duration(when).map(after).or_else(|| date::parse(when));
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => Err(CommandError::Usage(format!("{option} {} is not in the future", when.escape_debug()))),
        None => {
            let what = format!("{option} {} is neither a duration nor a time", when.escape_debug());
            Err(CommandError::Usage(format!("{what}: write 14d, or 2027-01-31T12:00:00Z")))
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn check_name(name: &str) -> Result<(), CommandError> {
    if is_name(name) {
        return Ok(());
    }
    Err(CommandError::Usage("a key's name is 1 to 64 letters, digits or any of _.@+-/:".to_owned()))
}

fn new(name: &str, granted: &Granted, print: bool, file: &KeyFile, out: &mut dyn Write) -> Result<(), CommandError> {
    check_name(name)?;
    let secret = generated()?;
    let entry = granted.entry(name, &secret, false, file)?;
    write::append(file, std::slice::from_ref(&entry))?;
    show(&secret, &entry, print, file, out)
}

/// Adds a secret to a key on the same terms; those before it end with the grace.
fn rotate(
    name: &str,
    grace: &str,
    until: Option<i64>,
    print: bool,
    now: i64,
    file: &KeyFile,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let fault = || CommandError::Usage(format!("--grace {} is not a duration: write 24h", grace.escape_debug()));
    let grace_ms = milliseconds(quantity::duration(grace).ok_or_else(fault)?);
    let secret = generated()?;
    let (digest, peppered) = file.digest(secret.reveal().as_bytes())?;
    let mut made = None;
    write::rotate(file, name, now, grace_ms, |newest| {
        let lifetime = newest.expires_unix_ms.map(|expires| expires.saturating_sub(newest.created_unix_ms));
        let entry = KeyEntry {
            digest,
            peppered,
            weak: false,
            created_unix_ms: now,
            not_before_unix_ms: None,
            expires_unix_ms: until.or_else(|| lifetime.map(|lifetime| now.saturating_add(lifetime))),
            retires_unix_ms: None,
            raised: newest.raised_at(now).cloned(),
            line: 0,
            retires_line: 0,
            raised_lines: [0; 2],
            ..newest.clone()
        };
        made.insert(entry).clone()
    })?;
    match made {
        Some(entry) => show(&secret, &entry, print, file, out),
        None => Ok(()),
    }
}

fn generated() -> Result<Secret, CommandError> {
    Secret::generate().map_err(|fault| CommandError::Finding(format!("no randomness: {fault}")))
}

/// Shows a new secret, this once.
fn show(
    secret: &Secret,
    entry: &KeyEntry,
    print: bool,
    file: &KeyFile,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let name = &entry.name;
    writeln!(out, "{}", secret.reveal()).and_then(|()| out.flush()).map_err(|fault| {
        CommandError::Finding(format!("the key \"{name}\" was made but could not be shown ({fault}); revoke it"))
    })?;
    if !print {
        let expires = match entry.expires_unix_ms {
            Some(at) => format!("expires {}", date::format(at)),
            None => "does not expire".to_owned(),
        };
        // The key is made and shown; a closed standard error takes nothing from that.
        let _ = writeln!(
            io::stderr(),
            "key \"{name}\" on plan \"{}\", {expires}. The secret above is shown this once; {} stores only its digest.",
            entry.terms.plan,
            file.path.display()
        );
    }
    Ok(())
}

fn list(expiring: Option<&str>, json: bool, now: i64, file: &KeyFile, out: &mut dyn Write) -> Result<(), CommandError> {
    let until = match expiring {
        Some(within) => {
            let fault =
                || CommandError::Usage(format!("--expiring {} is not a duration: write 14d", within.escape_debug()));
            Some(now.saturating_add(milliseconds(quantity::duration(within).ok_or_else(fault)?)))
        }
        None => None,
    };
    let mut entries = entries(file)?;
    if let Some(until) = until {
        // A secret that retires has a successor already.
        let is_due = |entry: &KeyEntry| entry.expires_unix_ms.is_some_and(|at| at <= until);
        entries.retain(|entry| matches!(state(entry, now), "live" | "early") && is_due(entry));
    }
    let uses = used::read(&used::path(&file.path));
    let last_used = |entry: &KeyEntry| uses.get(&entry.digest.fingerprint()).map(|unix_s| unix_s.saturating_mul(1_000));
    if json {
        let time = |at: Option<i64>| at.map(date::format);
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.name, "plan": entry.terms.plan, "team": entry.terms.team, "state": state(entry, now),
                    "on_behalf_of": entry.terms.on_behalf_of, "user_plan": entry.terms.user_plan, "weak": entry.weak,
                    "peppered": entry.peppered, "created": date::format(entry.created_unix_ms),
                    "not_before": time(entry.not_before_unix_ms), "expires": time(entry.expires_unix_ms),
                    "retires": time(entry.retires_unix_ms), "revoked": time(entry.revoked_unix_ms),
                    "last_used": time(last_used(entry)),
                    "raised_plan": entry.raised_at(now).map(|raised| &raised.plan),
                    "raised_until": time(entry.raised_at(now).map(|raised| raised.until_unix_ms)),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    let columns =
        [("NAME", 4), ("PLAN", 4), ("TEAM", 4), ("STATE", 8), ("CREATED", 20), ("ENDS", 20), ("LAST USED", 0)];
    let columns = columns.map(|(heading, width_min)| TableColumn::text(heading, width_min));
    let mut table = TextTable::new(2, columns.to_vec());
    for entry in &entries {
        let time = |at: Option<i64>| at.map_or("never".to_owned(), date::format);
        let team = entry.terms.team.clone().unwrap_or_else(|| "-".to_owned());
        let mut used = time(last_used(entry));
        if entry.weak {
            used.push_str("  weak");
        }
        if let Some(Raise { plan, until_unix_ms }) = entry.raised_at(now) {
            used.push_str(&format!("  raised to {plan} until {}", date::format(*until_unix_ms)));
        }
        table.push(vec![
            entry.name.clone(),
            entry.terms.plan.clone(),
            team,
            state(entry, now).to_owned(),
            date::format(entry.created_unix_ms),
            time(entry.ends_unix_ms()),
            used,
        ]);
    }
    Ok(table.print(out)?)
}

fn state(entry: &KeyEntry, now: i64) -> &'static str {
    let is_over = |at: Option<i64>| at.is_some_and(|at| at <= now);
    if entry.revoked_unix_ms.is_some() {
        "revoked"
    } else if is_over(entry.expires_unix_ms) {
        "expired"
    } else if is_over(entry.retires_unix_ms) {
        "retired"
    } else if entry.not_before_unix_ms.is_some_and(|begins| begins > now) {
        "early"
    } else if entry.retires_unix_ms.is_some() {
        "retiring"
    } else {
        "live"
    }
}

fn raise(name: &str, to: Option<&Raise>, file: &KeyFile, out: &mut dyn Write) -> Result<(), CommandError> {
    const TAKEN_UP: &str = "a running herdgate takes it up within a second";
    match (write::raise(file, name, to)?, to) {
        (_, Some(Raise { plan, until_unix_ms })) => {
            let until = date::format(*until_unix_ms);
            writeln!(out, "key \"{name}\" has the limits of plan \"{plan}\" until {until}; {TAKEN_UP}")?;
        }
        (true, None) => writeln!(out, "key \"{name}\" has the limits of its own plan; {TAKEN_UP}")?,
        (false, None) => writeln!(out, "key \"{name}\" was not raised")?,
    }
    Ok(())
}

fn revoke(name: &str, now: i64, file: &KeyFile, out: &mut dyn Write) -> Result<(), CommandError> {
    match write::revoke(file, name, now)? {
        0 => writeln!(out, "key \"{name}\" was revoked already")?,
        _ => writeln!(out, "key \"{name}\" is revoked; a running herdgate takes it up within a second")?,
    }
    Ok(())
}

fn import(
    prefix: &str,
    weak: bool,
    granted: &Granted,
    file: &KeyFile,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    check_name(&format!("{prefix}1"))?;
    let mut text = String::new();
    let input = io::stdin().lock().take(IMPORT_MAX.saturating_add(1)).read_to_string(&mut text);
    match input {
        Ok(length) if length as u64 > IMPORT_MAX => {
            return Err(CommandError::Usage("standard input is larger than 64 MiB".to_owned()));
        }
        Ok(_) => {}
        Err(fault) => return Err(CommandError::Usage(format!("standard input cannot be read: {fault}"))),
    }
    let mut taken: std::collections::HashSet<String> = entries(file)?.into_iter().map(|entry| entry.name).collect();
    let mut number = 0_u64;
    let (mut new, mut faults) = (Vec::new(), Vec::new());
    for (line, content) in (1_usize..).zip(text.lines()) {
        let mut words = content.split_whitespace();
        let (name, secret) = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(secret), None, _) => {
                let name = std::iter::repeat_with(|| {
                    number = number.saturating_add(1);
                    format!("{prefix}{number}")
                });
                (name.into_iter().find(|name| !taken.contains(name)).unwrap_or_default(), secret)
            }
            (Some(name), Some(secret), None) => (name.to_owned(), secret),
            _ => {
                faults.push(format!("line {line}: more than a name and a secret"));
                continue;
            }
        };
        // Neither word is shown unless it is known to be a name: the two may stand in the wrong order.
        match Secret::imported(secret, weak) {
            Err(fault) => faults.push(format!("line {line}: the secret {fault}")),
            Ok(_) if !is_name(&name) => {
                faults.push(format!("line {line}: the name is not 1 to 64 letters, digits or any of _.@+-/:"));
            }
            Ok(secret) if taken.insert(name.clone()) => {
                // Said of those only that would not have been taken otherwise.
                let weak = Secret::imported(secret.reveal(), false).is_err();
                new.push(granted.entry(&name, &secret, weak, file)?);
            }
            Ok(_) => faults.push(format!("line {line}: there is already a key of this name")),
        }
    }
    if !faults.is_empty() {
        faults.push("nothing was imported".to_owned());
        return Err(CommandError::Finding(faults.join("\nherdgate: ")));
    }
    if new.is_empty() {
        return Err(CommandError::Finding("standard input holds no secret".to_owned()));
    }
    write::append(file, &new)?;
    for entry in &new {
        writeln!(out, "{}", entry.name)?;
    }
    Ok(())
}
