//! Files as operators write them: problems with place and hint, near spellings, changes, secrets.

pub mod problem;
pub mod secret;
pub mod spelling;
pub mod watch;
