//! `herdgate serve`: sets the log up and runs the daemon.

use super::{CommandError, Level, Logging};
use crate::serve::{self, ServeFault};
use std::io::{self, IsTerminal};
use std::path::Path;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Runs the daemon until it is told to stop.
pub(super) fn run(config: &Path, logging: Logging) -> Result<(), CommandError> {
    // Decisions must not wait for whoever reads the log: a full queue (128,000 lines) drops lines.
    let (writer, _flushed_when_dropped) = tracing_appender::non_blocking(io::stderr());
    let level = match logging.log {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Others' crates are of interest when they warn.
    let ours = tracing_subscriber::filter::Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("herdgate", level)
        // Who was refused what must not depend on how much else is of interest.
        .with_target(crate::gate::audit::TARGET, level.max(LevelFilter::INFO));
    let lines = fmt::layer().with_writer(writer).with_target(true).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(ours);
    if logging.log_json {
        registry.with(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)).init();
    } else {
        registry.with(lines).init();
    }
    serve::run(config).map_err(|fault| match fault {
        ServeFault::Problems(problems) => CommandError::from(problems),
        ServeFault::Store(fault) => CommandError::Usage(fault.to_string()),
        ServeFault::System { doing, error } => CommandError::Usage(format!("{doing}: {error}")),
    })
}
