//! `herdgate status`: asks the running daemon how it is.

use super::Failure;
use std::io::Write;
use std::path::Path;

/// Prints the daemon's state.
pub(super) fn run(config: &Path, _json: bool, _out: &mut dyn Write) -> Result<(), Failure> {
    super::load(config)?;
    Err(Failure::Usage("this build has no daemon to ask".to_owned()))
}
