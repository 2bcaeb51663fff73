//! `herdgate serve`: runs the daemon.

use super::Failure;
use std::path::Path;

/// Runs the daemon until it is told to stop.
pub(super) fn run(config: &Path) -> Result<(), Failure> {
    super::load(config)?;
    Err(Failure::Usage("this build has no daemon in it".to_owned()))
}
