//! Model servers that fail on purpose, under load, through real HAProxy and real nginx: how long until one is passed over and
//! until it is back, what clients noticed, and whether anybody was taken out wrongly. `HERDGATE_BLESS=1` writes what was
//! measured into docs/faults.md.

// Asked to write what it measured.
#![allow(clippy::disallowed_methods)]

use crate::cases::stream;
use crate::harness::client::{Conversation, Request, send};
use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::haproxy::{self, HaProxy};
use crate::harness::herdgate::{Herdgate, Ports};
use crate::harness::nginx::{self, Mode, Nginx};
use crate::harness::process::built;
use crate::harness::root;
use crate::harness::scratch::{Scratch, edit};
use crate::harness::stack::{Proxy, Stack};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Clients of the load.
const CLIENTS: usize = 8;

/// A client gives up where nothing comes for so long.
const PATIENCE: Duration = Duration::from_millis(2_000);

/// How long a fault goes on once the server is passed over.
const AFTERWARDS: Duration = Duration::from_millis(2_000);

/// All three servers have this.
const SHARED: &[&str] = &[SHARED_MODEL];

/// Deep checks every second, and the rest of the harness's fast schedule.
const SCHEDULE: (&str, &str) = ("deep_interval = \"24h\"", "deep_interval = \"1s\"\ndeep_timeout = \"1s\"");

/// Three servers with one model, all in front of `front`; `usage` is where the proxy sends its lines.
fn start(front: &str, options: &'static str, usage: Option<SocketAddr>) -> Stack {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start_with(&scratch, 100, options, [SHARED, SHARED, SHARED]).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    let text = std::fs::read_to_string(herdgate.config()).unwrap();
    std::fs::write(herdgate.config(), edit(&text, SCHEDULE.0, SCHEDULE.1).unwrap()).unwrap();
    herdgate.start_at("info").unwrap();
    let ports = Ports { usage: usage.unwrap_or(herdgate.ports.usage), ..herdgate.ports };
    let proxy = match front {
        "HAProxy" => Proxy::HaProxy(HaProxy::start(haproxy::Version::Debian, &scratch, &ports, &fleet).unwrap()),
        _ => Proxy::Nginx(Nginx::start(nginx::Version::Debian, Mode::Handoff, &scratch, &ports, &fleet).unwrap()),
    };
    let stack = Stack { proxy, herdgate, fleet, scratch };
    stack.wait_for_service().unwrap();
    stack
}

/// Clients that ask one after the other until it is over.
struct Load {
    over: AtomicBool,
    requests: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    fn ask(&self, address: SocketAddr, request: &Request) {
        while !self.over.load(Ordering::Relaxed) {
            let answered = Conversation::start(address, request)
                .and_then(|conversation| conversation.with_patience(PATIENCE))
                .and_then(|mut conversation| conversation.read_to_end().map(|()| conversation.response.status));
            self.requests.fetch_add(1, Ordering::Relaxed);
            if answered != Ok(200) {
                self.failed.fetch_add(1, Ordering::Relaxed);
                // As clients do before they try again.
                std::thread::sleep(50 * MS);
            }
        }
    }

    /// Runs `work` while the clients ask.
    fn during<T>(stack: &Stack, clients: usize, request: &Request, work: impl FnOnce(&Load) -> T) -> T {
        let load = Load { over: AtomicBool::new(false), requests: AtomicUsize::new(0), failed: AtomicUsize::new(0) };
        let address = stack.proxy.address();
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| load.ask(address, request));
            }
            // A check that fails must not leave the clients asking for ever.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&load)));
            load.over.store(true, Ordering::Relaxed);
            worked.unwrap_or_else(|fault| std::panic::resume_unwind(fault))
        })
    }
}

/// Returns whether a server is the last choice, or none.
fn passed_over(stack: &Stack, server: &str) -> bool {
    let request = Request::get("/status").header("Connection", "close");
    let status = send(stack.herdgate.ports.metrics, &request).unwrap().json();
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let found = servers.into_iter().find(|found| found["name"] == server).unwrap();
    let quarantined = found["quarantined"].as_array().is_some_and(|models| !models.is_empty());
    quarantined || found["state"] == "down" || found["preference"] != "sound"
}

/// Returns how often the log says that a server left service.
fn taken_out(stack: &Stack, server: &str) -> usize {
    let words = [format!("server={server} "), format!("server=\"{server}\" ")];
    let lines = stack.herdgate.output();
    let lines = lines.lines().filter(|line| line.contains("server changed state"));
    let out = lines.filter(|line| words.iter().any(|word| line.contains(word.as_str())));
    out.filter(|line| ["down", "cooldown"].iter().any(|state| line.contains(&format!("state=\"{state}\"")))).count()
}

/// Requests of clients that reached the first server.
fn chats(stack: &Stack) -> u64 {
    stack.fleet.servers[0].counters().unwrap().handlers.get("chat").copied().unwrap_or(0)
}

/// One fault: its name in the table, how it is set, whether the server must be passed over for it, and strikes by which
/// it is known to the simulator.
struct Case {
    name: &'static str,
    fault: &'static str,
    passed_over: bool,
    strike: &'static str,
}

const fn case(name: &'static str, fault: &'static str, passed_over: bool, strike: &'static str) -> Case {
    Case { name, fault, passed_over, strike }
}

/// Every fault of the simulator.
const CASES: [Case; 8] = [
    case("refuses connections", r#"[{"fault":"refuse"}]"#, true, "refuse"),
    case("500 to every generation", r#"[{"fault":"500"}]"#, true, "500"),
    case("503 at once (olla#144)", r#"[{"fault":"503"}]"#, true, "503"),
    case("hangs before the first token", r#"[{"fault":"hang"}]"#, true, "hang"),
    case("stalls mid-stream", r#"[{"fault":"stall","after":1}]"#, true, "stall"),
    case("dead generation behind a healthy `/`", r#"[{"fault":"dead"}]"#, true, "dead"),
    case("ten times slower", r#"[{"fault":"slow"}]"#, false, "slow"),
    case("other content under the model's name", r#"[{"fault":"digest"}]"#, true, "digest"),
];

/// What one fault did.
struct Row {
    name: &'static str,
    out: Option<Duration>,
    back: Option<Duration>,
    requests: usize,
    failed: usize,
    false_positives: usize,
    strikes: u64,
}

fn strike(stack: &Stack, case: &Case, request: &Request) -> Row {
    let others = ["ollama2", "ollama3"];
    let before: usize = others.iter().map(|name| taken_out(stack, name)).sum();
    let struck = || stack.fleet.servers[0].counters().unwrap().faults.get(case.strike).copied().unwrap_or(0);
    let struck_before = struck();
    let row = Load::during(stack, CLIENTS, request, |load| {
        let served = || load.requests.load(Ordering::Relaxed);
        // HAProxy's own checks may need longer to trust a server again than herdgate's.
        let first = chats(stack);
        wait_until("requests to the server", Duration::from_secs(20), || chats(stack) >= first + 3).unwrap();
        let (requests, failed) = (served(), load.failed.load(Ordering::Relaxed));
        stack.fleet.servers[0].fault(case.fault).unwrap();
        let watch = Stopwatch::new();
        let out = wait_until("passed over", Duration::from_secs(if case.passed_over { 15 } else { 4 }), || {
            std::thread::sleep(10 * MS);
            passed_over(stack, "ollama1")
        })
        .ok()
        .map(|()| watch.elapsed());
        std::thread::sleep(AFTERWARDS);
        stack.fleet.servers[0].fault("[]").unwrap();
        let (watch, first) = (Stopwatch::new(), chats(stack));
        let back = wait_until("back", Duration::from_secs(30), || {
            std::thread::sleep(10 * MS);
            !passed_over(stack, "ollama1") && chats(stack) > first
        })
        .ok()
        .map(|()| watch.elapsed());
        Row {
            name: case.name,
            out,
            back: out.and(back),
            requests: served() - requests,
            failed: load.failed.load(Ordering::Relaxed) - failed,
            false_positives: 0,
            strikes: 0,
        }
    });
    let after: usize = others.iter().map(|name| taken_out(stack, name)).sum();
    Row { false_positives: after - before, strikes: struck() - struck_before, ..row }
}

/// Each fault through one proxy: asserts, and tells.
fn check(front: &str) {
    let stack = start(front, "--num-parallel 64", None);
    let request = stream(4).key(&stack.keys().team);
    let mut rows = Vec::new();
    for case in &CASES {
        let row = strike(&stack, case, &request);
        println!("{front}: {}", line(&row));
        assert!(row.strikes > 0, "{front}, {}: the fault never struck", case.name);
        assert_eq!(
            row.false_positives,
            0,
            "{front}, {}: others were taken out\n{}",
            case.name,
            stack.herdgate.output()
        );
        assert_eq!(row.out.is_some(), case.passed_over, "{front}, {}\n{}", case.name, stack.herdgate.output());
        assert_eq!(row.back.is_some(), case.passed_over, "{front}, {}: not back", case.name);
        rows.push(row);
    }
    write(front, &rows);
}

fn line(row: &Row) -> String {
    let time = |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
    let Row { name, out, back, requests, failed, false_positives, strikes } = row;
    format!(
        "| {name} | {} | {} | {failed} of {requests} | {false_positives} | {strikes} |",
        time(*out),
        out.map_or("-".to_owned(), |_| time(*back))
    )
}

/// Replaces this proxy's table in docs/faults.md where that is asked for; otherwise sees to it that each fault has its line.
fn write(front: &str, rows: &[Row]) {
    let path = root().join("docs/faults.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (from, to) = (format!("<!-- {front} -->\n"), format!("<!-- end of {front} -->"));
    let start = page.find(&from).expect("the beginning of the table") + from.len();
    let end = page.find(&to).expect("the end of the table");
    if std::env::var_os("HERDGATE_BLESS").is_some() {
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let page = std::fs::read_to_string(&path).unwrap();
        let (start, end) = (page.find(&from).unwrap() + from.len(), page.find(&to).unwrap());
        let head = "| fault of one server of three | passed over after | back after | failed requests | false positives | strikes |\n\
                    |---|---|---|---|---|---|\n";
        let table: String = rows.iter().map(|row| line(row) + "\n").collect();
        std::fs::write(&path, format!("{}{head}{table}{}", &page[..start], &page[end..])).unwrap();
    } else {
        for row in rows {
            let told = page[start..end].contains(&format!("| {} |", row.name));
            assert!(told, "docs/faults.md tells nothing of \"{}\": run this test with HERDGATE_BLESS=1", row.name);
        }
    }
}

#[test]
fn each_fault_under_load_through_real_haproxy() {
    check("HAProxy");
}

#[test]
fn each_fault_under_load_through_real_nginx() {
    check("nginx");
}

/// A server that says 503 at once has nothing on its way, and so would be the freest of all.
#[test]
fn olla_144_a_server_that_fails_at_once_attracts_nothing_through_real_haproxy() {
    let stack = start("HAProxy", "--num-parallel 64", None);
    let request = stream(4).key(&stack.keys().team);
    let (requests, failed) = Load::during(&stack, CLIENTS, &request, |load| {
        stack.fleet.servers[0].fault(r#"[{"fault":"503"}]"#).unwrap();
        wait_until("passed over", Duration::from_secs(10), || passed_over(&stack, "ollama1")).unwrap();
        wait_until("three hundred requests", Duration::from_secs(60), || load.requests.load(Ordering::Relaxed) >= 300)
            .unwrap();
        (load.requests.load(Ordering::Relaxed), load.failed.load(Ordering::Relaxed))
    });
    let struck = stack.fleet.servers[0].counters().unwrap().faults["503"];
    println!("{requests} requests, {failed} failed; 503 struck {struck} times");
    // The first, those on their way then, and a trial for each cooldown: in shares, a third would be its due.
    assert!(failed >= 1 && failed * 10 < requests, "{failed} of {requests}");
}

/// A relay of datagrams that can be cut.
struct Relay {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Relay {
    fn to(target: impl Fn() -> Option<SocketAddr> + Send + 'static) -> Relay {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (cut, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (seen, count) = (cut.clone(), lost.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                match target() {
                    Some(target) if !seen.load(Ordering::Relaxed) => {
                        let _ = socket.send_to(&buffer[..length], target);
                    }
                    _ => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Relay { address, cut, lost }
    }
}

fn metric(stack: &Stack, series: &str) -> u64 {
    let scrape = Request::get("/metrics").header("Connection", "close");
    let text = send(stack.herdgate.ports.metrics, &scrape).unwrap().text();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {series}"))
}

/// For a minute no usage line arrives: requests go on, the alarm shows, and slots end by time, before and after.
fn log_channel_cut_for_a_minute(front: &str) {
    let target: Arc<std::sync::Mutex<Option<SocketAddr>>> = Arc::default();
    let told = target.clone();
    let relay = Relay::to(move || *told.lock().unwrap());
    let stack = start(front, "--num-parallel 64", Some(relay.address));
    *target.lock().unwrap() = Some(stack.herdgate.ports.usage);
    let request = stream(4).key(&stack.keys().team);
    Load::during(&stack, 2, &request, |load| {
        wait_until("lines", Duration::from_secs(10), || {
            metric(&stack, "herdgate_usage_lines_total{result=\"released\"}") > 20
        })
        .unwrap();
        assert_eq!(metric(&stack, "herdgate_usage_silent"), 0);
        relay.cut.store(true, Ordering::Relaxed);
        let watch = Stopwatch::new();
        wait_until("the alarm", Duration::from_secs(30), || metric(&stack, "herdgate_usage_silent") == 1).unwrap();
        let alarm = watch.elapsed();
        let most = AtomicU64::new(0);
        let _ = wait_until("the minute to pass", Duration::from_secs(60).saturating_sub(alarm), || {
            most.fetch_max(metric(&stack, "herdgate_slots_open"), Ordering::Relaxed);
            std::thread::sleep(100 * MS);
            false
        });
        let served = load.requests.load(Ordering::Relaxed);
        let expired = metric(&stack, "herdgate_slots_expired_total");
        relay.cut.store(false, Ordering::Relaxed);
        wait_until("the alarm to end", Duration::from_secs(10), || metric(&stack, "herdgate_usage_silent") == 0)
            .unwrap();
        println!(
            "{front}: {} lines lost, alarm after {:.1} s, {served} requests served, at most {} slots open, {expired} ended by time",
            relay.lost.load(Ordering::Relaxed),
            alarm.as_secs_f64(),
            most.load(Ordering::Relaxed)
        );
        assert!(relay.lost.load(Ordering::Relaxed) > 20, "hardly a line was lost");
        assert!(expired > 0, "no slot ended by time");
        // A machine that is busy with other tests may miss herdgate's deadline now and then.
        let failed = load.failed.load(Ordering::Relaxed);
        assert!(failed * 100 <= served, "{failed} of {served} requests failed");
    });
    assert!(stack.herdgate.output().contains("usage lines have stopped coming"));
    // What the cut left open ends as well: nothing waits an hour for lines that never come.
    wait_until("no slot is open", Duration::from_secs(30), || metric(&stack, "herdgate_slots_open") == 0).unwrap();
}

#[test]
fn log_channel_cut_for_a_minute_through_real_haproxy() {
    log_channel_cut_for_a_minute("HAProxy");
}

#[test]
fn log_channel_cut_for_a_minute_through_real_nginx() {
    log_channel_cut_for_a_minute("nginx");
}

/// Two slots a server, a queue of two behind them, and more clients than fit: all full for two minutes.
#[test]
fn two_minutes_with_every_slot_and_queue_full_no_server_flaps() {
    let stack = start("HAProxy", "--num-parallel 2 --slot-queue 2", None);
    let request = stream(30).key(&stack.keys().team);
    let queued = AtomicU64::new(0);
    let looks = AtomicU64::new(0);
    let (requests, failed) = Load::during(&stack, 18, &request, |load| {
        let _ = wait_until("two minutes to pass", Duration::from_secs(120), || {
            let counters = stack.fleet.counters().unwrap();
            queued.fetch_add(u64::from(counters.iter().all(|server| server.queued > 0)), Ordering::Relaxed);
            looks.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(250 * MS);
            false
        });
        (load.requests.load(Ordering::Relaxed), load.failed.load(Ordering::Relaxed))
    });
    let busy: u64 = stack.fleet.counters().unwrap().iter().map(|server| server.busy).sum();
    let out: Vec<usize> = ["ollama1", "ollama2", "ollama3"].map(|name| taken_out(&stack, name)).into();
    println!(
        "{requests} requests, {failed} failed, {busy} times `server busy`; queues seen full {} of {} times; taken out {out:?}",
        queued.into_inner(),
        looks.into_inner()
    );
    assert_eq!(out, [0, 0, 0], "{}", stack.herdgate.output());
    assert!(busy > 100, "only {busy} times was anything full");
}

#[test]
fn a_drained_server_gets_no_new_requests_and_ends_what_it_has() {
    let mut stack = start("HAProxy", "--num-parallel 64", None);
    let long = stream(200).key(&stack.keys().team);
    let mut under_way: Vec<Conversation> =
        (0..6).map(|_| Conversation::start(stack.proxy.address(), &long).unwrap()).collect();
    under_way.iter_mut().for_each(|stream| stream.read_body(1).unwrap());
    let order = |word: &str| {
        let said = Command::new(built("herdgate").unwrap())
            .args([word, "ollama1", "--config"])
            .arg(stack.herdgate.config())
            .output()
            .unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    assert_eq!(order("drain"), "ollama1: draining\n");
    stack.herdgate.wait_for_state("ollama1", "draining", Duration::from_secs(5)).unwrap();
    let before = chats(&stack);
    assert!(before > 0, "the server to be drained had nothing to end");
    let short = stream(1).key(&stack.keys().team);
    for _ in 0..30 {
        assert_eq!(stack.send(&short).unwrap().status, 200);
    }
    assert_eq!(chats(&stack), before, "a drained server got new requests");
    for stream in &mut under_way {
        stream.read_to_end().unwrap();
        assert_eq!((stream.response.status, stream.response.text().lines().count()), (200, 201));
    }
    assert_eq!(order("undrain"), "ollama1: takes requests again\n");
    stack.herdgate.wait_for_state("ollama1", "up", Duration::from_secs(5)).unwrap();
    wait_until("it gets requests again", Duration::from_secs(10), || {
        assert_eq!(stack.send(&short).unwrap().status, 200);
        chats(&stack) > before
    })
    .unwrap();
    let said = Command::new(built("herdgate").unwrap())
        .args(["drain", "nobody", "--config"])
        .arg(stack.herdgate.config())
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("there is no such server"), "{said:?}");
    stack.herdgate.stop();
}
