//! Fair order through real HAProxy and real nginx: one caller that floods, low priority that is shed, and what those who wait
//! leave behind.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod harness;

use cases::stream;
use harness::client::{Conversation, Request, Response, send};
use harness::deadline::{Stopwatch, wait_until};
use harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL};
use harness::haproxy::{self, HaProxy};
use harness::herdgate::Herdgate;
use harness::nginx::{self, Mode, Nginx};
use harness::scratch::Scratch;
use harness::stack::{Proxy, Stack};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Requests that each of the two servers takes at once.
const ROOM: usize = 2;

/// Requests that each of the four callers has on their way at a time.
const CLIENTS: usize = 10;

/// Requests that the caller who floods has on their way at a time.
const FLOOD: usize = 50 * CLIENTS;

/// Tokens of an answer, 10 ms apart.
const TOKENS: u32 = 10;

const CALLERS: [&str; 4] = ["ann", "bob", "cleo", "dan"];

/// Everything, with a key for each caller, for the one who floods, and for each priority.
struct Site {
    stack: Stack,
    callers: Vec<String>,
    flood: String,
    low: String,
    high: String,
    narrow: String,
    /// One at a time: what is measured here is who waits for whom.
    _alone: MutexGuard<'static, ()>,
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Two servers with one model and room for four requests in all, behind `front`.
fn start(front: &str, queue: &str) -> Site {
    start_with(front, queue, ROOM, "--num-parallel 64", &[])
}

/// Returns the same with room for `told` requests on each server, as herdgate is told, and other servers.
fn start_with(front: &str, queue: &str, told: usize, servers: &'static str, edits: &[(&str, &str)]) -> Site {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new().unwrap();
    let models: [&[&str]; 3] = [&[SHARED_MODEL], &[SHARED_MODEL], &[FOREIGN_MODEL]];
    let fleet = Fleet::start_with(&scratch, 100, servers, models).unwrap();
    let plans = format!(
        "\n[plans.low]\nmodels = [\"*\"]\npriority = \"low\"\n[plans.high]\nmodels = [\"*\"]\npriority = \"high\"\n[queue]\n{queue}\n"
    );
    let mut herdgate = Herdgate::new_with(&scratch, &fleet, &plans).unwrap();
    let text = std::fs::read_to_string(herdgate.config()).unwrap();
    std::fs::write(herdgate.config(), text.replace("maxconn = 64", &format!("maxconn = {told}"))).unwrap();
    let key = |name: &str, plan: &str| herdgate.new_key(name, plan).unwrap();
    let callers = CALLERS.iter().map(|name| key(name, "team")).collect();
    let (flood, low, high) = (key("flood", "team"), key("lowly", "low"), key("lofty", "high"));
    let narrow = key("narrow", "narrow");
    herdgate.start_at("info").unwrap();
    let proxy = match front {
        "HAProxy" => {
            // What agent-check says within a second, from the start.
            let room = format!(" maxconn {ROOM} ");
            let edits = [&[(" maxconn 8 ", room.as_str())], edits].concat();
            let version = haproxy::Version::Debian;
            Proxy::HaProxy(HaProxy::start_edited(&edits, version, &scratch, &herdgate.ports, &fleet).unwrap())
        }
        _ => {
            let version = nginx::Version::Debian;
            Proxy::Nginx(Nginx::start(version, Mode::Handoff, &scratch, &herdgate.ports, &fleet).unwrap())
        }
    };
    let stack = Stack { proxy, herdgate, fleet, scratch };
    stack.wait_for_service().unwrap();
    Site { stack, callers, flood, low, high, narrow, _alone: alone }
}

impl Site {
    fn ask(&self, request: &Request) -> Response {
        self.stack.send(request).unwrap()
    }

    /// Returns how long a request takes that waits for nobody.
    fn service(&self) -> Duration {
        let request = stream(TOKENS).key(&self.callers[0]);
        let took = (0..5).map(|_| {
            let watch = Stopwatch::new();
            assert_eq!(self.ask(&request).status, 200);
            watch.elapsed()
        });
        took.min().unwrap()
    }

    fn metric(&self, series: &str) -> u64 {
        let scrape = Request::get("/metrics").header("Connection", "close");
        let text = send(self.stack.herdgate.ports.metrics, &scrape).unwrap().text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {series}"))
    }

    /// Waits until nothing is on its way and nobody waits.
    fn wait_until_empty(&self) {
        wait_until("all is over", Duration::from_secs(15), || {
            self.metric("herdgate_waiting") == 0 && self.metric("herdgate_slots_open") == 0
        })
        .unwrap_or_else(|fault| {
            let (open, waiting) = (self.metric("herdgate_slots_open"), self.metric("herdgate_waiting"));
            panic!("{fault}: {open} open, {waiting} waiting");
        });
    }
}

/// Clients that ask one after the other until it is over, and how long each answer took that came while it was watched.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    watched: AtomicBool,
    took: Mutex<Vec<Duration>>,
    flooded: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn ask(&self, site: &Site, key: &str, is_flood: bool) {
        let request = stream(TOKENS).key(key);
        while !self.over.load(Ordering::Relaxed) {
            let watch = Stopwatch::new();
            let sent_watched = self.watched.load(Ordering::Relaxed);
            let answer = Conversation::start(site.stack.proxy.address(), &request)
                .and_then(|conversation| conversation.with_patience(500 * MS))
                .and_then(|mut conversation| {
                    // Who still waits when it is over leaves.
                    while let Err(fault) = conversation.read_to_end() {
                        let silent = fault.contains("temporarily unavailable");
                        if !silent || self.over.load(Ordering::Relaxed) {
                            return Err(fault);
                        }
                    }
                    Ok(conversation.response)
                });
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            match answer {
                Ok(answer) if answer.status == 200 && is_flood => {
                    self.flooded.fetch_add(usize::from(self.watched.load(Ordering::Relaxed)), Ordering::Relaxed);
                }
                Ok(answer) if answer.status == 200 => {
                    if sent_watched {
                        self.took.lock().unwrap().push(watch.elapsed());
                    }
                }
                // A machine that is busy with other tests may miss herdgate's deadline now and then.
                failed => {
                    self.failed
                        .lock()
                        .unwrap()
                        .push(format!("{:?}", failed.map(|answer| (answer.status, answer.text()))));
                    std::thread::sleep(50 * MS);
                }
            }
        }
    }

    /// Returns the median time that the four callers wait, at least `lasting` where none of them was answered in that
    /// time, and how many of their requests and of the flood were answered.
    fn median_wait(site: &Site, service: Duration, flood: usize, lasting: Duration) -> (Duration, usize, usize) {
        let load = Load::default();
        std::thread::scope(|scope| {
            let load = &load;
            let spawn = |key: &str, is_flood: bool| {
                let key = key.to_owned();
                std::thread::Builder::new()
                    .stack_size(256 * 1024)
                    .spawn_scoped(scope, move || load.ask(site, &key, is_flood))
                    .unwrap();
            };
            for _ in 0..flood {
                spawn(&site.flood, true);
                // Not all in one instant, which would measure how many connections a proxy can open.
                std::thread::sleep(2 * MS);
            }
            for caller in &site.callers {
                (0..CLIENTS).for_each(|_| spawn(caller, false));
            }
            std::thread::sleep(1_500 * MS);
            load.watched.store(true, Ordering::Relaxed);
            std::thread::sleep(lasting);
            load.over.store(true, Ordering::Relaxed);
        });
        let failed = load.failed.into_inner().unwrap();
        let mut took = load.took.into_inner().unwrap();
        assert!(failed.len() <= 5 + flood / 20, "{} failed, the first: {}", failed.len(), failed[0]);
        took.sort();
        let median = took.get(took.len() / 2).copied().unwrap_or(lasting + service);
        (median.saturating_sub(service), took.len(), load.flooded.into_inner())
    }
}

/// Returns what one caller with fifty times the requests of each of four others does to their wait: their median wait
/// with it, for each such time without.
fn flood(front: &str, site: &Site, lasting: Duration) -> f64 {
    let service = site.service();
    let (alone, served, _) = Load::median_wait(site, service, 0, lasting);
    site.wait_until_empty();
    let (beside, served_beside, flooded) = Load::median_wait(site, service, FLOOD, lasting);
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!(
        "{front}: service {service:?}; median wait of four callers {alone:?} alone ({served} requests), {beside:?} beside a \
         flood of {FLOOD} ({served_beside} requests, {flooded} of the flood): {ratio:.2} times"
    );
    assert!(flooded > 0, "the flood was starved");
    ratio
}

/// On a machine whose other tasks spoil the first measurement there is a second.
fn assert_hardly_delayed(front: &str, site: &Site) {
    let ratio = flood(front, site, 6_000 * MS);
    if ratio > 1.5 {
        site.wait_until_empty();
        let again = flood(front, site, 6_000 * MS);
        assert!(again <= 1.5, "{front}: {ratio}, then {again}");
    }
}

#[test]
fn a_caller_that_floods_hardly_delays_the_others_through_real_haproxy() {
    let site = start("HAProxy", "");
    assert_hardly_delayed("HAProxy", &site);
    site.wait_until_empty();
}

#[test]
fn a_caller_that_floods_hardly_delays_the_others_through_real_nginx() {
    let site = start("nginx", "");
    assert_hardly_delayed("nginx", &site);
    site.wait_until_empty();
}

/// What the tests above would see if the order were that of arrival.
fn flood_in_order_of_arrival(front: &str, site: &Site) {
    let service = site.service();
    let alone = service * u32::try_from(CLIENTS - 1).unwrap();
    let (beside, served, flooded) = Load::median_wait(site, service, FLOOD, 3_000 * MS);
    println!(
        "{front}, unordered: median wait {beside:?} and more beside the flood ({served} requests, {flooded} of the flood)"
    );
    assert!(beside > alone * 2, "a flood that is not felt: {beside:?}");
}

#[test]
fn without_the_offset_the_same_flood_is_felt_through_real_haproxy() {
    let unordered = [("http-request set-priority-offset", "#")];
    flood_in_order_of_arrival("HAProxy", &start_with("HAProxy", "", ROOM, "--num-parallel 64", &unordered));
}

/// herdgate is told of more room than there is, so the servers' own queues are used, which know no callers.
#[test]
fn without_the_waiting_room_the_same_flood_is_felt_through_real_nginx() {
    flood_in_order_of_arrival("nginx", &start_with("nginx", "", 1_000, "--num-parallel 2", &[]));
}

/// Both servers full of answers of so many tokens.
fn fill(site: &Site, tokens: u32) -> Vec<Conversation> {
    let request = stream(tokens).key(&site.flood);
    let mut full: Vec<Conversation> = (0..2 * ROOM).map(|_| site.begin(&request)).collect();
    full.iter_mut().for_each(|stream| stream.read_body(1).unwrap());
    full
}

impl Site {
    fn begin(&self, request: &Request) -> Conversation {
        Conversation::start(self.stack.proxy.address(), request).unwrap()
    }

    /// Requests that HAProxy has had let through; those that nginx has waiting.
    fn decided(&self) -> u64 {
        match &self.stack.proxy {
            Proxy::Nginx(_) => self.metric("herdgate_waiting"),
            Proxy::HaProxy(_) => {
                self.metric("herdgate_decisions_total{ingress=\"spop\",outcome=\"allow\",code=\"none\"}")
            }
        }
    }

    /// Waits until so many requests wait, wherever this proxy has them wait.
    fn wait_for_waiters(&self, count: usize) {
        let waiting = || match &self.stack.proxy {
            Proxy::Nginx(_) => self.metric("herdgate_waiting"),
            Proxy::HaProxy(_) => self.metric("herdgate_slots_open").saturating_sub(2 * ROOM as u64),
        };
        // The number of open slots is published every second.
        wait_until("they wait", Duration::from_secs(10), || waiting() == count as u64)
            .unwrap_or_else(|fault| panic!("{fault}: {} of {count}", waiting()));
    }
}

/// Low priority is refused while the expected wait is long; high priority and the catalog go on.
fn low_priority_is_refused_first(front: &str) {
    let site = start(front, "shed_wait = \"1s\"");
    // Four answers of a second each teach how long one takes.
    fill(&site, 100).iter_mut().for_each(|answer| answer.read_to_end().unwrap());
    site.wait_until_empty();
    let low = stream(1).key(&site.low);
    assert_eq!(site.ask(&low).status, 200, "there is room");
    let full = fill(&site, 100);
    let waiting: Vec<Conversation> =
        site.callers.iter().cycle().take(12).map(|key| site.begin(&stream(100).key(key))).collect();
    site.wait_for_waiters(12);
    let refused = site.ask(&low);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("overloaded"), "{}", refused.text());
    // Three seconds of waiting before it, of which one is borne.
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    assert_eq!(site.ask(&Request::get("/v1/models").key(&site.low)).status, 200, "the catalog goes on");
    let watch = Stopwatch::new();
    assert_eq!(site.ask(&stream(1).key(&site.high)).status, 200, "high priority goes on");
    println!("{front}: low refused for {seconds} s, high priority served after {:?}", watch.elapsed());
    for mut answer in full.into_iter().chain(waiting) {
        answer.read_to_end().unwrap();
        assert_eq!(answer.response.status, 200);
    }
    site.wait_until_empty();
    assert_eq!(site.ask(&low).status, 200, "there is room again");
}

#[test]
fn low_priority_is_refused_first_through_real_haproxy() {
    low_priority_is_refused_first("HAProxy");
}

#[test]
fn low_priority_is_refused_first_through_real_nginx() {
    low_priority_is_refused_first("nginx");
}

/// Ten requests wait: one of low priority that came first, eight, and one of high priority that came last.
fn high_priority_is_served_first_and_low_last(front: &str) {
    let site = start(front, "");
    let full = fill(&site, 300);
    let before = site.decided();
    let keys = [&site.low].into_iter().chain(site.callers.iter().cycle().take(8)).chain([&site.high]);
    let mut waiting: Vec<(usize, Conversation)> = Vec::new();
    for (number, key) in keys.enumerate() {
        waiting.push((number, site.begin(&stream(50).key(key))));
        // One after the other, so that they come in this order.
        wait_until("it waits", Duration::from_secs(5), || site.decided() == before + number as u64 + 1).unwrap();
    }
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (number, mut answer) in waiting {
            let order = &order;
            scope.spawn(move || {
                answer.read_body(1).unwrap();
                order.lock().unwrap().push(number);
                answer.read_to_end().unwrap();
            });
        }
    });
    drop(full);
    let order = order.into_inner().unwrap();
    let place = |number: usize| order.iter().position(|found| *found == number).unwrap();
    println!("{front}: {order:?}");
    assert!(place(9) < 4, "high priority was not among the first four: {order:?}");
    assert!(place(0) >= 6, "low priority was not among the last four: {order:?}");
    site.wait_until_empty();
}

#[test]
fn high_priority_is_served_first_and_low_last_through_real_haproxy() {
    high_priority_is_served_first_and_low_last("HAProxy");
}

#[test]
fn high_priority_is_served_first_and_low_last_through_real_nginx() {
    high_priority_is_served_first_and_low_last("nginx");
}

/// Clients that leave while they wait leave nothing behind, and others get what they would have got.
fn who_leaves_while_waiting_leaves_nothing_behind(front: &str) {
    let site = start(front, "");
    let mut full = fill(&site, 300);
    let waiting: Vec<Conversation> =
        site.callers.iter().cycle().take(20).map(|key| site.begin(&stream(TOKENS).key(key))).collect();
    site.wait_for_waiters(20);
    waiting.into_iter().for_each(Conversation::leave);
    site.wait_for_waiters(0);
    assert_eq!(site.ask(&stream(1).key(&site.callers[0])).status, 200);
    full.iter_mut().for_each(|answer| answer.read_to_end().unwrap());
    site.wait_until_empty();
    assert_eq!(site.metric("herdgate_slots_expired_total"), 0);
}

#[test]
fn who_leaves_while_waiting_leaves_nothing_behind_through_real_haproxy() {
    who_leaves_while_waiting_leaves_nothing_behind("HAProxy");
}

#[test]
fn who_leaves_while_waiting_leaves_nothing_behind_through_real_nginx() {
    who_leaves_while_waiting_leaves_nothing_behind("nginx");
}

/// What waits counts for its caller's `concurrency`, gives up when its time is over, and says so in its own dialect.
#[test]
fn waiting_is_bounded_in_number_and_time_through_real_nginx() {
    let site = start("nginx", "timeout = \"1s\"");
    let full = fill(&site, 300);
    let narrow = stream(TOKENS).key(&site.narrow);
    let mut waiting: Vec<Conversation> = (0..2).map(|_| site.begin(&narrow)).collect();
    site.wait_for_waiters(2);
    assert_eq!(site.ask(&narrow).status, 429, "two is what its plan lets it have on their way");
    let body = format!(r#"{{"model":"{SHARED_MODEL}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    waiting.push(site.begin(&Request::post("/v1/chat/completions", body).key(&site.callers[0])));
    let watch = Stopwatch::new();
    let said: Vec<_> = waiting
        .into_iter()
        .map(|mut answer| {
            answer.read_to_end().unwrap();
            let seconds: u64 = answer.response.header("retry-after").unwrap().parse().unwrap();
            assert!(answer.response.status == 503 && seconds >= 1, "{:?}", answer.response);
            assert!(answer.response.header("x-request-id").is_some_and(|id| id.len() == 32));
            answer.response.json()["error"].clone()
        })
        .collect();
    assert!(watch.elapsed() >= 500 * MS, "{:?}", watch.elapsed());
    assert!(said[0].is_string() && said[1].is_string(), "{said:?}");
    assert_eq!(said[2]["code"], "overloaded", "{said:?}");
    assert_eq!(site.metric("herdgate_waits_total{result=\"timed_out\"}"), 3);
    drop(full);
    site.wait_until_empty();
}

/// A herdgate that ends while requests wait: they are told to come again, and what is under way goes on.
fn who_waits_when_herdgate_ends_is_told_to_come_again(end: fn(&mut Herdgate)) {
    let mut site = start("nginx", "");
    let mut full = fill(&site, 200);
    let waiting: Vec<Conversation> = site.callers.iter().map(|key| site.begin(&stream(TOKENS).key(key))).collect();
    site.wait_for_waiters(CALLERS.len());
    end(&mut site.stack.herdgate);
    for mut answer in waiting {
        answer.read_to_end().unwrap();
        let response = answer.response;
        assert!(response.status == 503 && response.header("retry-after").is_some(), "{response:?}");
    }
    for answer in &mut full {
        answer.read_to_end().unwrap();
        assert_eq!((answer.response.status, answer.response.text().lines().count()), (200, 201));
    }
}

#[test]
fn who_waits_when_herdgate_is_killed_is_told_to_come_again() {
    who_waits_when_herdgate_ends_is_told_to_come_again(Herdgate::kill);
}

#[test]
fn who_waits_when_herdgate_is_stopped_is_told_to_come_again() {
    who_waits_when_herdgate_ends_is_told_to_come_again(Herdgate::stop);
}

/// A ticket is good once, and for nobody who guesses.
#[test]
fn tickets_that_are_not_good_get_no_server() {
    let site = start("nginx", "");
    for ticket in ["", "0", "x", "00000000000000000000000000000000", "+0000000000000000000000000000001"] {
        let asked = Request::get("/wait").header("X-Herdgate-Ticket", ticket).header("Connection", "close");
        let answer = send(site.stack.herdgate.ports.http, &asked).unwrap();
        assert_eq!((answer.status, answer.header("x-accel-redirect")), (503, None), "{ticket}");
    }
}
