//! `herdgate usage`: who used what, as a table, CSV or JSON, read from the ledger's file; forgetting a user; backups.

use super::control::Control;
use super::table::{TableColumn, TextTable};
use super::{CommandError, JsonFlag};
use crate::config::settings::LedgerSettings;
use crate::config::{Config, quantity};
use crate::decision::request::name::ModelName;
use crate::ledger::calendar::Day;
use crate::ledger::reservation::Evidence;
use crate::store::{By, LINES_MAX, OpenStoreError, Options, Selection, Store, UsageRow, backup, report};
use crate::time::clock::Clock;
use crate::time::date;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest the daemon may take to forget a user: it reads every row.
const FORGETTING: Duration = Duration::from_secs(600);

/// Longest the rest may take where no daemon runs.
const CLOSING: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UsageArgs {
    #[command(subcommand)]
    action: Option<UsageAction>,
    /// What each line sums up
    #[arg(long, value_enum, default_value = "key")]
    by: GroupWord,
    /// First day: 2027-01-31, or a duration before now such as 30d [default: the first that is kept]
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// Last day, included
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// Only this key (or JWT issuer)
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Only this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only this team
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    json: JsonFlag,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GroupWord {
    Key,
    User,
    Team,
    Model,
    Day,
    Endpoint,
    Server,
}

#[derive(Debug, Subcommand)]
enum UsageAction {
    /// Remove a user's name from all rows; totals stay
    Forget {
        /// The user, as `--by user` shows it
        user: String,
    },
    /// Copy the ledger file and check the copy; the daemon may be running
    Backup {
        /// Where to write the copy; the file must not exist yet
        file: PathBuf,
    },
}

pub(super) fn run(config: &Path, asked: &UsageArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let loaded = super::load(config)?;
    let Some(path) = loaded.settings.ledger.path.clone() else {
        return Err(CommandError::Usage("[ledger] path is off: nothing is kept".to_owned()));
    };
    match &asked.action {
        None => tell(&path, asked, &loaded, out),
        Some(UsageAction::Forget { user }) => forget(config, &path, user, &loaded.settings.ledger, out),
        Some(UsageAction::Backup { file }) => {
            let bytes = backup(&path, file).map_err(failure)?;
            Ok(writeln!(out, "{}: {bytes} bytes, checked", file.display())?)
        }
    }
}

fn failure(fault: OpenStoreError) -> CommandError {
    CommandError::Usage(fault.to_string())
}

fn tell(path: &Path, asked: &UsageArgs, config: &Config, out: &mut dyn Write) -> Result<(), CommandError> {
    let zone = &config.settings.ledger.time_zone;
    let now_unix_ms = Clock::new().now().unix_ms;
    let day = |written: &Option<String>, flag: &str| -> Result<Option<Day>, CommandError> {
        let Some(written) = written else { return Ok(None) };
        let before = |ago: Duration| {
            let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            date::day(now_unix_ms.saturating_sub(ago_ms), zone)
        };
        let day = date::parse_day(written).or_else(|| quantity::duration(written).map(before));
        let fault = || CommandError::Usage(format!("{flag} {}: write 2027-01-31, or 30d", written.escape_debug()));
        day.map(Day).ok_or_else(fault).map(Some)
    };
    let of = Selection {
        since: day(&asked.since, "--since")?,
        until: day(&asked.until, "--until")?,
        key: asked.key.clone(),
        user: asked.user.clone(),
        team: asked.team.clone(),
        model: asked.model.as_ref().map(|model| ModelName::canonical(model).as_str().to_owned()),
    };
    let (by, heading) = match asked.by {
        GroupWord::Key => (By::Key, "key"),
        GroupWord::User => (By::User, "user"),
        GroupWord::Team => (By::Team, "team"),
        GroupWord::Model => (By::Model, "model"),
        GroupWord::Day => (By::Day, "day"),
        GroupWord::Endpoint => (By::Endpoint, "endpoint"),
        GroupWord::Server => (By::Server, "server"),
    };
    let mut lines = report(path, by, &of).map_err(failure)?;
    if by == By::Day {
        for line in &mut lines {
            line.of = line.of.parse().map(date::format_day).unwrap_or_default();
        }
    }
    match (asked.json.json, asked.csv) {
        (true, _) => as_json(heading, &lines, out)?,
        (_, true) => as_csv(heading, &lines, out)?,
        _ => as_table(heading, &lines, out)?,
    }
    if lines.len() == LINES_MAX {
        return Err(CommandError::Finding(format!("only the first {LINES_MAX} lines are shown; ask for less")));
    }
    Ok(())
}

fn as_json(heading: &str, lines: &[UsageRow], out: &mut dyn Write) -> Result<(), CommandError> {
    let line = |line: &UsageRow| {
        let mut object = json!({
            "requests": line.requests,
            "tokens_in": line.tokens_in,
            "tokens_out": line.tokens_out,
            "charge": tokens(line.charge).parse::<f64>().unwrap_or_default(),
            "charge_by_evidence": {},
        });
        object[heading] = line.of.as_str().into();
        for (evidence, charge) in Evidence::ALL.into_iter().zip(line.charge_by) {
            object["charge_by_evidence"][evidence.as_str()] = tokens(charge).parse::<f64>().unwrap_or_default().into();
        }
        object
    };
    let lines: Vec<_> = lines.iter().map(line).collect();
    Ok(writeln!(out, "{}", serde_json::Value::from(lines))?)
}

/// Prints lines by RFC 4180, and never a formula where a spreadsheet reads it: users choose their names.
fn as_csv(heading: &str, lines: &[UsageRow], out: &mut dyn Write) -> Result<(), CommandError> {
    let field = |text: &str| {
        let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{guard}{}\"", text.replace('"', "\"\""))
        } else {
            format!("{guard}{text}")
        }
    };
    let classes: Vec<&str> = Evidence::ALL.iter().rev().map(|evidence| evidence.as_str()).collect();
    writeln!(out, "{heading},requests,tokens_in,tokens_out,charge,{}", classes.join(","))?;
    for line in lines {
        let by: Vec<String> = line.charge_by.iter().rev().map(|charge| tokens(*charge)).collect();
        let (requests, input, output) = (line.requests, line.tokens_in, line.tokens_out);
        let (of, charge) = (field(&line.of), tokens(line.charge));
        writeln!(out, "{of},{requests},{input},{output},{charge},{}", by.join(","))?;
    }
    Ok(())
}

/// Prints a table for people: the charge in tokens, and how much of it is known in which way.
fn as_table(heading: &str, lines: &[UsageRow], out: &mut dyn Write) -> Result<(), CommandError> {
    let shown = |line: &UsageRow| {
        if line.of.is_empty() {
            "-".to_owned()
        } else {
            line.of.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
    };
    let mut columns = vec![TableColumn::text(heading, 0), TableColumn::numbers("requests", 10)];
    columns.extend(["tokens in", "tokens out"].map(|heading| TableColumn::numbers(heading, 14)));
    columns.push(TableColumn::numbers("charge", 16));
    columns.extend(Evidence::ALL.iter().rev().map(|evidence| TableColumn::numbers(evidence.as_str(), 9)));
    let mut table = TextTable::new(1, columns);
    for line in lines {
        let counts = [line.requests, line.tokens_in, line.tokens_out].map(|count| count.to_string());
        let mut row = vec![shown(line)];
        row.extend(counts);
        row.push(tokens(line.charge));
        row.extend(line.charge_by.iter().rev().map(|charge| share(*charge, line.charge)));
        table.push(row);
    }
    Ok(table.print(out)?)
}

/// Returns thousandths of a token as tokens.
fn tokens(charge: u64) -> String {
    match charge % 1_000 {
        0 => (charge / 1_000).to_string(),
        thousandths => format!("{}.{thousandths:03}", charge / 1_000).trim_end_matches('0').to_owned(),
    }
}

fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (0, _) | (_, 0) => "-".to_owned(),
        (part, whole) => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// Forgets a user: in the file, or by the daemon that has it open.
fn forget(
    config: &Path,
    path: &Path,
    user: &str,
    settings: &LedgerSettings,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if user.is_empty() {
        return Err(CommandError::Usage("the user has no name".to_owned()));
    }
    if !path.exists() {
        return Err(failure(OpenStoreError::Absent(path.to_owned())));
    }
    let options = Options {
        keep_days: settings.keep_days,
        fresh_on_damage: false,
        clock: Clock::new(),
        zone: settings.time_zone.clone(),
        vfs: None,
    };
    let done = match Store::open(path, options) {
        Ok((store, _)) => {
            let done = store.forget(user).map_err(CommandError::Finding)?.to_string();
            store.close(CLOSING);
            done
        }
        Err(OpenStoreError::InUse(_)) => {
            let command = json!({ "user": user }).to_string();
            Control::of(config)?.ask_within(FORGETTING, "POST", "/forget", command)?.well()?.trim_end().to_owned()
        }
        Err(fault) => return Err(failure(fault)),
    };
    Ok(writeln!(out, "user \"{}\": {done}", user.escape_debug())?)
}
