//! Deep checks against the simulator and a scripted server: what they find, what they must not do, what they must not take for dead.

use crate::sim::Sim;
use crate::wire;
use herdgate::decision::fleet::{ServerState, ServerView, ServiceResult};
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::gate::state::State;
use herdgate::mailbox::calibrations::Calibrations;
use herdgate::mailbox::drains::Drains;
use herdgate::mailbox::traffic::Traffic;
use herdgate::probe::{Client, Schedule, Senses, run};
use herdgate::time::clock::Clock;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const MS: Duration = Duration::from_millis(1);

/// Everything so fast that a test waits for hundreds of checks.
fn schedule() -> Schedule {
    Schedule {
        interval: 100 * MS,
        fast_interval: 50 * MS,
        rise: 2,
        fall: 3,
        deep_interval: 25 * MS,
        deep_timeout: 400 * MS,
        idle: Duration::from_secs(600),
    }
}

/// Probes under way, and every state that each server was in.
struct Probed {
    state: Arc<State>,
    traffic: Traffic,
    clock: Clock,
    seen: Arc<Mutex<Vec<(String, ServerState)>>>,
    drains: Drains,
    _schedule: watch::Sender<Schedule>,
    _stop: DropGuard,
}

impl Probed {
    fn start(servers: Vec<Server>, schedule: Schedule) -> Probed {
        let state = Arc::new(State::new());
        state.publish_policy(Arc::new(wire::policy(servers)));
        let (sender, receiver) = watch::channel(schedule);
        let (stop, clock, traffic) = (CancellationToken::new(), Clock::new(), Traffic::default());
        let drains = Drains::default();
        let senses = Senses {
            client: Client::new().unwrap(),
            clock: clock.clone(),
            traffic: traffic.clone(),
            calibrations: Calibrations::default(),
            drained: drains.follow(),
        };
        tokio::spawn(run(state.clone(), senses, receiver, stop.clone()));
        let seen: Arc<Mutex<Vec<(String, ServerState)>>> = Arc::default();
        let (sink, watched, ended) = (seen.clone(), state.clone(), stop.clone());
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                for (name, server) in &watched.view().fleet.servers {
                    let mut seen = sink.lock().unwrap();
                    let last = seen.iter().rev().find(|(other, _)| **other == **name).map(|(_, state)| *state);
                    if last != Some(server.state) {
                        seen.push((name.to_string(), server.state));
                    }
                }
                tokio::time::sleep(MS).await;
            }
        });
        Probed { state, traffic, clock, seen, drains, _schedule: sender, _stop: stop.drop_guard() }
    }

    fn server(&self, name: &str) -> Option<ServerView> {
        self.state.view().fleet.servers.get(name).cloned()
    }

    async fn until(&self, name: &str, state: ServerState) {
        wire::until(&format!("{name} is {state:?}"), || self.server(name).is_some_and(|seen| seen.state == state))
            .await;
    }

    /// Returns the states of `name` so far, in order, each where it changed.
    fn states(&self, name: &str) -> Vec<&'static str> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(server, _)| server == name).map(|(_, state)| state.as_str()).collect()
    }
}

fn named(name: &str, sim: &Sim) -> Server {
    wire::server(name, &format!("http://{}", sim.address))
}

/// A client's request that loads a model, with a context length of its own.
fn used(sim: &Sim, model: &str, num_ctx: u64) {
    let body = json!({ "model": model, "prompt": "hi", "stream": false, "options": { "num_ctx": num_ctx } });
    assert_eq!(sim.ask("POST", "/api/generate", body.to_string()).status, 200);
}

fn asked(stats: &Value) -> u64 {
    ["generate", "chat", "embed", "v1_completions", "v1_chat_completions"]
        .iter()
        .filter_map(|handler| stats["handlers"][handler].as_u64())
        .sum()
}

/// Inventories that the probes took. They go on whether a model is checked or not, and so tell how much time had room for.
fn inventories(sim: &Sim) -> u64 {
    sim.stats()["handlers"]["tags"].as_u64().unwrap_or(0)
}

fn struck(stats: &Value, fault: &str) -> u64 {
    stats["faults"][fault].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_load_reload_evict_and_pin_nothing() {
    let sim = Sim::start("--model a --model b --model nomic-embed-text --keep-alive 2h --tokens-per-second 0");
    used(&sim, "a", 8192);
    used(&sim, "b", 2048);
    sim.ask("POST", "/api/embed", json!({ "model": "nomic-embed-text", "input": "x" }).to_string());
    assert_eq!(sim.stats()["loads"], 3);
    sim.ask("POST", "/sim/reset", "");
    let probed = Probed::start(vec![named("s", &sim)], schedule());
    // As many as a day has at the default interval would take long; ten minutes have ten.
    // It goes on until the end of the test: one that stopped would be degraded.
    let (stats, _sim) = tokio::task::spawn_blocking(move || {
        let stats = sim.wait("ninety checks", |stats| asked(stats) >= 90);
        let loaded = sim.ask("GET", "/api/ps", "").json()["models"].as_array().unwrap().len();
        assert_eq!(loaded, 3, "a check made a model leave");
        (stats, sim)
    })
    .await
    .unwrap();
    for event in ["loads", "reloads", "pins", "evictions", "expiries", "unloads"] {
        assert_eq!(stats[event], 0, "{event} after {} checks: {stats}", asked(&stats));
    }
    for (model, most) in [("a:latest", 2), ("b:latest", 2), ("nomic-embed-text:latest", 0)] {
        let (requests, tokens) =
            (stats["models"][model]["requests"].as_u64(), stats["models"][model]["tokens_out"].as_u64());
        assert!(requests.unwrap_or(0) >= 20, "{model} had no turn: {stats}");
        assert!(tokens <= requests.map(|requests| requests * most), "{model}: more than two tokens a check: {stats}");
    }
    let states = probed.states("s");
    let failure = probed.server("s").and_then(|server| server.failure);
    assert!(states.iter().all(|state| ["unknown", "up"].contains(state)), "{states:?} {failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_model_is_left_alone_until_somebody_uses_it() {
    let sim = Arc::new(Sim::start("--model a --keep-alive 2h --tokens-per-second 0"));
    used(&sim, "a", 4096);
    let probed = Probed::start(vec![named("s", &sim)], Schedule { idle: 400 * MS, ..schedule() });
    probed.until("s", ServerState::Up).await;
    let count = || asked(&sim.stats());
    let (mut before, mut since) = (count(), inventories(&sim));
    // Two inventories are as far apart as four checks.
    wire::until("four inventories without a check", || {
        let now = count();
        if now != before {
            (before, since) = (now, inventories(&sim));
        }
        inventories(&sim) >= since + 4
    })
    .await;
    assert!(before > 3, "only {before} checks");
    // A use so soon after a check is within the slack of two cut-off dates; one that stays longer is not.
    let body =
        json!({ "model": "a", "prompt": "hi", "stream": false, "keep_alive": "3h", "options": { "num_ctx": 4096 } });
    sim.ask("POST", "/api/generate", body.to_string());
    let after_use = before + 1;
    wire::until("the checks go on", || count() > after_use).await;
    assert_eq!(sim.stats()["loads"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_generation_behind_a_healthy_root_is_found_and_so_is_its_end() {
    // What strikes, on which kind, and what the first failure takes.
    let rules = schedule();
    let hangs = rules.deep_timeout;
    for (fault, kind, takes) in [
        ("dead", ServerKind::Ollama, hangs),
        ("hang", ServerKind::Ollama, hangs),
        ("500", ServerKind::Ollama, Duration::ZERO),
        ("hang", ServerKind::OpenAi, hangs),
        ("500", ServerKind::OpenAi, Duration::ZERO),
    ] {
        let what = format!("{fault} on {kind:?}");
        let vllm = if kind == ServerKind::OpenAi { "--kind openai" } else { "" };
        let sim = Sim::start(&format!("--model a --keep-alive 2h --tokens-per-second 0 --num-parallel 4 {vllm}"));
        if kind == ServerKind::Ollama {
            used(&sim, "a", 4096);
        }
        let probed = Probed::start(vec![Server { kind, ..named("s", &sim) }], rules.clone());
        probed.until("s", ServerState::Up).await;
        wire::until("a check", || asked(&sim.stats()) > 2).await;
        let began = probed.clock.now();
        sim.ask("POST", "/sim/faults", json!({ "fault": fault }).to_string());
        probed.until("s", ServerState::Down).await;
        let ms = |since| probed.clock.now().since(since) / 1_000_000;
        let (down_ms, stats) = (ms(began), sim.stats());
        // Besides the bound of the module: the check that was due, and what two shared cores and a sampler take.
        let bound = (takes + rules.fall * rules.fast_interval + rules.deep_interval).as_millis() as u64 + 400;
        println!("{what}: down after {down_ms} ms (bound {bound}), struck {}", struck(&stats, fault));
        assert!(down_ms <= bound, "{what}: down only after {down_ms} ms, bound {bound}");
        assert!(struck(&stats, fault) >= u64::from(rules.fall), "{what} struck too rarely: {stats}");
        let seen = probed.server("s").unwrap();
        assert_eq!(seen.failure.unwrap().kind, "generation", "{what}");
        assert_eq!(sim.ask("GET", "/v1/models", "").status, 200, "{what}: the server was to look well");
        wire::until("the sampler saw it", || probed.states("s").last() == Some(&"down")).await;
        let states = probed.states("s");
        assert!(states.ends_with(&["up", "degraded", "down"]), "{what}: {states:?}");
        let began = probed.clock.now();
        sim.ask("DELETE", "/sim/faults", "");
        probed.until("s", ServerState::Up).await;
        let up_ms = ms(began);
        println!("{what}: up after {up_ms} ms");
        assert!(up_ms <= bound, "{what}: up only after {up_ms} ms, bound {bound}");
        let stats = sim.stats();
        let harm = (stats["loads"].as_u64(), stats["reloads"].as_u64());
        // One load by the first request there was.
        assert_eq!(harm, (Some(1), Some(0)), "{what}: {stats}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_and_was_unloaded_is_left_to_the_inventory() {
    let sim = Sim::start("--model a --keep-alive 2h --tokens-per-second 0");
    used(&sim, "a", 4096);
    let probed = Probed::start(vec![named("s", &sim)], schedule());
    probed.until("s", ServerState::Up).await;
    sim.ask("POST", "/sim/faults", json!({ "fault": "500", "model": "a" }).to_string());
    probed.until("s", ServerState::Down).await;
    assert!(struck(&sim.stats(), "500") >= 3);
    // As an operator would, or a restart: nothing is loaded any more.
    sim.ask("DELETE", "/sim/faults", "");
    sim.ask("POST", "/api/generate", r#"{"model":"a","keep_alive":0}"#);
    probed.until("s", ServerState::Up).await;
    assert_eq!(sim.stats()["loads"], 1, "a check loaded a model");
}

/// Keeps every slot taken and `waiting` requests behind them until dropped; each success is noted as the proxies' lines will.
fn fill(sim: &Arc<Sim>, clients: usize, tokens: u64, note: Option<(Traffic, Clock)>) -> Arc<AtomicUsize> {
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..clients {
        let (sim, done, note) = (Arc::downgrade(sim), done.clone(), note.clone());
        std::thread::spawn(move || {
            while let Some(sim) = sim.upgrade() {
                let options = json!({ "num_predict": tokens, "num_ctx": 4096 });
                let body = json!({ "model": "a", "prompt": "hi", "stream": false, "options": options });
                let stream = sim.send(&sim.address, "POST", "/api/generate", body.to_string().as_bytes());
                drop(sim);
                let mut answer = Vec::new();
                // Cut short where the simulator ends first.
                let _ = std::io::Read::read_to_end(&mut &stream, &mut answer);
                if answer.starts_with(b"HTTP/1.1 200") {
                    done.fetch_add(1, Ordering::SeqCst);
                    if let Some((traffic, clock)) = &note {
                        traffic.note("s", ServiceResult::Well, clock.now());
                    }
                } else {
                    std::thread::sleep(5 * MS);
                }
            }
        });
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_it_is_full_is_busy_and_never_flaps() {
    let sim = Arc::new(Sim::start("--model a --keep-alive 2h --tokens-per-second 100 --num-parallel 2 --slot-queue 2"));
    used(&sim, "a", 4096);
    let probed = Probed::start(vec![named("s", &sim)], schedule());
    probed.until("s", ServerState::Up).await;
    sim.ask("POST", "/sim/reset", "");
    // A generation takes half as long again as a check may: whoever gets into the queue times out.
    let done = fill(&sim, 12, 60, None);
    probed.until("s", ServerState::Busy).await;
    wire::until("the slots turned over", || done.load(Ordering::SeqCst) >= 12).await;
    let stats = sim.stats();
    assert!(stats["busy"].as_u64().unwrap() > 20, "it was never full: {stats}");
    let states = probed.states("s");
    assert!(!states.contains(&"down"), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_queue_is_longer_than_a_check_waits_is_busy_while_others_complete() {
    let sim = Arc::new(Sim::start("--model a --keep-alive 2h --tokens-per-second 200 --num-parallel 1"));
    used(&sim, "a", 4096);
    let probed = Probed::start(vec![named("s", &sim)], schedule());
    probed.until("s", ServerState::Up).await;
    // Ten wait, each for 150 ms; a check in line behind them gives up after 400.
    let done = fill(&sim, 10, 30, Some((probed.traffic.clone(), probed.clock.clone())));
    probed.until("s", ServerState::Busy).await;
    let aborts = || sim.stats()["aborts"].as_u64().unwrap();
    wire::until("checks timed out in the queue", || aborts() >= 8).await;
    wire::until("clients were served", || done.load(Ordering::SeqCst) >= 10).await;
    let states = probed.states("s");
    assert!(!states.contains(&"down") && !states.contains(&"degraded"), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_real_traffic_succeeds_nothing_is_asked() {
    let sim = Arc::new(Sim::start("--model a --keep-alive 2h --tokens-per-second 0"));
    used(&sim, "a", 4096);
    let rules = Schedule { deep_interval: 200 * MS, ..schedule() };
    let probed = Probed::start(vec![named("s", &sim)], rules);
    // The client, and the model measured at each endpoint.
    wire::until("each kind of check", || asked(&sim.stats()) > 3).await;
    // Served well all the while, until so many inventories are taken, which are half as far apart as two checks.
    let served_for = async |count: u64| {
        let since = inventories(&sim);
        wire::until("inventories", || {
            probed.traffic.note("s", ServiceResult::Well, probed.clock.now());
            inventories(&sim) >= since + count
        })
        .await;
    };
    // What was asked before the first success has been counted.
    served_for(2).await;
    let before = asked(&sim.stats());
    served_for(12).await;
    assert_eq!(asked(&sim.stats()), before, "asked although real requests succeed");
    wire::until("the checks go on", || asked(&sim.stats()) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_under_a_models_name_is_quarantined_where_three_have_it() {
    let sims: Vec<Sim> = (0..3).map(|_| Sim::start("--model a --model b")).collect();
    let servers = || ["x", "y", "z"].iter().zip(&sims).map(|(name, sim)| named(name, sim));
    let probed = Probed::start(servers().collect(), schedule());
    for name in ["x", "y", "z"] {
        probed.until(name, ServerState::Up).await;
    }
    let rotation = |model: &str| -> Vec<u16> {
        let view = probed.state.view();
        let mut servers: Vec<u16> = view.roster.get(model).unwrap().rotation.iter().map(|index| index.0).collect();
        servers.sort_unstable();
        servers
    };
    assert_eq!((rotation("a:latest"), probed.state.view().roster.disagreements.len()), (vec![0, 1, 2], 0));
    sims[1].ask("POST", "/sim/faults", json!({ "fault": "digest", "model": "a" }).to_string());
    wire::until("`a` of `y` left its pool", || rotation("a:latest") == [0, 2]).await;
    assert!(struck(&sims[1].stats(), "digest") > 0);
    assert_eq!(rotation("b:latest"), [0, 1, 2], "the rest of the server stays");
    assert_eq!(probed.server("y").unwrap().state, ServerState::Up);
    let found = probed.state.view().roster.disagreements[0].clone();
    assert_eq!((found.odd.len(), &*found.odd[0]), (1, "y"));
    assert_ne!(found.digest_of("y"), found.expected.as_deref());
    // Of two that differ nobody knows which is right.
    probed.state.publish_policy(Arc::new(wire::policy(servers().take(2).collect())));
    assert_eq!(rotation("a:latest"), [0, 1]);
    assert_eq!(probed.state.view().roster.disagreements[0].expected, None);
    sims[1].ask("DELETE", "/sim/faults", "");
    wire::until("they agree again", || probed.state.view().roster.disagreements.is_empty()).await;
}

/// What a scripted server says to a path: status and body, or nothing for ever.
type Script = Box<dyn Fn(&str, usize) -> Option<(u16, String)> + Send + Sync>;

/// A server that says what it is told to, and counts.
struct Scripted {
    script: Script,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    async fn start(script: Script) -> (Arc<Scripted>, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let scripted = Arc::new(Scripted { script, asked: Mutex::default() });
        let server = scripted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        (scripted, Server { kind: ServerKind::OpenAi, ..wire::server("s", &url) })
    }

    fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await.ok()? == 0 {
                    return None;
                }
            }
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
            stream.read_exact(&mut vec![0; length]).await.ok()?;
            let path = head.split(' ').nth(1)?.to_owned();
            self.asked.lock().unwrap().push(path.clone());
            let Some((status, body)) = (self.script)(&path, self.count(&path)) else {
                std::future::pending::<()>().await;
                return None;
            };
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

const TOKEN: &str = r#"{"choices":[{"text":"a"}]}"#;

fn listed(owner: &str) -> String {
    json!({ "data": [{ "id": "m", "owned_by": owner }] }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_openai_servers_say_of_themselves_is_understood() {
    let slots = |taken: bool, decoded: usize| {
        json!([{ "id": 0, "is_processing": taken, "id_task": 1, "next_token": [{ "n_decoded": decoded }] }]).to_string()
    };
    let check = async |what: &str, script: Script, expected: ServerState, path: &str, at_least: usize| {
        let (scripted, server) = Scripted::start(script).await;
        let probed = Probed::start(vec![server], schedule());
        probed.until("s", expected).await;
        wire::until(what, || scripted.count(path) >= at_least).await;
        let states = probed.states("s");
        let may_fall = matches!(expected, ServerState::Down);
        assert!(may_fall || !states.contains(&"down"), "{what}: {states:?}");
        (scripted, probed)
    };
    let vllm = |path: &str| match path {
        "/health" | "/metrics" | "/slots" => Some((404, String::new())),
        "/v1/models" => Some((200, listed("vllm"))),
        "/v1/completions" => Some((200, TOKEN.into())),
        _ => Some((404, String::new())),
    };
    let (scripted, _probed) =
        check("one-token completions", Box::new(move |path, _| vllm(path)), ServerState::Up, "/v1/completions", 5)
            .await;
    assert_eq!(scripted.count("/health"), 1, "what is not there is asked for once");
    // By the inventory, and by the first check.
    assert!(scripted.count("/slots") <= 2, "{} times", scripted.count("/slots"));

    let no_completions: Script = Box::new(move |path, _| match path {
        "/v1/completions" => Some((404, String::new())),
        "/v1/chat/completions" => Some((200, TOKEN.into())),
        other => vllm(other),
    });
    let (scripted, _probed) = check("chat instead", no_completions, ServerState::Up, "/v1/chat/completions", 5).await;
    assert_eq!(scripted.count("/v1/completions"), 1, "the route is learned");

    let unloaded: Script = Box::new(move |path, _| match path {
        "/v1/models" => Some((200, listed("localai"))),
        other => vllm(other),
    });
    let (scripted, _probed) = check("no marks of what is loaded", unloaded, ServerState::Up, "/v1/models", 10).await;
    assert_eq!(scripted.count("/v1/completions"), 0, "a model may have been loaded by a check");

    let wants_a_key: Script = Box::new(move |path, _| match path {
        "/v1/completions" => Some((401, String::new())),
        other => vllm(other),
    });
    check("a key is wanted", wants_a_key, ServerState::Up, "/v1/completions", 8).await;

    let loading: Script = Box::new(move |path, _| match path {
        "/health" => Some((503, r#"{"error":{"message":"Loading model"}}"#.into())),
        other => vllm(other),
    });
    check("the engine is dead or loading", loading, ServerState::Down, "/health", 3).await.1.state.view();

    let waiting: Script = Box::new(move |path, _| match path {
        "/metrics" => Some((200, "vllm:num_requests_waiting{model_name=\"m\"} 3.0\n".into())),
        other => vllm(other),
    });
    check("requests wait", waiting, ServerState::Busy, "/metrics", 3).await;

    let taken: Script = Box::new(move |path, _| match path {
        "/slots" => Some((200, slots(true, 1))),
        other => vllm(other),
    });
    check("every slot is taken", taken, ServerState::Busy, "/slots", 3).await;

    let tokens_move: Script = Box::new(move |path, count| match path {
        "/metrics" => Some((200, format!("vllm:generation_tokens_total{{m=\"m\"}} {count}\n"))),
        "/v1/completions" => None,
        other => vllm(other),
    });
    check("a check waits and others get tokens", tokens_move, ServerState::Busy, "/v1/completions", 6).await;

    let slots_move: Script = Box::new(move |path, count| match path {
        "/slots" => Some((200, slots(true, count))),
        "/v1/completions" => None,
        other => vllm(other),
    });
    check("a check waits and the slots move", slots_move, ServerState::Busy, "/v1/completions", 6).await;

    let stuck: Script = Box::new(move |path, _| match path {
        "/slots" => Some((200, slots(true, 7))),
        "/v1/completions" => None,
        other => vllm(other),
    });
    check("every slot is taken and none moves", stuck, ServerState::Down, "/v1/completions", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_requests_that_fail_make_a_server_the_last_choice_until_one_succeeds() {
    let sim = Sim::start("--model a");
    let probed = Probed::start(vec![named("s", &sim)], Schedule { deep_interval: 600_000 * MS, ..schedule() });
    probed.until("s", ServerState::Up).await;
    let bad = ServiceResult::Badly("status");
    (0..4).for_each(|_| probed.traffic.note("s", bad, probed.clock.now()));
    probed.traffic.note("s", ServiceResult::Well, probed.clock.now());
    (0..5).for_each(|_| probed.traffic.note("s", bad, probed.clock.now()));
    probed.until("s", ServerState::Cooldown).await;
    let failure = probed.server("s").unwrap().failure.unwrap();
    assert_eq!((failure.kind, &*failure.detail), ("traffic", "5 real requests in a row failed, the last by: status"));
    // A healthy `/` is no reason to trust it sooner; the cooldown is.
    probed.until("s", ServerState::Trial).await;
    probed.traffic.note("s", ServiceResult::Well, probed.clock.now());
    probed.until("s", ServerState::Up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_drains_a_server_and_brings_it_back() {
    let (sim, other) = (Sim::start("--model a"), Sim::start("--model a"));
    let probed = Probed::start(vec![named("s", &sim), named("t", &other)], schedule());
    probed.until("s", ServerState::Up).await;
    assert!(probed.drains.set(&"s".into(), true));
    assert!(!probed.drains.set(&"s".into(), true), "it was so already");
    probed.until("s", ServerState::Draining).await;
    assert_eq!(probed.state.view().roster.everywhere.len(), 1, "only the other takes requests");
    probed.drains.set(&"s".into(), false);
    probed.until("s", ServerState::Up).await;
    assert!(!probed.states("t").contains(&"draining"));
}
