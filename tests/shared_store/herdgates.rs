//! Two herdgates behind two real HAProxys on one real Redis: one limit for both, one settles what the other decided, either may
//! be killed, and the store may go away.

use crate::client::quota;
use crate::harness::client::{Conversation, Request, Response, send};
use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::fleet::{Fleet, SHARED_MODEL, SINGLE_MODEL};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::{Herdgate, Ports, RARE_BURST};
use crate::harness::nginx::{self, Mode, Nginx};
use crate::harness::redis::Redis;
use crate::harness::scratch::Scratch;
use herdgate::shared_store::Fraction;
use std::num::NonZeroU32;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// One herdgate and the proxy that asks it.
struct Side {
    proxy: HaProxy,
    herdgate: Herdgate,
    _scratch: Scratch,
}

/// Both, ended in this order.
struct Pair {
    sides: [Side; 2],
    redis: Redis,
    _fleet: Fleet,
    _scratch: Scratch,
}

impl Pair {
    /// Starts everything. Each proxy asks its own herdgate and sends its usage lines to the one named for it.
    fn start(lines_to: [usize; 2]) -> Pair {
        Pair::start_with(lines_to, "")
    }

    /// The same with more lines in `[ledger]`.
    fn start_with(lines_to: [usize; 2], more: &str) -> Pair {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::start(&scratch, 20).unwrap();
        let redis = Redis::start(&scratch).unwrap();
        let secret = scratch.join("herdgate.secret");
        let ledger = format!(
            "\n[ledger]\n{more}store = \"{}\"\nreplicas = 2\nsecret_file = \"{}\"\n[teams.few]\nplan = \"narrow\"\n",
            redis.url(),
            secret.display()
        );
        let made = [(); 2].map(|()| {
            let scratch = Scratch::new().unwrap();
            let herdgate = Herdgate::new_with(&scratch, &fleet, &ledger).unwrap();
            (scratch, herdgate)
        });
        for (name, plan) in [("narrow", "narrow"), ("rare", "rare"), ("rarer", "rare")] {
            let secret = made[0].1.new_key(name, plan).unwrap();
            made[0].0.write(name, &secret).unwrap();
        }
        std::fs::copy(made[0].0.join("keys.toml"), made[1].0.join("keys.toml")).unwrap();
        let [(first_scratch, mut first), (second_scratch, mut second)] = made;
        second.keys = first.keys.clone();
        first.start().unwrap();
        second.start().unwrap();
        let usage = lines_to.map(|side| [first.ports.usage, second.ports.usage][side]);
        let ports = [Ports { usage: usage[0], ..first.ports }, Ports { usage: usage[1], ..second.ports }];
        let proxies = [(&first_scratch, &ports[0]), (&second_scratch, &ports[1])]
            .map(|(scratch, ports)| HaProxy::start(Version::Debian, scratch, ports, &fleet).unwrap());
        let [first_proxy, second_proxy] = proxies;
        let sides = [
            Side { proxy: first_proxy, herdgate: first, _scratch: first_scratch },
            Side { proxy: second_proxy, herdgate: second, _scratch: second_scratch },
        ];
        let pair = Pair { sides, redis, _fleet: fleet, _scratch: scratch };
        for side in &pair.sides {
            side.wait_for_service();
            wait_until("the store is up", PATIENCE, || side.metric("herdgate_shared_store_up") == Some(1)).unwrap();
        }
        pair
    }

    fn key(&self, name: &str) -> String {
        std::fs::read_to_string(self.sides[0]._scratch.join(name)).unwrap()
    }

    fn wait_until_nothing_is_open(&self) {
        for side in &self.sides {
            wait_until("no slot is open", PATIENCE, || side.metric("herdgate_slots_open") == Some(0)).unwrap();
        }
        wait_until("nothing is held in the store", PATIENCE, || {
            self.redis.command::<u64>(&["ZCARD", "{herdgate}:e"]) == Ok(0)
        })
        .unwrap();
    }
}

impl Side {
    fn wait_for_service(&self) {
        let list = Request::get("/v1/models").key(&self.herdgate.keys.team).header("Connection", "close");
        wait_until("a model list", Duration::from_secs(15), || {
            send(self.proxy.address, &list).is_ok_and(|answer| answer.status == 200)
        })
        .unwrap();
    }

    fn send(&self, request: &Request) -> Response {
        send(self.proxy.address, request).unwrap()
    }

    /// A stream that has begun.
    fn begin(&self, request: &Request) -> Conversation {
        let mut stream = Conversation::start(self.proxy.address, request).unwrap();
        stream.read_body(1).unwrap();
        assert_eq!(stream.response.status, 200, "{}", stream.response.text());
        stream
    }

    fn metric(&self, series: &str) -> Option<u64> {
        let scrape = Request::get("/metrics").header("Connection", "close");
        let text = send(self.herdgate.ports.metrics, &scrape).ok()?.text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// A stream of so many tokens, 50 ms apart.
fn stream(tokens: u32, key: &str) -> Request {
    let body = serde_json::json!({
        "model": SHARED_MODEL, "stream": true, "options": { "num_predict": tokens },
        "messages": [{ "role": "user", "content": "hello" }],
    });
    Request::post("/api/chat", body.to_string()).key(key)
}

/// LiteLLM#40291: each instance read its own counters, so that the limit held once for each.
#[test]
fn two_herdgates_hold_to_one_limit_and_settle_each_others_requests() {
    // Without a ledger's file each herdgate has a random number in its receipts, and the store must know it by the same.
    for ledger in ["", "path = \"off\"\n"] {
        check_one_limit(&Pair::start_with([1, 0], ledger));
    }
}

fn check_one_limit(pair: &Pair) {
    let [a, b] = &pair.sides;
    // Three at once and one a minute, whoever is asked.
    let rare = stream(1, &pair.key("rare"));
    let statuses: Vec<u16> = [a, b, a, b, a].iter().map(|side| side.send(&rare).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let refused = b.send(&rare);
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 40)));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));

    // Two on their way: one by each.
    let narrow = stream(20, &pair.key("narrow"));
    let under_way = [a.begin(&narrow), b.begin(&narrow)];
    for side in [a, b] {
        let third = side.send(&narrow);
        assert_eq!(third.status, 429, "{}", third.text());
        assert!(third.text().contains("too many requests at once"), "{}", third.text());
    }
    for mut stream in under_way {
        stream.read_to_end().unwrap();
    }
    pair.wait_until_nothing_is_open();
    for side in [a, b] {
        assert_eq!(side.send(&stream(1, &pair.key("narrow"))).status, 200);
        assert!(side.metric("herdgate_usage_lines_total{result=\"foreign\"}").unwrap() >= 2, "lines came crossed");
        assert_eq!(side.metric("herdgate_slots_expired_total"), Some(0));
        assert_eq!(side.metric("herdgate_shared_store_lost_total"), Some(0));
    }
    pair.wait_until_nothing_is_open();
}

#[test]
fn either_herdgate_may_be_killed_and_the_other_knows_what_is_on_its_way() {
    for killed in [0, 1] {
        let survivor = 1 - killed;
        let mut pair = Pair::start([survivor, survivor]);
        let narrow = stream(60, &pair.key("narrow"));
        let streams = [(); 2].map(|()| pair.sides[killed].begin(&narrow));
        pair.sides[killed].herdgate.kill();
        let third = pair.sides[survivor].send(&narrow);
        assert_eq!(third.status, 429, "what the killed one granted is still on its way: {}", third.text());
        for mut stream in streams {
            stream.read_to_end().unwrap();
            assert!(stream.response.text().contains("\"done\":true"), "a stream was cut");
        }
        // Their lines come to the survivor, which settles them.
        wait_until("the places are free", PATIENCE, || {
            pair.sides[survivor].send(&stream(1, &pair.key("narrow"))).status == 200
        })
        .unwrap();
        pair.sides[killed].herdgate.start().unwrap();
        pair.sides[killed].wait_for_service();
        pair.wait_until_nothing_is_open();
        let under_way = [pair.sides[killed].begin(&narrow), pair.sides[survivor].begin(&narrow)];
        assert_eq!(pair.sides[killed].send(&narrow).status, 429, "it shares again");
        under_way.into_iter().for_each(Conversation::leave);
        pair.wait_until_nothing_is_open();
    }
}

#[test]
fn decisions_go_on_by_shares_while_the_store_is_stopped_and_by_the_whole_limit_after() {
    let mut pair = Pair::start([1, 0]);
    let (team, rare) = (stream(1, &pair.sides[0].herdgate.keys.team), stream(1, &pair.key("rare")));
    let rarer = stream(1, &pair.key("rarer"));
    assert_eq!(pair.sides[0].send(&rarer).status, 200);
    let median_ms = |side: &Side| {
        let mut took: Vec<u128> = (0..15)
            .map(|_| {
                let watch = Stopwatch::new();
                assert_eq!(side.send(&team).status, 200);
                watch.elapsed().as_micros()
            })
            .collect();
        took.sort_unstable();
        took[7] as f64 / 1000.0
    };
    let before = median_ms(&pair.sides[0]);
    pair.redis.process().pause().unwrap();
    for side in &pair.sides {
        // It may have been found out by the herdgate's own calls already.
        assert_eq!(side.send(&team).status, 200, "while it is found out");
        wait_until("the store is given up", PATIENCE, || side.metric("herdgate_shared_store_up") == Some(0)).unwrap();
    }
    let away = median_ms(&pair.sides[0]);
    let mut granted = 1; // of the rarer key, before
    for side in &pair.sides {
        let answers: Vec<u16> = (0..4).map(|_| side.send(&rarer).status).collect();
        assert_eq!(answers, [200, 429, 429, 429], "one of three each");
        granted += 1;
    }
    pair.redis.process().resume();
    for side in &pair.sides {
        wait_until("the store is back", PATIENCE, || side.metric("herdgate_shared_store_up") == Some(1)).unwrap();
        wait_until("all is told", PATIENCE, || side.metric("herdgate_shared_store_backlog") == Some(0)).unwrap();
    }
    for _ in 0..4 {
        for side in &pair.sides {
            granted += u64::from(side.send(&rarer).status == 200);
        }
    }
    let rate = quota(60, 3_600_000, RARE_BURST as u64);
    let bound = Fraction(NonZeroU32::new(2).unwrap()).overshoot(rate, 1, 0);
    println!(
        "{granted} granted, limit {RARE_BURST} + bound {bound}; median of a request {before} ms, {away} ms with the store away"
    );
    assert!(granted <= RARE_BURST as u64 + bound);
    let counted: Vec<u16> = pair.sides.iter().map(|side| side.send(&rare).status).collect();
    assert_eq!(counted, [200, 200], "another key is not concerned");
    for side in &pair.sides {
        assert!(side.metric("herdgate_shared_store_breaker_openings_total").unwrap() >= 1, "the fault never happened");
        assert_eq!(side.metric("herdgate_shared_store_lost_total"), Some(0));
    }
    pair.wait_until_nothing_is_open();
}

#[test]
fn who_waits_for_a_server_holds_what_it_took_in_the_store_and_gives_it_back_on_leaving() {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let redis = Redis::start(&scratch).unwrap();
    let ledger = format!("\n[ledger]\nstore = \"{}\"\n", redis.url());
    let mut herdgate = Herdgate::new_with(&scratch, &fleet, &ledger).unwrap();
    let written = std::fs::read_to_string(herdgate.config()).unwrap();
    std::fs::write(herdgate.config(), written.replace("maxconn = 64", "maxconn = 1")).unwrap();
    herdgate.start().unwrap();
    let nginx = Nginx::start(nginx::Version::Debian, Mode::Handoff, &scratch, &herdgate.ports, &fleet).unwrap();
    let list = Request::get("/v1/models").key(&herdgate.keys.team).header("Connection", "close");
    wait_until("a model list", Duration::from_secs(15), || {
        send(nginx.address, &list).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
    let in_store = |count: u64| {
        wait_until(&format!("{count} in the store"), PATIENCE, || {
            redis.command::<u64>(&["ZCARD", "{herdgate}:e"]) == Ok(count)
        })
        .unwrap();
    };
    let body = |tokens: u32| {
        let body = serde_json::json!({
            "model": SINGLE_MODEL, "stream": true, "options": { "num_predict": tokens },
            "messages": [{ "role": "user", "content": "hello" }],
        });
        Request::post("/api/chat", body.to_string()).key(&herdgate.keys.team)
    };
    let mut served = Conversation::start(nginx.address, &body(60)).unwrap();
    served.read_body(1).unwrap();
    in_store(1);
    let mut waits = Conversation::start(nginx.address, &body(2)).unwrap();
    in_store(2);
    let leaves = Conversation::start(nginx.address, &body(2)).unwrap();
    in_store(3);
    leaves.leave();
    in_store(2);
    served.read_to_end().unwrap();
    waits.read_to_end().unwrap();
    assert_eq!((served.response.status, waits.response.status), (200, 200));
    assert!(waits.response.text().contains("\"done\":true"));
    in_store(0);
}
