//! `herdgate replay`: decides on requests of a file or of standard input, one JSON object a line, and answers a line each.

use super::CommandError;
use crate::decision::caller::blocks::Blocks;
use crate::keys;
use crate::time::clock::Clock;
use crate::trial::{LINE_MAX, Lines, Rehearsal, ReplayAccount, ReplayLine, Request, RequestError, configured};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Buffers of input and output, in bytes.
const BUFFER: usize = 256 * 1024;

pub(super) fn run(config: &Path, file: &Path, passes: &str, out: &mut dyn Write) -> Result<(), CommandError> {
    let is_stdin = crate::config::is_stdin(file);
    if is_stdin && crate::config::is_stdin(config) {
        return Err(CommandError::Usage("standard input holds the requests; name the configuration file".to_owned()));
    }
    let config = super::load(config)?;
    let keys = keys::load(&super::key_file(&config))?;
    let fleet = configured(&config.policy);
    let now = Clock::new().now();
    let mut rehearsal = Rehearsal::new(config, keys, fleet, Blocks::default(), passes, now);
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let replayed = if is_stdin {
        replay(io::stdin().lock(), &mut rehearsal, &mut out)
    } else {
        let opened = File::open(file).map_err(|fault| cannot_read(file, &fault))?;
        replay(BufReader::with_capacity(BUFFER, opened), &mut rehearsal, &mut out)
    };
    let bad = match replayed {
        Ok(bad) => bad,
        Err(Broken::Input(fault)) => {
            out.flush()?;
            return Err(cannot_read(file, &fault));
        }
        Err(Broken::Output(fault)) => return Err(CommandError::Output(fault)),
    };
    out.flush()?;
    match bad {
        Bad { count: 0, .. } => Ok(()),
        Bad { count: 1, first } => Err(CommandError::Finding(format!("line {first} was not decided on"))),
        Bad { count, first } => {
            Err(CommandError::Finding(format!("{count} lines were not decided on; the first is line {first}")))
        }
    }
}

fn cannot_read(file: &Path, fault: &io::Error) -> CommandError {
    CommandError::Usage(format!("{}: cannot be read: {fault}", file.display()))
}

/// Lines that were not decided on.
#[derive(Default)]
struct Bad {
    count: u64,
    /// Number of the first.
    first: u64,
}

/// Which end broke.
enum Broken {
    Input(io::Error),
    Output(io::Error),
}

fn replay(from: impl BufRead, rehearsal: &mut Rehearsal, out: &mut dyn Write) -> Result<Bad, Broken> {
    let view = rehearsal.view();
    let mut lines = Lines::new(from, LINE_MAX);
    let mut bad = Bad::default();
    let mut number: u64 = 0;
    while let Some(line) = lines.next_line().map_err(Broken::Input)? {
        number = number.saturating_add(1);
        let written = match decide(&line, rehearsal, &view) {
            Ok(account) => serde_json::to_writer(&mut *out, &account),
            Err(fault) => {
                bad.count = bad.count.saturating_add(1);
                bad.first = if bad.first == 0 { number } else { bad.first };
                serde_json::to_writer(&mut *out, &json!({ "error": fault.to_string(), "line": number }))
            }
        };
        written.map_err(|fault| Broken::Output(fault.into()))?;
        out.write_all(b"\n").map_err(Broken::Output)?;
    }
    Ok(bad)
}

fn decide<'v>(
    line: &ReplayLine<'_>,
    rehearsal: &mut Rehearsal,
    view: &'v crate::decision::view::View,
) -> Result<ReplayAccount<'v>, RequestError> {
    let ReplayLine::Whole(bytes) = line else {
        return Err(RequestError::new(format!("is longer than {} MiB", LINE_MAX >> 20)));
    };
    let text = std::str::from_utf8(bytes).map_err(|_| RequestError::new("is not UTF-8"))?;
    Ok(rehearsal.put(view, &Request::read(text)?, false)?.account)
}
