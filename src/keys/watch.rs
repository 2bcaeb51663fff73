//! Takes up a changed key file while the daemon runs; a bad one changes nothing.

use super::file;
use super::source::KeyFile;
use crate::decision::caller::keyset::KeySet;
use crate::files::problem::Problems;
use crate::files::watch::FileWatch;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Time between two looks at the file: a change is seen at the first, taken up at the second, within a second in all.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Follows the key file until dropped and hands each good one to `publish`. `watch` must be older than the first reading.
///
/// # Errors
/// Where a look at the file panicked.
pub async fn follow(mut watch: FileWatch, key_file: KeyFile, mut publish: impl FnMut(KeySet)) -> std::io::Result<()> {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let path = watch.path().to_owned();
    // Reading 100,000 keys takes a good part of a second, and a file system may hang: neither may delay a decision. One
    // thread for all looks, and none of tokio's pool: the allocator keeps what was freed for the thread that took it, and
    // several threads would keep a whole key set each.
    let (ask, asked) = std::sync::mpsc::channel::<oneshot::Sender<_>>();
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        for answer in asked {
            // Nobody waits any more where the process stops.
            let _ = answer.send(look(&mut watch, &key_file));
        }
    })?;
    loop {
        tick.tick().await;
        let (answer, looked) = oneshot::channel();
        ask.send(answer).map_err(std::io::Error::other)?;
        match looked.await.map_err(std::io::Error::other)? {
            Some(Ok(keys)) => {
                if keys.is_empty() {
                    warn!(file = %path.display(), "no keys: every credential is refused");
                }
                info!(file = %path.display(), keys = keys.len(), "keys reloaded");
                publish(keys);
            }
            Some(Err(problems)) => log_refused(&problems),
            None => {}
        }
    }
}

/// Looks at the file once and reads it where it changed.
pub fn look(watch: &mut FileWatch, key_file: &KeyFile) -> Option<Result<KeySet, Problems>> {
    watch.look().then(|| file::load(key_file))
}

fn log_refused(problems: &Problems) {
    error!(file = %problems.file, problems = problems.count(), "key file refused; the last good one stays");
    for problem in &problems.items {
        let (line, column) = problem.position.map_or((0, 0), |position| (position.line, position.column));
        error!(file = %problems.file, line, column, hint = problem.hint.as_deref(), "{}", problem.what);
    }
}
