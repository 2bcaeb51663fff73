//! Fetches the issuers' key sets in the background: the sole writer of them.
//!
//! Argument. No decision waits for this. The last good set stays in the View whatever an issuer answers, for a day
//! (`decision::token::STALE_NS`). One task an issuer, so one fetch at a time, and between the starts of two fetches lies at
//! least [`FetchPace::cooldown`], whoever asks and however the last one ended: an empty set, an error and a flood of invented
//! `kid`s alike cost an issuer one fetch a window.

mod address;
mod fault;
mod fetch;

pub use fault::FetchError;
pub use fetch::{Fetcher, KeySource};

use crate::decision::caller::token::{FetchStatus, LoadedRing, Ring};
use crate::gate::state::State;
use crate::mailbox::wanted::{MissingKeyBoard, MissingKeys};
use crate::metrics::Metrics;
use crate::time::clock::{Clock, timer};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Fetches that must fail in a row before the log speaks of an error.
const ALARM: u32 = 2;

/// How often issuers are asked.
#[derive(Debug, Clone, Copy)]
pub struct FetchPace {
    /// Time between two fetches where nothing is wanted: how long a key that the issuer removed may live on.
    pub refresh: Duration,
    /// Least time between the starts of two fetches.
    pub cooldown: Duration,
    /// Longest one request may take.
    pub timeout: Duration,
}

impl Default for FetchPace {
    fn default() -> FetchPace {
        let [refresh, cooldown, timeout] = [300, 30, 10].map(Duration::from_secs);
        FetchPace { refresh, cooldown, timeout }
    }
}

/// State that the tasks of all issuers share.
#[derive(Clone)]
pub struct Fetching {
    /// Where key sets are published.
    pub state: Arc<State>,
    /// Keys that decisions ask for.
    pub wanted: Arc<MissingKeyBoard>,
    /// Where fetches are counted.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
    /// How often issuers are asked.
    pub pace: FetchPace,
}

/// Fetches until `stop`. When `sources` changes, an issuer whose source is as before keeps its keys; the keys of any other
/// are dropped, since nobody vouches for them any more.
pub async fn run(fetching: Fetching, mut sources: watch::Receiver<Vec<KeySource>>, stop: CancellationToken) {
    let mut tasks: HashMap<KeySource, JoinHandle<()>> = HashMap::new();
    loop {
        let now: Vec<KeySource> = sources.borrow_and_update().clone();
        let gone: Vec<KeySource> = tasks.keys().filter(|source| !now.contains(source)).cloned().collect();
        for source in gone {
            if let Some(task) = tasks.remove(&source) {
                task.abort();
                // Ended before its keys are taken away, so that it cannot publish them again.
                let _ = task.await;
            }
            fetching.wanted.close(&source.issuer);
            fetching.state.publish_rings(|rings| rings.without(&source.issuer));
        }
        for source in now {
            let (fetching, missing_keys) = (fetching.clone(), fetching.wanted.open(&source.issuer));
            tasks.entry(source.clone()).or_insert_with(|| tokio::spawn(follow(fetching, source, missing_keys)));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = sources.changed() => if changed.is_err() {
                // Nobody can reload any more; the tasks go on.
                stop.cancelled().await;
                break;
            }
        }
    }
    tasks.values().for_each(JoinHandle::abort);
}

/// Keeps the key set of one issuer current.
async fn follow(fetching: Fetching, source: KeySource, missing_keys: Arc<MissingKeys>) {
    let issuer = source.issuer.clone();
    let mut fetcher = Fetcher::new(source, fetching.pace.timeout);
    let mut last: Option<([u8; 32], Arc<Ring>)> = None;
    let mut fetched = FetchStatus::default();
    loop {
        let earliest = timer(fetching.pace.cooldown);
        let refresh = timer(fetching.pace.refresh);
        match fetcher.fetch().await.and_then(|body| take(&body, &mut last, &issuer)) {
            Ok(ring) => {
                let now = fetching.clock.now();
                missing_keys.answered(&ring, now);
                if fetched.failures > 0 {
                    tracing::info!(%issuer, failures = fetched.failures, "the issuer's keys can be fetched again");
                }
                let loaded = Some(LoadedRing { ring, confirmed_ns: now.mono_ns });
                fetched = FetchStatus { loaded, failure: None, failures: 0 };
                fetching.metrics.jwks_fetch(None);
            }
            Err(FetchError { fault, detail }) => {
                let failures = fetched.failures.saturating_add(1);
                fetched = FetchStatus { failure: Some(fault.as_str()), failures, ..fetched };
                let keys = fetched.loaded.as_ref().map_or(0, |loaded| loaded.ring.len());
                fetching.metrics.jwks_fetch(Some(fault));
                let fault = fault.as_str();
                if failures < ALARM {
                    tracing::warn!(%issuer, fault, detail, keys, "the issuer's keys could not be fetched; those known stay");
                } else {
                    tracing::error!(%issuer, fault, detail, keys, failures, "the issuer's keys cannot be fetched");
                }
            }
        }
        fetching.state.publish_rings(|rings| rings.with(&issuer, fetched.clone()));
        if fetched.failures > 0 {
            tokio::time::sleep_until(earliest).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep_until(refresh) => {}
            () = missing_keys.asked() => tokio::time::sleep_until(earliest).await,
        }
    }
}

/// Returns the keys in a body: those of the last fetch where the body is the same.
fn take(body: &[u8], last: &mut Option<([u8; 32], Arc<Ring>)>, issuer: &str) -> Result<Arc<Ring>, FetchError> {
    let digest: [u8; 32] = Sha256::digest(body).into();
    if let Some((known, ring)) = last
        && *known == digest
    {
        return Ok(ring.clone());
    }
    let (ring, left_out) = Ring::read(body).map_err(|fault| FetchError::new(fault.into(), ""))?;
    tracing::info!(issuer, keys = ring.len(), left_out, "the issuer's keys changed");
    let ring = Arc::new(ring);
    *last = Some((digest, ring.clone()));
    Ok(ring)
}
