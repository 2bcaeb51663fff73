//! `herdgate key`: makes, lists, revokes and imports API keys.

use super::{Failure, KeyCommand, Terms};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::quantity;
use crate::keys::file::{Entry, entries, is_name};
use crate::keys::{Secret, date, write};
use serde_json::json;
use std::io::{self, Read, Write};
use std::path::Path;

/// Most that is read from standard input, in bytes.
const IMPORT_MAX: u64 = 64 * 1024 * 1024;

pub(super) fn run(command: KeyCommand, config: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    if crate::config::is_stdin(config) && matches!(command, KeyCommand::Import { .. }) {
        return Err(Failure::Usage("standard input holds the secrets; name the configuration file".to_owned()));
    }
    let config = super::load(config)?;
    let file = config.settings.keys_file.as_path();
    let now = Clock::new().now().unix_ms;
    match command {
        KeyCommand::New { name, terms, print } => new(&name, &Granted::new(&terms, &config, now)?, print, file, out),
        KeyCommand::List { expiring, json } => list(expiring.as_deref(), json.json, now, file, out),
        KeyCommand::Revoke { name } => revoke(&name, now, file, out),
        KeyCommand::Import { name_prefix, terms } => {
            import(&name_prefix, &Granted::new(&terms, &config, now)?, file, out)
        }
    }
}

/// [`Terms`], checked.
struct Granted {
    plan: String,
    created_unix_ms: i64,
    expires_unix_ms: Option<i64>,
}

impl Granted {
    fn new(terms: &Terms, config: &Config, now: i64) -> Result<Granted, Failure> {
        if terms.team.is_some() {
            return Err(Failure::Usage("--team is not supported yet".to_owned()));
        }
        let plans = || config.policy.plans.iter().map(|plan| &*plan.name);
        let listed = || plans().take(20).collect::<Vec<_>>().join(", ");
        let plan = match (&terms.plan, plans().next(), plans().nth(1)) {
            (Some(plan), ..) if plans().any(|known| known == plan) => plan.clone(),
            (Some(plan), ..) => {
                let plan = plan.escape_debug();
                return Err(Failure::Usage(format!("there is no plan \"{plan}\"; the plans are {}", listed())));
            }
            (None, Some(only), None) => only.to_owned(),
            (None, ..) => {
                return Err(Failure::Usage(format!("say which plan with --plan; the plans are {}", listed())));
            }
        };
        let expires_unix_ms = terms.expires.as_deref().map(|when| expiry(when, now)).transpose()?;
        Ok(Granted { plan, created_unix_ms: now, expires_unix_ms })
    }

    fn entry(&self, name: &str, secret: &Secret) -> Entry {
        Entry {
            name: name.to_owned(),
            plan: self.plan.clone(),
            digest: secret.digest(),
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            revoked_unix_ms: None,
            line: 0,
        }
    }
}

fn expiry(when: &str, now: i64) -> Result<i64, Failure> {
    let after =
        |duration: std::time::Duration| now.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    let at = quantity::duration(when).map(after).or_else(|| date::parse(when));
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => Err(Failure::Usage(format!("--expires {} is not in the future", when.escape_debug()))),
        None => {
            let what = format!("--expires {} is neither a duration nor a time", when.escape_debug());
            Err(Failure::Usage(format!("{what}: write 14d, or 2027-01-31T12:00:00Z")))
        }
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_name(name) {
        return Ok(());
    }
    Err(Failure::Usage("a key's name is 1 to 64 letters, digits or any of _.@+-/:".to_owned()))
}

fn new(name: &str, granted: &Granted, print: bool, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(name)?;
    let secret = Secret::generate().map_err(|fault| Failure::Finding(format!("no randomness: {fault}")))?;
    write::append(file, &[granted.entry(name, &secret)])?;
    writeln!(out, "{}", secret.reveal()).and_then(|()| out.flush()).map_err(|fault| {
        Failure::Finding(format!("the key \"{name}\" was made but could not be shown ({fault}); revoke it"))
    })?;
    if !print {
        let expires = match granted.expires_unix_ms {
            Some(at) => format!("expires {}", date::format(at)),
            None => "does not expire".to_owned(),
        };
        // The key is made and shown; a closed standard error takes nothing from that.
        let _ = writeln!(
            io::stderr(),
            "key \"{name}\" on plan \"{}\", {expires}. The secret above is shown this once; {} keeps its digest.",
            granted.plan,
            file.display()
        );
    }
    Ok(())
}

fn list(expiring: Option<&str>, json: bool, now: i64, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let until = match expiring {
        Some(within) => {
            let fault = || Failure::Usage(format!("--expiring {} is not a duration: write 14d", within.escape_debug()));
            let within = quantity::duration(within).ok_or_else(fault)?;
            Some(now.saturating_add(i64::try_from(within.as_millis()).unwrap_or(i64::MAX)))
        }
        None => None,
    };
    let mut entries = entries(file)?;
    if let Some(until) = until {
        entries.retain(|entry| state(entry, now) == "live" && entry.expires_unix_ms.is_some_and(|at| at <= until));
    }
    if json {
        let time = |at: Option<i64>| at.map(date::format);
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.name, "plan": entry.plan, "state": state(entry, now),
                    "created": date::format(entry.created_unix_ms),
                    "expires": time(entry.expires_unix_ms), "revoked": time(entry.revoked_unix_ms),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::from(rows))?;
        return Ok(());
    }
    let width = |column: fn(&Entry) -> &str| entries.iter().map(|entry| column(entry).len()).max().unwrap_or(0).max(4);
    let (names, plans) = (width(|entry| &entry.name), width(|entry| &entry.plan));
    writeln!(out, "{:names$}  {:plans$}  {:7}  {:20}  EXPIRES", "NAME", "PLAN", "STATE", "CREATED")?;
    for entry in &entries {
        let expires = entry.expires_unix_ms.map_or("never".to_owned(), date::format);
        let created = date::format(entry.created_unix_ms);
        let (name, plan, state) = (&entry.name, &entry.plan, state(entry, now));
        writeln!(out, "{name:names$}  {plan:plans$}  {state:7}  {created:20}  {expires}")?;
    }
    Ok(())
}

fn state(entry: &Entry, now: i64) -> &'static str {
    if entry.revoked_unix_ms.is_some() {
        "revoked"
    } else if entry.expires_unix_ms.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "live"
    }
}

fn revoke(name: &str, now: i64, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    match write::revoke(file, name, now)? {
        0 => writeln!(out, "key \"{name}\" was revoked already")?,
        _ => writeln!(out, "key \"{name}\" is revoked; a running herdgate takes it up within a second")?,
    }
    Ok(())
}

fn import(prefix: &str, granted: &Granted, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(&format!("{prefix}1"))?;
    let mut text = String::new();
    let input = io::stdin().lock().take(IMPORT_MAX.saturating_add(1)).read_to_string(&mut text);
    match input {
        Ok(length) if length as u64 > IMPORT_MAX => {
            return Err(Failure::Usage("standard input is larger than 64 MiB".to_owned()));
        }
        Ok(_) => {}
        Err(fault) => return Err(Failure::Usage(format!("standard input cannot be read: {fault}"))),
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
        match Secret::imported(secret) {
            Err(fault) => faults.push(format!("line {line}: the secret {fault}")),
            Ok(_) if !is_name(&name) => {
                faults.push(format!("line {line}: the name is not 1 to 64 letters, digits or any of _.@+-/:"));
            }
            Ok(secret) if taken.insert(name.clone()) => new.push(granted.entry(&name, &secret)),
            Ok(_) => faults.push(format!("line {line}: there is already a key of this name")),
        }
    }
    if !faults.is_empty() {
        faults.push("nothing was imported".to_owned());
        return Err(Failure::Finding(faults.join("\nherdgate: ")));
    }
    if new.is_empty() {
        return Err(Failure::Finding("standard input holds no secret".to_owned()));
    }
    write::append(file, &new)?;
    for entry in &new {
        writeln!(out, "{}", entry.name)?;
    }
    Ok(())
}
