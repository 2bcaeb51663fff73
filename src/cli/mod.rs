//! The command line: its arguments, and the file that carries out each command.

mod block;
mod check;
mod control;
mod explain;
mod key;
mod life;
mod replay;
mod serve;
mod status;
mod table;
mod usage;

use crate::config::{self, Config};
use crate::files::problem::Problems;
use crate::keys::KeyFile;
use crate::keys::write::KeyWriteError;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "herdgate",
    version,
    about = "Adds API keys, quotas and per-model routing to HAProxy and nginx in front of Ollama, vLLM or llama.cpp"
)]
struct Cli {
    /// Configuration file; "-" is standard input [default: ./herdgate.toml, then /etc/herdgate/herdgate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Logging),
    /// Check the configuration and the key file, and list every problem
    Check(JsonFlag),
    /// Explain why a request is, or was, allowed or refused
    Explain(explain::ExplainArgs),
    /// Decide on the requests in a file (one JSON object a line), without a proxy or network
    Replay {
        /// The file; "-" is standard input
        file: PathBuf,
        /// The header in which the proxy passes on the user behind a key
        #[arg(long, value_name = "HEADER", default_value = crate::trial::PASSES)]
        passes: String,
    },
    /// Show the state of the running daemon: servers, keys, blocks, issuers
    Status {
        #[command(flatten)]
        json: JsonFlag,
        /// Repeat every second until stopped
        #[arg(long)]
        watch: bool,
    },
    /// Send a server no new requests; those in flight end. Until `undrain`, or a restart of the daemon
    Drain {
        /// Its name in the configuration
        server: String,
    },
    /// Send a drained server requests again
    Undrain {
        /// Its name in the configuration
        server: String,
    },
    /// Create, list, rotate, raise, revoke and import API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Report who used what; forget a user; back up the ledger file
    Usage(usage::UsageArgs),
    /// Block a key or a user for a while, in the running daemon
    Block {
        /// Whether a key or a user is meant
        #[arg(value_parser = ["key", "user"], required_unless_present = "list")]
        kind: Option<String>,
        /// The key's name, or the user as the header of `on_behalf_of` names it
        #[arg(required_unless_present = "list")]
        name: Option<String>,
        /// How long, such as 1h; at most 30d
        #[arg(long = "for", value_name = "DURATION", required_unless_present = "list", conflicts_with = "list")]
        lasting: Option<String>,
        /// List who is blocked
        #[arg(long, conflicts_with_all = ["kind", "name"])]
        list: bool,
        #[command(flatten)]
        json: JsonFlag,
    },
    /// End a block of a key or a user
    Unblock {
        /// Whether a key or a user is meant
        #[arg(value_parser = ["key", "user"])]
        kind: String,
        /// Its name, as it was blocked
        name: String,
    },
}

/// What the daemon writes to standard error.
#[derive(Debug, Clone, Copy, Args)]
struct Logging {
    /// Least severe level written. Grants are "debug"; the audit log is written at every level
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: Level,
    /// One JSON object a line
    #[arg(long)]
    log_json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, Args)]
struct JsonFlag {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key; its secret is shown only once
    New {
        /// Name of the key, shown in logs and reports
        #[arg(long)]
        name: String,
        #[command(flatten)]
        terms: KeyTermsArgs,
        /// Print the secret and nothing else
        #[arg(long)]
        print: bool,
    },
    /// List the keys
    List {
        /// Only valid keys that expire within this time, such as 14d
        #[arg(long, value_name = "DURATION")]
        expiring: Option<String>,
        #[command(flatten)]
        json: JsonFlag,
    },
    /// Give a key a new secret, shown only once; older secrets stay valid for the grace period
    Rotate {
        /// The key's name
        name: String,
        /// How long older secrets stay valid; 0s ends them at once
        #[arg(long, value_name = "DURATION")]
        grace: String,
        /// When the new secret expires [default: when the one before it does]
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// Print the secret and nothing else
        #[arg(long)]
        print: bool,
    },
    /// Lift a key to another plan's limits for a while; which models and options it may use does not change
    Raise {
        /// The key's name
        name: String,
        /// The plan whose rates, token limits, budgets and concurrency apply
        #[arg(long, required_unless_present = "end", requires = "until")]
        plan: Option<String>,
        /// Until when: a duration from now (2h) or a time (2027-01-31T12:00:00Z)
        #[arg(long, value_name = "WHEN", requires = "plan")]
        until: Option<String>,
        /// End it now
        #[arg(long, conflicts_with_all = ["plan", "until"])]
        end: bool,
    },
    /// Revoke a key, within a second
    Revoke {
        /// The key's name
        name: String,
    },
    /// Import existing secrets from standard input, one a line: "SECRET" or "NAME SECRET"
    Import {
        /// Names for lines without one: this prefix and a number
        #[arg(long, value_name = "PREFIX", default_value = "imported-")]
        name_prefix: String,
        /// Accept secrets that can be guessed: 8 to 31 characters, or a few characters repeated
        #[arg(long)]
        weak: bool,
        #[command(flatten)]
        terms: KeyTermsArgs,
    },
}

/// What holds for a new key.
#[derive(Debug, Args)]
struct KeyTermsArgs {
    /// Its plan [default: the only plan, where there is just one]
    #[arg(long)]
    plan: Option<String>,
    /// Its team
    #[arg(long)]
    team: Option<String>,
    /// The header that names the users behind it, such as x-openwebui-user-email
    #[arg(long, value_name = "HEADER")]
    on_behalf_of: Option<String>,
    /// The plan whose limits apply to each of those users [default: its own]
    #[arg(long, value_name = "PLAN", requires = "on_behalf_of")]
    user_plan: Option<String>,
    /// When it becomes valid: a duration from now (2h) or a time (2027-01-31T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    not_before: Option<String>,
    /// When it expires: a duration from now (14d) or a time (2027-01-31T12:00:00Z)
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

/// Why a command did not end well.
#[derive(Debug)]
enum CommandError {
    /// The command line or the configuration is at fault: exit status 2.
    Usage(String),
    /// The files have these problems: exit status 2.
    Problems(Vec<Problems>),
    /// The command's own finding is negative: exit status 1.
    Finding(String),
    /// Output could not be written: exit status 1, or 0 where the reader merely left.
    Output(io::Error),
}

impl From<io::Error> for CommandError {
    fn from(fault: io::Error) -> CommandError {
        CommandError::Output(fault)
    }
}

impl From<Problems> for CommandError {
    fn from(problems: Problems) -> CommandError {
        CommandError::Problems(vec![problems])
    }
}

impl From<KeyWriteError> for CommandError {
    fn from(fault: KeyWriteError) -> CommandError {
        match fault {
            KeyWriteError::Problems(problems) => problems.into(),
            KeyWriteError::Refused(what) => CommandError::Finding(what),
            KeyWriteError::Io(..) => CommandError::Usage(fault.to_string()),
        }
    }
}

/// Runs the command that `arguments` (the program's name first) ask for. Exit status: 0 well, 1 the command's finding is
/// negative, 2 usage or configuration.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(fault) => {
            // Where even this cannot be printed, the exit status still tells.
            let _ = fault.print();
            return ExitCode::from(u8::try_from(fault.exit_code()).unwrap_or(2));
        }
    };
    let mut out = io::stdout().lock();
    let result = dispatch(cli, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Output(fault)) if fault.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CommandError::Output(fault)) => complain(1, &format_args!("herdgate: cannot write the output: {fault}\n")),
        Err(CommandError::Finding(what)) => complain(1, &format_args!("herdgate: {what}\n")),
        Err(CommandError::Usage(what)) => complain(2, &format_args!("herdgate: {what}\n")),
        Err(CommandError::Problems(files)) => {
            files.iter().map(|problems| complain(2, problems)).next_back().unwrap_or(ExitCode::from(2))
        }
    }
}

fn dispatch(cli: Cli, out: &mut dyn Write) -> Result<(), CommandError> {
    let config = match cli.config {
        Some(path) => path,
        None => default_config()?,
    };
    match cli.command {
        Command::Serve(logging) => serve::run(&config, logging),
        Command::Check(JsonFlag { json }) => check::run(&config, json, out),
        Command::Explain(asked) => explain::run(&config, &asked, out),
        Command::Replay { file, passes } => replay::run(&config, &file, &passes, out),
        Command::Status { json, watch } => status::run(&config, json.json, watch, out),
        Command::Drain { server } => order(&config, &server, "drain", out),
        Command::Undrain { server } => order(&config, &server, "undrain", out),
        Command::Key(command) => key::run(command, &config, out),
        Command::Usage(asked) => usage::run(&config, &asked, out),
        Command::Block { list: true, json, .. } => block::list(&config, json.json, out),
        Command::Block { kind, name, lasting, .. } => {
            let words = [kind, name, lasting].map(Option::unwrap_or_default);
            block::block(&config, &words, out)
        }
        Command::Unblock { kind, name } => block::unblock(&config, &kind, &name, out),
    }
}

/// Has the running daemon change something about a server.
fn order(config: &Path, server: &str, word: &str, out: &mut dyn Write) -> Result<(), CommandError> {
    let control = control::Control::of(config)?;
    // Names are made of these (`config::server`); anything else is no server and no path either.
    if !server.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
        return Err(CommandError::Usage(format!("{server:?} is no name of a server")));
    }
    let answer = control.ask("POST", &format!("/servers/{server}/{word}"), String::new())?.well()?;
    Ok(write!(out, "{server}: {answer}")?)
}

fn complain(status: u8, what: &dyn fmt::Display) -> ExitCode {
    // Nobody listens on a closed standard error.
    let _ = write!(io::stderr(), "{what}");
    ExitCode::from(status)
}

/// Finds the configuration file where none is named.
fn default_config() -> Result<PathBuf, CommandError> {
    const PLACES: [&str; 2] = ["herdgate.toml", "/etc/herdgate/herdgate.toml"];
    PLACES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        CommandError::Usage(format!("there is no {} and no {}; name a file with --config", PLACES[0], PLACES[1]))
    })
}

/// Returns the key file that the configuration names.
fn key_file(config: &Config) -> KeyFile {
    crate::serve::key_file(&config.settings)
}

fn load(path: &Path) -> Result<Config, CommandError> {
    config::load(path).map_err(CommandError::from)
}
