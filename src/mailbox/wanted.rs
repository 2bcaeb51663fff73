//! Keys that JWTs name and issuers' key sets lack. A decision notes one and goes on; the fetcher reads the notes in its own
//! time.
//!
//! Whoever can reach the proxy can invent a `kid`. So a decision leaves a note and never waits, the notes are bounded, and the
//! fetcher bounds by time alone how often it asks an issuer. A `kid` that a fresh set did not have causes no other fetch for
//! [`ABSENT_NS`].

use crate::decision::caller::token::{MissingKey, Ring};
use crate::decision::moment::Moment;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most `kid`s noted of an issuer, and most known as absent. Further ones are not noted, but the issuer is still asked.
pub const KIDS_MAX: usize = 1024;

/// How long a `kid` that a fresh set did not have is known as absent, in nanoseconds: five minutes.
pub const ABSENT_NS: u64 = 300_000_000_000;

/// The missing keys of all issuers whose keys are fetched.
#[derive(Debug, Default)]
pub struct MissingKeyBoard(Mutex<HashMap<Arc<str>, Arc<MissingKeys>>>);

/// Missing keys of one issuer.
#[derive(Debug, Default)]
pub struct MissingKeys {
    bell: Notify,
    kids: Mutex<Kids>,
}

#[derive(Debug, Default)]
struct Kids {
    asked: HashSet<Box<str>>,
    absent_until_ns: HashMap<Box<str>, u64>,
}

impl MissingKeyBoard {
    /// Asks for a key. Returns at once.
    pub fn ask(&self, missing: &MissingKey, now: Moment) {
        let Some(noted) = lock(&self.0).get(&missing.issuer).cloned() else { return };
        let mut kids = lock(&noted.kids);
        if kids.absent_until_ns.get(&missing.kid).is_some_and(|until| now.mono_ns < *until) {
            return;
        }
        if kids.asked.len() < KIDS_MAX {
            kids.asked.insert(missing.kid.clone());
        }
        drop(kids);
        noted.bell.notify_one();
    }

    /// Adds an issuer whose keys are fetched from now on, and returns its missing keys.
    pub fn open(&self, issuer: &Arc<str>) -> Arc<MissingKeys> {
        lock(&self.0).entry(issuer.clone()).or_default().clone()
    }

    /// Removes an issuer whose keys are no longer fetched.
    pub fn close(&self, issuer: &str) {
        lock(&self.0).remove(issuer);
    }
}

impl MissingKeys {
    /// Waits until a key was asked for since the last call.
    pub async fn asked(&self) {
        self.bell.notified().await;
    }

    /// Compares the notes with a fresh key set: a `kid` that was asked for and is not in it is absent.
    pub fn answered(&self, ring: &Ring, now: Moment) {
        let mut kids = lock(&self.kids);
        let Kids { asked, absent_until_ns } = &mut *kids;
        absent_until_ns.retain(|_, until| now.mono_ns < *until);
        let until = now.mono_ns.saturating_add(ABSENT_NS);
        for kid in asked.drain().filter(|kid| !ring.has(kid)) {
            if absent_until_ns.len() < KIDS_MAX {
                absent_until_ns.insert(kid, until);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two map operations leaves both maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
