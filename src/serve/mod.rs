//! The composition root: builds the state, starts every listener and loop, and drains on a signal. The only place that
//! wires.

mod loops;
mod ports;
mod reload;

use crate::admin::Admin;
use crate::config::{self, Config, Problems, Settings};
use crate::files::secret;
use crate::files::watch::FileWatch;
use crate::gate::receipt::Receipts;
use crate::gate::recent::Recent;
use crate::gate::state::State;
use crate::gate::{ForeignLine, Gate, GateParts, Inheritance, Sharing};
use crate::keys::{self, KeyFile};
use crate::mailbox::traffic::Traffic;
use crate::metrics::Metrics;
use crate::net::listen;
use crate::shared_store::{self, Fraction, SharedLedger};
use crate::store::{self, OpenStoreError, Store};
use crate::time::clock::Clock;
use crate::{nginx, spop};
use loops::write_uses;
use ports::Ports;
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long open connections may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the start waits for the shared store, and how often it looks.
const STORE_WAIT: Duration = Duration::from_secs(1);
const STORE_LOOK: Duration = Duration::from_millis(5);

/// How long the ledger's file may take for what still waits when the daemon stops.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// Why the daemon did not start, or stopped by itself.
#[derive(Debug)]
pub enum ServeFault {
    /// The configuration or the key file has problems.
    Problems(Problems),
    /// The ledger's file cannot be opened.
    Store(OpenStoreError),
    /// The system refused something.
    System {
        /// What was being done.
        doing: String,
        /// What the system said.
        error: io::Error,
    },
}

impl ServeFault {
    fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ServeFault {
        let doing = doing.into();
        move |error| ServeFault::System { doing, error }
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Where the files have problems, or a listener cannot be bound: nothing has been served then.
pub fn run(path: &Path) -> Result<(), ServeFault> {
    let clock = Clock::new();
    let started = clock.now();
    // Before the first reading, so that a change in between is seen.
    let config_watch = (!config::is_stdin(path)).then(|| FileWatch::new(path));
    let Config { settings, policy } = config::load(path).map_err(ServeFault::Problems)?;
    let key_file = key_file(&settings);
    let keys_watch = FileWatch::new(&key_file.path);
    let keys = keys::load(&key_file).map_err(ServeFault::Problems)?;
    if keys.is_empty() && policy.anonymous.is_none() {
        tracing::warn!(file = %key_file.path.display(), "no keys: every credential is refused; see `herdgate key new`");
    }

    let state = Arc::new(State::new());
    let key_count = keys.len();
    state.publish_policy(Arc::new(policy));
    state.publish_keys(Arc::new(keys));
    raise_file_limit();

    let runtime = runtime().map_err(ServeFault::system("starting the runtime"))?;
    runtime.block_on(async {
        let mut bound = Ports::bind(&settings).await?;
        let metrics = Arc::new(Metrics::new());
        // After the ports, because who finds them taken must not look for damage in the other's file.
        let kept = open_store(&settings, &metrics, &clock)?;
        // Once, because without a ledger's file it is random.
        let replica = replica(&settings);
        let shared = shared_ledger(&settings, &clock, replica);
        let receipts = Receipts::new(secret_of(&settings.secret_file).expose_secret(), replica);
        let wiring = Wiring::new(&settings, receipts, state, metrics, &clock, kept, shared);
        wiring.gate.last_used.recall(keys::used::read(&keys::used::path(&key_file.path)));
        wiring.share(&settings).await;
        let stopping = stop_signals()?;
        let usage = std::mem::take(&mut bound.usage);
        wiring.settle(usage);
        wiring.tend();
        let (proxies, followed) = watch::channel(settings.agent_check_proxies);
        wiring.listen(bound, followed);
        let uses = keys::used::path(&key_file.path);
        wiring.write_uses(uses.clone());
        wiring.follow(config_watch, keys_watch, key_file, settings, proxies)?;
        let ms = clock.now().since(started) / 1_000_000;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), keys = key_count, started_in_ms = ms, "serving");
        // Outside of systemd there is nobody to notify.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        stopping.await;
        tracing::info!("stopping: no new connections, open ones are drained");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let (gate, state, store) = (wiring.gate.clone(), wiring.state.clone(), wiring.store.clone());
        wiring.drain().await;
        write_uses(&gate, &state, &uses);
        if let Some(lost) = store.map(|store| store.close(LAST_FLUSH)).filter(|lost| *lost > 0) {
            tracing::error!(lost, "grants and ends of requests that the ledger's file did not take");
        }
        Ok(())
    })
}

/// Most threads that decide: each is good for some hundred thousand decisions a second.
const WORKERS_MAX: usize = 8;

/// Returns the runtime that decides. It has half of the cores, because the proxy that asks is on the other half, and each further
/// worker costs the busy ones time to wake it and put it to sleep again. Files are read on threads of their own.
///
/// # Errors
/// What the operating system says.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / 2).clamp(1, WORKERS_MAX);
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// Usage lines of other herdgates' requests, until the task that settles them takes them.
type UntakenLines = Mutex<Option<mpsc::Receiver<ForeignLine>>>;

/// The parts that the daemon's tasks share.
struct Wiring {
    gate: Arc<Gate>,
    admin: Arc<Admin>,
    metrics: Arc<Metrics>,
    state: Arc<State>,
    traffic: Traffic,
    /// The ledger's file; absent where nothing is kept.
    store: Option<Arc<Store>>,
    /// The shared store, and the lines of other herdgates' requests, until its loops are started.
    shared: Option<(Arc<SharedLedger>, UntakenLines)>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The task that tends the shared store, and the token that ends it.
    tending: OnceLock<(CancellationToken, Mutex<Option<JoinHandle<()>>>)>,
}

impl Wiring {
    /// Builds the gate, and the admin that shows it.
    fn new(
        settings: &Settings,
        receipts: Receipts,
        state: Arc<State>,
        metrics: Arc<Metrics>,
        clock: &Clock,
        kept: Option<(Arc<Store>, Inheritance)>,
        shared: Option<Arc<SharedLedger>>,
    ) -> Wiring {
        let (store, inheritance) = match kept {
            Some((store, inheritance)) => (Some(store), inheritance),
            None => (None, Inheritance::default()),
        };
        let ledger = &settings.ledger;
        let sharing = |shared: &Arc<SharedLedger>| {
            let (sharing, lines) = Sharing::new(shared.clone(), ledger.on_store_down, Fraction(ledger.replicas));
            (sharing, Mutex::new(Some(lines)))
        };
        let (sharing, lines) = shared.as_ref().map(sharing).unzip();
        let recent = Arc::<Recent>::default();
        let gate = Arc::new(Gate::new(GateParts {
            recent: recent.clone(),
            time_zone: ledger.time_zone.clone(),
            waiters_max: nginx::waiters_max(),
            journal: store.clone().map(|store| store as _),
            inheritance,
            sharing,
            settings: settings.of_gate(),
            ..GateParts::new(state.clone(), metrics.clone(), clock.clone(), receipts)
        }));
        let admin = Admin::new(state.clone(), metrics.clone(), clock.clone());
        let admin = Arc::new(admin.with_recent(recent).with_gate(gate.clone()));
        if let Some(store) = &store {
            admin.set_keeper(store.clone());
        }
        admin.config_loaded();
        admin.keys_loaded();
        Wiring {
            gate,
            admin,
            metrics,
            state,
            traffic: Traffic::default(),
            store,
            shared: shared.zip(lines),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            tending: OnceLock::new(),
        }
    }

    /// Begins to share limits with other herdgates, where a store is configured. A store that is away does not keep the daemon
    /// from serving.
    async fn share(&self, settings: &Settings) {
        let Some((ledger, lines)) = &self.shared else { return };
        let Some(address) = &settings.ledger.store else { return };
        let (shown, down, replicas) = (address.to_string(), settings.ledger.on_store_down, settings.ledger.replicas);
        // It outlives everything else, because requests that end while the daemon stops are reported to it.
        let ended = CancellationToken::new();
        let tending = tokio::spawn(ledger.clone().tend(self.gate.clone(), ended.clone()));
        let _ = self.tending.set((ended, Mutex::new(Some(tending))));
        if let Some(lines) = lines.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let (gate, stop) = (self.gate.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = gate.settle_foreign(lines) => {}
                }
            });
        }
        let up = async {
            while !ledger.is_up() {
                tokio::time::sleep(STORE_LOOK).await;
            }
        };
        match tokio::time::timeout(STORE_WAIT, up).await {
            Ok(()) => tracing::info!(store = shown, replicas, "limits are shared"),
            Err(_) => tracing::error!(store = shown, ?down, "the shared store is away"),
        }
    }

    async fn drain(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were still open after {} s and were cut", DRAIN.as_secs());
        }
        if let Some((ended, tending)) = self.tending.get() {
            ended.cancel();
            let tending = tending.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(tending) = tending {
                // It has a deadline of its own, and says what it could not tell.
                let _ = tending.await;
            }
        }
    }
}

/// Opens the ledger's file, where one is configured, and reads what an earlier run left behind.
fn open_store(
    settings: &Settings,
    metrics: &Metrics,
    clock: &Clock,
) -> Result<Option<(Arc<Store>, Inheritance)>, ServeFault> {
    let config::settings::LedgerSettings { path, keep_days, fresh_on_damage, time_zone, .. } = settings.ledger.clone();
    let Some(path) = path else {
        tracing::warn!("[ledger] path is off: what was used is forgotten with this process");
        return Ok(None);
    };
    let options = store::Options { keep_days, fresh_on_damage, clock: clock.clone(), zone: time_zone, vfs: None };
    let (store, restored) = Store::open(&path, options).map_err(ServeFault::Store)?;
    tracing::info!(
        file = %path.display(),
        open = restored.open.len(),
        spent = restored.spent.len(),
        settled_lately = restored.settled_lately.len(),
        unreadable = restored.unreadable,
        "the ledger is open"
    );
    metrics.show_ledger_file(store.health());
    let charged = restored.spent.iter().map(|spent| (spent.scope, spent.day, spent.charge)).collect();
    let inheritance = Inheritance { open: restored.open, charged, settled: restored.settled_lately };
    Ok(Some((Arc::new(store), inheritance)))
}

/// Returns the store that limits are shared in, where one is named.
fn shared_ledger(settings: &Settings, clock: &Clock, replica: u64) -> Option<Arc<SharedLedger>> {
    let address = settings.ledger.store.clone()?;
    let shown = address.to_string();
    let ledger = SharedLedger::new(address, shared_store::StorePace::default(), clock.clone(), replica);
    if ledger.is_none() {
        tracing::error!(store = shown, "the shared store's address cannot be used");
    }
    ledger.map(Arc::new)
}

/// Returns the key file that the settings name.
pub fn key_file(settings: &Settings) -> KeyFile {
    let config::settings::KeySettings { file, allow_readable, pepper_file } = settings.keys.clone();
    KeyFile { path: file, allow_readable, pepper_file }
}

/// Returns the key of receipts. A daemon that cannot keep one still serves: its receipts end with it, and so do its slots.
fn secret_of(path: &Path) -> secret::ReceiptKey {
    secret::load_or_make(path).unwrap_or_else(|error| {
        tracing::error!(file = %path.display(), %error, "no lasting key of receipts; this run uses one of its own");
        secret::ReceiptKey::init_with_mut(|key| rand::fill(&mut key[..]))
    })
}

/// Returns the number of this herdgate in its receipts. It is the same in each run, because it follows from the machine and the
/// ledger's file, which no other herdgate may write. Without a file nothing outlives a run, and each run has its own number.
fn replica(settings: &Settings) -> u64 {
    let Some(path) = &settings.ledger.path else { return rand::random() };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let machine = rustix::system::uname();
    let hashed = Sha256::new()
        .chain_update(machine.nodename().to_bytes())
        .chain_update(b"\0")
        .chain_update(path.as_os_str().as_encoded_bytes());
    let digest: [u8; 32] = hashed.finalize().into();
    digest[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns a future that ends with the first SIGTERM or SIGINT. The handlers are installed when this returns, before anything is
/// served. That of SIGHUP is among them, because its default would end the process: also where the configuration came from
/// standard input and cannot be reloaded, and before the loop that follows the file has begun.
fn stop_signals() -> Result<impl Future<Output = ()>, ServeFault> {
    let install = |kind| signal(kind).map_err(ServeFault::system("installing signal handlers"));
    let (mut terminate, mut interrupt) = (install(SignalKind::terminate())?, install(SignalKind::interrupt())?);
    let _stays_installed = install(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Raises the limit of open files as far as wanted and allowed, and warns where that is not enough.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft >= listen::FILES_WANTED {
        return;
    }
    let wanted = listen::FILES_WANTED.min(hard);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    if raised.is_err() || wanted < listen::FILES_WANTED {
        let got = if raised.is_ok() { wanted } else { soft };
        let spop = listen::places(spop::limits::Limits::default().connections, got);
        tracing::warn!(
            limit = got,
            wanted = listen::FILES_WANTED,
            spop_connections = spop,
            "few open files are allowed, so fewer connections are taken; raise LimitNOFILE"
        );
    }
}
