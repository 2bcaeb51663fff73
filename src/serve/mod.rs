//! The composition root: builds the state, starts every listener and loop, and drains on a signal. The only place that
//! wires.

use crate::admin::{self, Admin};
use crate::config::{self, Config, Problems, Settings};
use crate::files::secret as secret_file;
use crate::files::watch::FileWatch;
use crate::gate::audit;
use crate::gate::receipt::Receipts;
use crate::gate::state::State;
use crate::gate::{Gate, Sharing};
use crate::keys::{self, KeyFile};
use crate::mailbox::traffic::Traffic;
use crate::metrics::{Metrics, Port};
use crate::net::listen::{self, Address, Bound};
use crate::probe::{self, Client, Schedule, Senses};
use crate::shared_store::{self, Share, SharedLedger};
use crate::store::{self, Store, StoreFault};
use crate::time::clock::Clock;
use crate::{agent_check, jwks, nginx, settle, spop};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long open connections may take to end after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How often those who wait are looked after, should nothing else have done so: their time is over, or a server is back.
const TEND_INTERVAL: Duration = Duration::from_millis(200);
/// How long the start waits for the shared store, and how often it looks.
const STORE_WAIT: Duration = Duration::from_secs(1);
const STORE_LOOK: Duration = Duration::from_millis(5);

/// How long the ledger's file may take for what still waits when the daemon stops.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// How often slots are looked at for expiry.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// Mode of unix sockets that a proxy connects to: owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Why the daemon did not start, or stopped by itself.
#[derive(Debug)]
pub enum ServeFault {
    /// The configuration or the key file has problems.
    Problems(Problems),
    /// The ledger's file cannot be opened.
    Store(StoreFault),
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
    let metrics = Arc::new(Metrics::new());
    let receipts = Receipts::new(secret(&settings.secret_file), replica(&settings));
    let gate = Arc::new(Gate::new(state.clone(), metrics.clone(), clock.clone(), receipts));
    gate.set_max_stream_ns(nanoseconds(settings.max_stream));
    gate.set_zone(settings.ledger.time_zone.clone());
    gate.limit_failures(settings.failures);
    gate.last_used.recall(keys::used::read(&keys::used::path(&key_file.path)));
    let admin = Admin::new(state.clone(), metrics.clone(), clock.clone());
    let admin = Arc::new(admin.telling(gate.recent.clone()).learning_from(gate.clone()));
    admin.config_loaded();
    admin.keys_loaded();
    raise_file_limit();

    let runtime = runtime().map_err(ServeFault::system("starting the runtime"))?;
    runtime.block_on(async {
        let wiring = Wiring {
            gate,
            admin,
            metrics,
            state,
            traffic: Traffic::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            tending: OnceLock::new(),
        };
        let mut bound = Ports::bind(&settings).await?;
        // After the ports, because who finds them taken must not look for damage in the other's file.
        let store = wiring.keep(&settings)?;
        wiring.share(&settings).await;
        let stopping = stop_signals()?;
        let usage = std::mem::take(&mut bound.usage);
        wiring.settle(usage);
        wiring.tend();
        wiring.listen(bound, &settings);
        let uses = keys::used::path(&key_file.path);
        wiring.write_uses(uses.clone());
        wiring.follow(config_watch, keys_watch, key_file, settings)?;
        let ms = clock.now().since(started) / 1_000_000;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), keys = key_count, started_in_ms = ms, "serving");
        // Outside of systemd there is nobody to notify.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        stopping.await;
        tracing::info!("stopping: no new connections, open ones are drained");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let (gate, state) = (wiring.gate.clone(), wiring.state.clone());
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

/// The runtime that decides: half of the cores, because the proxy that asks is on the other half, and every idle worker
/// more costs the busy ones time to wake it and put it to sleep again. Files are read on threads of their own.
///
/// # Errors
/// What the operating system says.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / 2).clamp(1, WORKERS_MAX);
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// The listeners, all bound before any serves: a daemon that is half up would be worse than one that says what is wrong.
struct Ports {
    spop: Option<Bound>,
    http: Option<Bound>,
    agent_check: Option<Bound>,
    metrics: Option<Bound>,
    control: Option<Bound>,
    usage: Vec<settle::Socket>,
}

impl Ports {
    async fn bind(settings: &Settings) -> Result<Ports, ServeFault> {
        let bind = |name: &'static str, address: &Option<Address>| match address {
            None => Ok(None),
            Some(address) => {
                let bound = listen::bind(address, SOCKET_MODE)
                    .map_err(ServeFault::system(format!("listening on {address} ([listen] {name})")))?;
                tracing::info!(port = name, %address, "listening");
                Ok(Some(bound))
            }
        };
        let listen = &settings.listen;
        let usage = |address: &Address| {
            let bound = settle::bind(address, SOCKET_MODE)
                .map_err(ServeFault::system(format!("listening on {address} ([listen] usage)")))?;
            tracing::info!(port = "usage", %address, "listening");
            Ok(bound)
        };
        Ok(Ports {
            spop: bind("spop", &listen.spop)?,
            http: bind("http", &listen.http)?,
            agent_check: bind("agent_check", &listen.agent_check)?,
            metrics: bind("metrics", &listen.metrics)?,
            control: bind("control", &listen.control)?,
            usage: listen.usage.iter().map(usage).collect::<Result<_, ServeFault>>()?,
        })
    }
}

/// What every task is given a share of.
struct Wiring {
    gate: Arc<Gate>,
    admin: Arc<Admin>,
    metrics: Arc<Metrics>,
    state: Arc<State>,
    traffic: Traffic,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// What keeps the shared store's books, and what ends it.
    tending: OnceLock<(CancellationToken, Mutex<Option<JoinHandle<()>>>)>,
}

impl Wiring {
    /// Opens the ledger's file, and has everything know that needs it.
    fn keep(&self, settings: &Settings) -> Result<Option<Arc<Store>>, ServeFault> {
        let config::settings::LedgerSettings { path, keep_days, fresh_on_damage, time_zone, .. } =
            settings.ledger.clone();
        let Some(path) = path else {
            tracing::warn!("[ledger] path is off: what was used is forgotten with this process");
            return Ok(None);
        };
        let clock = self.gate.clock.clone();
        let options = store::Options { keep_days, fresh_on_damage, clock, zone: time_zone, vfs: None };
        let (store, restored) = Store::open(&path, options).map_err(ServeFault::Store)?;
        let store = Arc::new(store);
        tracing::info!(
            file = %path.display(),
            open = restored.open.len(),
            spent = restored.spent.len(),
            settled_lately = restored.settled_lately.len(),
            unreadable = restored.unreadable,
            "the ledger is open"
        );
        self.metrics.show_ledger_file(store.health());
        self.admin.ask_keeper(store.clone());
        let spent = restored.spent.iter().map(|spent| (spent.scope, spent.day, spent.charge));
        self.gate.keep_in(store.clone(), restored.open, spent, restored.settled_lately.into_iter());
        Ok(Some(store))
    }

    fn listen(&self, ports: Ports, settings: &Settings) {
        let stop = || self.stop.clone();
        if let Some(bound) = ports.spop {
            self.tasks.spawn(spop::listener::serve(bound, self.gate.clone(), stop(), spop::limits::Limits::default()));
        }
        if let Some(bound) = ports.http {
            self.tasks.spawn(nginx::serve(bound, self.gate.clone(), stop()));
        }
        if let Some(bound) = ports.agent_check {
            let (state, metrics) = (self.state.clone(), self.metrics.clone());
            self.tasks.spawn(agent_check::serve(bound, state, metrics, settings.agent_check_proxies, stop()));
        }
        if let Some(bound) = ports.metrics {
            self.tasks.spawn(admin::serve(bound, self.admin.clone(), Port::Metrics, stop()));
        }
        if let Some(bound) = ports.control {
            self.tasks.spawn(admin::serve(bound, self.admin.clone(), Port::Control, stop()));
        }
    }

    /// Takes usage lines in, and lets time end what no line ended.
    fn settle(&self, sockets: Vec<settle::Socket>) {
        for socket in sockets {
            self.tasks.spawn(settle::serve(socket, self.gate.clone(), self.traffic.clone(), self.stop.clone()));
        }
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(EXPIRY_INTERVAL);
            let mut silent = false;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let standing = gate.expire();
                if standing.silent != std::mem::replace(&mut silent, standing.silent) {
                    match standing.silent {
                        true => {
                            tracing::error!(open = standing.open, "usage lines have stopped coming; slots end by time")
                        }
                        false => tracing::info!(open = standing.open, "usage lines come again"),
                    }
                }
            }
        });
    }

    /// Looks after those who wait for a server, and sends them away at the end.
    fn tend(&self) {
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(TEND_INTERVAL);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = tick.tick() => gate.tend_waiters(),
                }
            }
            gate.close_waiters();
        });
    }

    /// Shares limits with other herdgates, where a store is named. A store that is away is no reason not to serve.
    async fn share(&self, settings: &Settings) {
        let ledger = &settings.ledger;
        let Some(address) = ledger.store.clone() else { return };
        let (shown, down, replicas) = (address.to_string(), ledger.on_store_down, ledger.replicas);
        let clock = self.gate.clock.clone();
        let Some(ledger) = SharedLedger::new(address, shared_store::Pace::default(), clock, replica(settings)) else {
            tracing::error!(store = shown, "the shared store's address cannot be used");
            return;
        };
        let ledger = Arc::new(ledger);
        let (sharing, lines) = Sharing::new(ledger.clone(), down, Share(replicas));
        self.gate.share(sharing);
        self.gate.set_max_stream_ns(nanoseconds(settings.max_stream));
        // It outlives everything else, because all that ends while the daemon stops is told to it.
        let ended = CancellationToken::new();
        let tending = tokio::spawn(ledger.clone().tend(self.gate.clone(), ended.clone()));
        let _ = self.tending.set((ended, Mutex::new(Some(tending))));
        let (gate, stop) = (self.gate.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = gate.settle_foreign(lines) => {}
            }
        });
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

    /// Writes down now and then when secrets were last used.
    fn write_uses(&self, path: PathBuf) {
        let (gate, state, stop) = (self.gate.clone(), self.state.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(keys::used::WRITE_EVERY);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => {}
                }
                let (gate, state, path) = (gate.clone(), state.clone(), path.clone());
                // A file system that hangs must not hold up decisions.
                let _ = tokio::task::spawn_blocking(move || write_uses(&gate, &state, &path)).await;
            }
        });
    }

    /// Starts the loops that keep the View current: the probes, the configuration and the keys.
    fn follow(
        &self,
        config_watch: Option<FileWatch>,
        keys_watch: FileWatch,
        key_file: KeyFile,
        settings: Settings,
    ) -> Result<(), ServeFault> {
        let client = Client::new().map_err(|error| ServeFault::System {
            doing: "setting up the probes".to_owned(),
            error: io::Error::other(error),
        })?;
        let (schedule, scheduled) = watch::channel(schedule(&settings));
        let senses = Senses {
            client,
            clock: self.gate.clock.clone(),
            traffic: self.traffic.clone(),
            calibrations: self.gate.calibrations.clone(),
            drained: self.admin.drains().follow(),
        };
        self.tasks.spawn(probe::run(self.state.clone(), senses, scheduled, self.stop.clone()));

        let (sources, sourced) = watch::channel(sources(&settings));
        let office = jwks::Office {
            state: self.state.clone(),
            wanted: self.gate.wanted(),
            metrics: self.metrics.clone(),
            clock: self.gate.clock.clone(),
            pace: jwks::Pace::default(),
        };
        self.tasks.spawn(jwks::run(office, sourced, self.stop.clone()));

        let (state, admin, gate) = (self.state.clone(), self.admin.clone(), self.gate.clone());
        let path = key_file.path.clone();
        self.follow_until_stopped(
            "keys",
            keys::watch::follow(keys_watch, key_file, move |keys| {
                let before = state.view().keys.clone();
                state.publish_keys(Arc::new(keys));
                admin.keys_loaded();
                let view = state.view();
                gate.retain_keys(&view);
                let owner = std::fs::metadata(&path).ok().map(|file| file.uid());
                audit::keys_changed(&before.changes(&view.keys, audit::KEY_CHANGES_MAX), owner);
            }),
        );

        let Some(config_watch) = config_watch else { return Ok(()) };
        let (state, gate, admin, metrics) =
            (self.state.clone(), self.gate.clone(), self.admin.clone(), self.metrics.clone());
        self.follow_until_stopped(
            "configuration",
            config::reload::follow(config_watch, settings, move |reloaded| {
                metrics.config_reload(reloaded.is_some());
                let Some(Config { settings, policy }) = reloaded else { return };
                state.publish_policy(Arc::new(policy));
                gate.retain_pools(&state.view());
                gate.set_max_stream_ns(nanoseconds(settings.max_stream));
                gate.set_zone(settings.ledger.time_zone.clone());
                gate.set_zone(settings.ledger.time_zone.clone());
                gate.limit_failures(settings.failures);
                admin.config_loaded();
                // After the policy, so that the probes find the new servers.
                schedule.send_replace(self::schedule(&settings));
                sources.send_replace(self::sources(&settings));
            }),
        );
        Ok(())
    }

    fn follow_until_stopped(
        &self,
        what: &'static str,
        following: impl Future<Output = io::Result<()>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = following => {
                    if let Err(error) = ended {
                        tracing::error!(what, %error, "changes are no longer followed; restart to take them up");
                    }
                }
            }
        });
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

/// The key file that the settings name.
pub fn key_file(settings: &Settings) -> KeyFile {
    let config::settings::KeySettings { file, allow_readable, pepper_file } = settings.keys.clone();
    KeyFile { path: file, allow_readable, pepper_file }
}

/// Writes down when secrets were last used, where that has changed.
fn write_uses(gate: &Gate, state: &State, path: &Path) {
    let view = state.view();
    let exists: HashSet<u64> = view.keys.fingerprints().collect();
    let Some(uses) = gate.last_used.changed(|fingerprint| exists.contains(&fingerprint)) else { return };
    if let Err(error) = keys::used::write(path, &uses) {
        gate.last_used.not_written();
        tracing::warn!(file = %path.display(), %error, "when keys were last used could not be written down");
    }
}

/// The key of receipts. A daemon that cannot keep one still serves: its receipts die with it, and so do its slots.
fn secret(path: &Path) -> [u8; 32] {
    secret_file::load_or_make(path).unwrap_or_else(|error| {
        tracing::error!(file = %path.display(), %error, "no lasting key of receipts; this run uses one of its own");
        rand::random()
    })
}

/// The number of this herdgate in its receipts, the same in each run: it follows from the machine and the ledger's file, which
/// no other herdgate may write. Without a file nothing outlives a run, and each has a number of its own.
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn schedule(settings: &Settings) -> Schedule {
    let config::settings::ProbeSettings { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle } =
        settings.probe.clone();
    Schedule { interval, fast_interval, rise, fall, deep_interval, deep_timeout, idle }
}

/// Where the keys of issuers come from.
fn sources(settings: &Settings) -> Vec<jwks::Source> {
    let source = |issuer: &config::settings::IssuerSource| {
        let config::settings::IssuerSource { issuer, jwks_uri, ca_file, proxy } = issuer.clone();
        jwks::Source { issuer, jwks_uri, ca_file, proxy }
    };
    settings.issuers.iter().map(source).collect()
}

/// Ends with the first SIGTERM or SIGINT. Handlers stand when this returns, before anything is served. That of SIGHUP is
/// among them, because its default would end the process: also where the configuration came from standard input and
/// there is nothing to reload, and before the loop that follows the file has begun.
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

/// Raises the limit of open files as far as wanted and allowed, and says where that is not far enough.
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
