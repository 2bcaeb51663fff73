//! The way to the store: one connection for all calls, a deadline on each, and the breaker before them.
//!
//! Whoever asks never connects, and never waits longer than the deadline: without a connection the answer is trouble at
//! once. Connecting and trying is the affair of one task ([`Link::mend`]).

use super::breaker::{StoreBreaker, StorePhase};
use super::keyspace;
use super::scripts::Scripts;
use crate::metrics::shared_store::{Counts, Operation, SharedStoreError};
use crate::shared_store::address::StoreAddress;
use crate::time::clock::Clock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most calls at once: bounds what a store that has just stopped can make this process hold.
const CALLS_MAX: usize = 512;

/// How long calls and connecting may take.
#[derive(Debug, Clone, Copy)]
pub struct StorePace {
    /// A call: what a decision may lose to a store that hangs.
    pub deadline: Duration,
    /// Connecting, and the first write.
    pub connecting: Duration,
}

impl Default for StorePace {
    fn default() -> StorePace {
        StorePace { deadline: Duration::from_millis(30), connecting: Duration::from_millis(500) }
    }
}

impl SharedStoreError {
    /// Returns whether another connection may help: a name may lead to another server after a failover.
    fn wants_reconnect(self) -> bool {
        !matches!(
            self,
            SharedStoreError::Open
                | SharedStoreError::Busy
                | SharedStoreError::Timeout
                | SharedStoreError::Full
                | SharedStoreError::Nonsense
        )
    }
}

/// The way to one store.
pub struct Link {
    /// The scripts.
    pub scripts: Scripts,
    /// The counters.
    pub counts: Arc<Counts>,
    address: StoreAddress,
    pace: StorePace,
    clock: Clock,
    places: Semaphore,
    state: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    breaker: StoreBreaker,
    connection: Option<MultiplexedConnection>,
    /// Grows with each connection, so that trouble on an old one does not end a new one.
    generation: u64,
}

impl Link {
    /// Returns a link to this store that is not connected yet; `None` where the address cannot be used.
    pub fn new(address: StoreAddress, pace: StorePace, clock: Clock) -> Option<Link> {
        address.client().ok()?;
        Some(Link {
            scripts: Scripts::default(),
            counts: Arc::default(),
            address,
            pace,
            clock,
            places: Semaphore::new(CALLS_MAX),
            state: Mutex::default(),
        })
    }

    /// Returns whether decisions ask the store.
    pub fn is_up(&self) -> bool {
        !self.lock().breaker.is_open()
    }

    /// Makes one call within the deadline.
    ///
    /// # Errors
    /// [`SharedStoreError`]. After a timeout it is not known whether the call was carried out.
    pub async fn call<T>(
        &self,
        operation: Operation,
        make: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, SharedStoreError> {
        let begun_ns = self.clock.mono_ns();
        let (trouble, generation, answer) = match self.way() {
            Err(trouble) => (Some(trouble), 0, None),
            Ok((mut connection, generation)) => match self.places.try_acquire() {
                Err(_) => (Some(SharedStoreError::Busy), generation, None),
                Ok(_place) => match timeout(self.pace.deadline, make(&mut connection)).await {
                    Ok(Ok(answer)) => (None, generation, Some(answer)),
                    Ok(Err(error)) => (Some(trouble(&error)), generation, None),
                    Err(_) => (Some(SharedStoreError::Timeout), generation, None),
                },
            },
        };
        let now_ns = self.clock.mono_ns();
        self.counts.call(operation, trouble, now_ns.saturating_sub(begun_ns));
        match (trouble, answer) {
            (None, Some(answer)) => {
                self.lock().breaker.succeeded();
                Ok(answer)
            }
            (Some(trouble), _) => {
                self.note(trouble, generation, now_ns);
                Err(trouble)
            }
            (None, None) => Err(SharedStoreError::Nonsense),
        }
    }

    /// Returns the connection where calls may use it, and its generation.
    fn way(&self) -> Result<(MultiplexedConnection, u64), SharedStoreError> {
        let state = self.lock();
        if state.breaker.is_open() {
            return Err(SharedStoreError::Open);
        }
        // It broke, and is being made again.
        let connection = state.connection.clone().ok_or(SharedStoreError::Connection)?;
        Ok((connection, state.generation))
    }

    fn note(&self, trouble: SharedStoreError, generation: u64, now_ns: u64) {
        if matches!(trouble, SharedStoreError::Open | SharedStoreError::Busy) {
            return;
        }
        let mut state = self.lock();
        if generation != 0 && generation != state.generation {
            return;
        }
        if trouble.wants_reconnect() {
            state.connection = None;
        }
        if state.breaker.failed(now_ns, rand::random()) {
            // What waits in it would only come too late.
            state.connection = None;
            drop(state);
            self.counts.opened();
            self.counts.up(false);
            tracing::error!(store = %self.address, trouble = trouble.as_str(), "the shared store is away");
        }
    }

    /// Connects and tries the store where that is due. One task calls it again and again.
    pub async fn mend(&self) {
        let now_ns = self.clock.mono_ns();
        let (is_due, was_open) = {
            let state = self.lock();
            let open = state.breaker.is_open();
            (state.breaker.is_due(now_ns) || (!open && state.connection.is_none()), open)
        };
        if !is_due {
            return;
        }
        let tried = timeout(self.pace.connecting, self.connect()).await.unwrap_or(Err(SharedStoreError::Timeout));
        let ended_ns = self.clock.mono_ns();
        self.counts.call(Operation::Beat, tried.as_ref().err().copied(), ended_ns.saturating_sub(now_ns));
        let mut state = self.lock();
        match tried {
            Ok(connection) => {
                state.connection = Some(connection);
                state.generation = state.generation.saturating_add(1);
                state.breaker.tried(true, ended_ns, 0);
                drop(state);
                self.counts.up(true);
                if was_open {
                    tracing::info!(store = %self.address, "the shared store takes writes");
                }
            }
            Err(trouble) => {
                state.breaker.tried(false, ended_ns, rand::random());
                if state.breaker.phase() != StorePhase::Open && state.breaker.failed(ended_ns, rand::random()) {
                    drop(state);
                    self.counts.opened();
                    self.counts.up(false);
                    tracing::error!(store = %self.address, trouble = trouble.as_str(), "the shared store is away");
                }
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, SharedStoreError> {
        // The deadlines are ours, around all of it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = self.address.client().map_err(|error| trouble(&error))?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| trouble(&error))?;
        let beat = self.scripts.beat.key(keyspace::BEAT).invoke_async::<u8>(&mut connection).await;
        beat.map_err(|error| trouble(&error))?;
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        // Poisoned only by a panic between two assignments, each of which leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns which trouble an error is. The error's text is dropped, because it may show what was sent.
fn trouble(error: &RedisError) -> SharedStoreError {
    if error.is_timeout() {
        return SharedStoreError::Timeout;
    }
    match error.kind() {
        ErrorKind::Io => SharedStoreError::Connection,
        ErrorKind::AuthenticationFailed => SharedStoreError::Denied,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => SharedStoreError::Nonsense,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => SharedStoreError::ReadOnly,
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => SharedStoreError::Loading,
        ErrorKind::Server(ServerErrorKind::NoPerm) => SharedStoreError::Denied,
        ErrorKind::Server(
            ServerErrorKind::ClusterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::CrossSlot,
        ) => SharedStoreError::Cluster,
        _ if error.is_io_error() || error.is_connection_dropped() => SharedStoreError::Connection,
        _ => match error.code() {
            Some("OOM" | "MISCONF" | "NOREPLICAS") => SharedStoreError::Full,
            Some("NOAUTH" | "WRONGPASS") => SharedStoreError::Denied,
            _ => SharedStoreError::Error,
        },
    }
}
