//! `herdgate explain`: the steps of one decision, for a request given here or one that the running daemon decided on.

use super::control::Control;
use super::{CommandError, JsonFlag};
use crate::config::is_stdin;
use crate::decision::caller::blocks::Blocks;
use crate::decision::verdict::Verdict;
use crate::explanation::why;
use crate::keys::{self, Secret};
use crate::net::listen::Address;
use crate::time::clock::Clock;
use crate::time::date;
use crate::trial::{LINE_MAX, PASSES, Rehearsal, Request, configured, lent, refused_with, reported};
use clap::Args;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;

/// Most that is read of a file of headers, in bytes.
const HEADERS_MAX: u64 = 64 * 1024;

/// Headers that carry a credential.
const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// What is to be explained.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Method and path of a request to try here, or the `x-request-id` of a past one
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD|ID", "PATH"])]
    request: Vec<String>,
    /// A header, "NAME: VALUE"; "@FILE" reads headers from a file, which keeps secrets off the command line
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The body; "@FILE" reads it, "@-" from standard input
    #[arg(short = 'd', long, value_name = "BODY")]
    body: Option<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    src: IpAddr,
    /// When the request is made, such as 2027-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Try it as the key of this name; its secret is not needed
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Use the running daemon's servers, models and blocks, instead of assuming that every configured server is up
    #[arg(long)]
    live: bool,
    /// The header in which the proxy passes on the user behind a key
    #[arg(long, value_name = "HEADER", default_value = PASSES)]
    passes: String,
    #[command(flatten)]
    json: JsonFlag,
}

pub(super) fn run(config: &Path, asked: &ExplainArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let explained = match asked.request.as_slice() {
        [method, path] => try_out(config, asked, method, path)?,
        [id, ..] => remembered(config, asked, id)?,
        [] => return Err(CommandError::Usage("say which request".to_owned())),
    };
    if asked.json.json {
        writeln!(out, "{explained}")?;
    } else {
        print(&explained, out)?;
    }
    out.flush()?;
    match (&explained["code"], &explained["reason"]) {
        (Value::String(code), Value::String(reason)) => {
            Err(CommandError::Finding(format!("refused: {code} ({reason})")))
        }
        _ => Ok(()),
    }
}

/// Explains a decision that the running daemon remembers, with what the ledger knows of the request.
fn remembered(config: &Path, asked: &ExplainArgs, id: &str) -> Result<Value, CommandError> {
    let given = !asked.headers.is_empty() || asked.body.is_some() || asked.at.is_some() || asked.key.is_some();
    let id = id.to_ascii_lowercase();
    if given || id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let what = "say METHOD and PATH, or the 32 hex digits of an x-request-id alone";
        return Err(CommandError::Usage(what.to_owned()));
    }
    // Read once: it may stand on standard input.
    let config = super::load(config)?;
    let life = super::life::life(&config, &id).unwrap_or_else(|fault| {
        // The decision is told all the same; who may ask for it may not be one who may read the file.
        let _ = writeln!(io::stderr(), "herdgate: what became of it cannot be told: {fault}");
        None
    });
    match (decision(config.settings.listen.control, &id), life) {
        (Ok(mut decision), life) => {
            decision["life"] = life.unwrap_or_default();
            Ok(decision)
        }
        // The daemon remembers for minutes, the ledger for months.
        (Err(_), Some(life)) => Ok(json!({ "id": id, "life": life })),
        (Err(failure), None) => Err(failure),
    }
}

/// Returns what the daemon remembers of a decision.
fn decision(control: Option<Address>, id: &str) -> Result<Value, CommandError> {
    let control = Control::at(control)?;
    let answer = control.ask("GET", &format!("/decisions/{id}"), String::new())?.well()?;
    let not_ours =
        |error| CommandError::Finding(format!("what answers on {} is no herdgate: {error}", control.address()));
    serde_json::from_str(&answer).map_err(not_ours)
}

/// Explains a decision that is taken here.
fn try_out(config_file: &Path, asked: &ExplainArgs, method: &str, path: &str) -> Result<Value, CommandError> {
    if is_stdin(config_file) && asked.body.as_deref() == Some("@-") {
        return Err(CommandError::Usage("standard input holds the body; name the configuration file".to_owned()));
    }
    let config = super::load(config_file)?;
    let mut keys = keys::load(&super::key_file(&config))?;
    let now = Clock::new().now();
    let mut request = Request {
        method: Cow::Borrowed(method),
        path: Cow::Borrowed(path),
        headers: headers(&asked.headers)?,
        src: Some(asked.src),
        body: None,
        body_base64: None,
        body_size: None,
        at: asked.at.as_deref().map(Cow::Borrowed),
        usage: None,
    };
    let at_ms = request.at_unix_ms().map_err(|fault| CommandError::Usage(fault.to_string()))?.unwrap_or(now.unix_ms);
    let body = asked.body.as_deref().map(body).transpose()?.unwrap_or_default();
    match String::from_utf8(body) {
        Ok(text) => request.body = Some(Cow::Owned(text)),
        Err(bytes) => {
            use base64::Engine;
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes.as_bytes());
            request.body_base64 = Some(Cow::Owned(encoded));
        }
    }
    if let Some(name) = &asked.key {
        if CREDENTIALS.iter().any(|header| request.has(header)) {
            return Err(CommandError::Usage("--key stands for a credential, and a header carries one too".to_owned()));
        }
        // It authenticates within this process and dies with it.
        let secret =
            Secret::generate().map_err(|fault| CommandError::Usage(format!("drawing random numbers: {fault}")))?;
        keys = lent(&keys, name, secret.reveal().as_bytes(), at_ms).ok_or_else(|| {
            CommandError::Usage(format!("there is no key \"{}\"; see herdgate key list", name.escape_debug()))
        })?;
        request.headers.push(("authorization".to_owned(), format!("Bearer {}", secret.reveal())));
    }
    let (fleet, blocks) = if asked.live {
        let control = Control::of(config_file)?;
        let status = control.ask("GET", "/status", String::new())?.well()?;
        reported(&status, now)
            .ok_or_else(|| CommandError::Finding(format!("what answers on {} is no herdgate", control.address())))?
    } else {
        (configured(&config.policy), Blocks::default())
    };
    let mut rehearsal = Rehearsal::new(config, keys, fleet, blocks, &asked.passes, now);
    let view = rehearsal.view();
    let ruling = rehearsal.put(&view, &request, true).map_err(|fault| CommandError::Usage(fault.to_string()))?;
    let reason = match &ruling.decided.verdict {
        Verdict::Refuse(refusal) => Some(why(&refusal.reason)),
        Verdict::Allow(_) | Verdict::Answer(_) => None,
    };
    let mut told = serde_json::to_value(&ruling.account).unwrap_or_default();
    if let Value::Object(told) = &mut told {
        told.insert("at".to_owned(), json!(date::format(at_ms)));
        told.insert("why".to_owned(), json!(reason));
        told.insert("body".to_owned(), json!(refused_with(&ruling.decided)));
        told.insert("steps".to_owned(), json!(ruling.steps));
    }
    Ok(told)
}

/// Reads the headers of the command line and of the files it names.
fn headers(given: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    let mut headers = Vec::new();
    for one in given {
        match one.strip_prefix('@') {
            None => headers.push(header(one)?),
            Some(file) => {
                let text = read(file, HEADERS_MAX)?;
                let text = String::from_utf8(text).map_err(|_| CommandError::Usage(format!("{file}: is not UTF-8")))?;
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    headers.push(header(line)?);
                }
            }
        }
    }
    Ok(headers)
}

fn header(written: &str) -> Result<(String, String), CommandError> {
    // What was written may be a secret, so it is not repeated.
    let wrong = || CommandError::Usage("a header is \"NAME: VALUE\"".to_owned());
    let (name, value) = written.split_once(':').ok_or_else(wrong)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn body(given: &str) -> Result<Vec<u8>, CommandError> {
    match given.strip_prefix('@') {
        Some(file) => read(file, LINE_MAX as u64),
        None => Ok(given.as_bytes().to_vec()),
    }
}

/// Reads a file of at most `max` bytes; `-` is standard input.
fn read(file: &str, max: u64) -> Result<Vec<u8>, CommandError> {
    let cannot = |fault: io::Error| CommandError::Usage(format!("{file}: cannot be read: {fault}"));
    let mut bytes = Vec::new();
    let most = max.saturating_add(1);
    let read = match file {
        "-" => io::stdin().lock().take(most).read_to_end(&mut bytes),
        file => File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(cannot)?;
    if bytes.len() as u64 > max {
        return Err(CommandError::Usage(format!("{file}: is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Prints a page for people: a line for each step, then the verdict.
fn print(explained: &Value, out: &mut dyn Write) -> Result<(), CommandError> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if explained["verdict"].is_null() {
        writeln!(out, "{}", text(&explained["id"]))?;
        return Ok(super::life::print(&explained["life"], out)?);
    }
    if let Some(id) = explained["id"].as_str() {
        let (at, ingress, src) = (text(&explained["at"]), text(&explained["ingress"]), text(&explained["src"]));
        writeln!(out, "{id}, at {at}, by {ingress}, from {src}")?;
    }
    for step in explained["steps"].as_array().into_iter().flatten() {
        let mark = if step["passed"] == true { "ok" } else { "NO" };
        writeln!(out, "  {:<8} {mark}  {}", text(&step["step"]), text(&step["found"]))?;
    }
    match explained["verdict"].as_str() {
        Some("allow") => writeln!(out, "allowed, to {}", text(&explained["server"]))?,
        Some("answer") => writeln!(out, "answered by herdgate itself")?,
        _ => {
            let (status, reason) = (text(&explained["status"]), text(&explained["reason"]));
            writeln!(out, "refused: {status} {} ({reason}), {}", text(&explained["code"]), text(&explained["why"]))?;
            writeln!(out, "the client reads: {}", text(&explained["body"]))?;
        }
    }
    if !explained["life"].is_null() {
        super::life::print(&explained["life"], out)?;
    }
    Ok(())
}
