//! Tokens from bytes: 500 streams through real nginx, charged by a herdgate that knows the model by deep checks alone.

use crate::harness::client::{Conversation, Request, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL, SINGLE_MODEL};
use crate::harness::herdgate::Herdgate;
use crate::harness::nginx::{Mode, Nginx, Version};
use crate::harness::scratch::{Scratch, edit};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Checks before the first request: at a minute each, an hour and a half.
const CHECKS: u64 = 90;

/// Requests of each endpoint; four make 500 and more.
const STREAMS: usize = 126;
const WHOLES: usize = 40;

/// By how much the sum over all streams may be wrong.
const ERROR_MAX: f64 = 0.05;

const PROMPT: &str = "Wie viele Schafe zählt man, bevor man einschläft? Please answer in one sentence, and count in steps of 7: \
    7, 14, 21, 28. fn main() { println!(\"{}\", 7 * 6); } 羊が一匹、羊が二匹。";

const ENDPOINTS: [&str; 4] = ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions"];

/// One server with mixed tokens, herdgate, and nginx in front.
struct Site {
    nginx: Nginx,
    herdgate: Herdgate,
    fleet: Fleet,
    _scratch: Scratch,
}

impl Site {
    /// Starts it, and waits until the model was measured by deep checks; none follow.
    fn start() -> Site {
        let scratch = Scratch::new().unwrap();
        let models: [&[&str]; 3] = [&[SINGLE_MODEL], &[SHARED_MODEL], &[FOREIGN_MODEL]];
        let fleet = Fleet::start_with(&scratch, 400, "--num-parallel 64 --mixed-tokens", models).unwrap();
        let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
        let rare = std::fs::read_to_string(herdgate.config()).unwrap();
        let often = edit(&rare, "deep_interval = \"24h\"", "deep_interval = \"100ms\"").unwrap();
        std::fs::write(herdgate.config(), often).unwrap();
        let load = json!({ "model": SINGLE_MODEL, "prompt": "x", "stream": false, "options": { "num_predict": 1 } });
        let loaded = send(
            fleet.servers[0].address,
            &Request::post("/api/generate", load.to_string()).header("Host", "localhost"),
        );
        assert_eq!(loaded.unwrap().status, 200);
        herdgate.start().unwrap();
        let nginx = Nginx::start(Version::Debian, Mode::Handoff, &scratch, &herdgate.ports, &fleet).unwrap();
        let site = Site { nginx, herdgate, fleet, _scratch: scratch };
        wait_until("the model to be measured", Duration::from_secs(60), || {
            site.metric("herdgate_estimate_tokens_total{from=\"check\",answer=\"stream\",kind=\"exact\"}") >= 2 * CHECKS
        })
        .unwrap();
        std::fs::write(site.herdgate.config(), rare).unwrap();
        wait_until("the reload", Duration::from_secs(10), || {
            site.metric("herdgate_config_reloads_total{result=\"ok\"}") >= 1
        })
        .unwrap();
        // A check under way ends.
        let mut before = 0;
        wait_until("no more checks", Duration::from_secs(10), || {
            std::thread::sleep(Duration::from_millis(300));
            let now = site.generated();
            std::mem::replace(&mut before, now) == now
        })
        .unwrap();
        site
    }

    fn metric(&self, series: &str) -> u64 {
        let scrape = Request::get("/metrics").header("Connection", "close");
        let Ok(answer) = send(self.herdgate.ports.metrics, &scrape) else { return 0 };
        let text = answer.text();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Tokens the model server generated, by its own count.
    fn generated(&self) -> u64 {
        self.fleet.servers[0].counters().unwrap().tokens().tokens_out
    }

    /// Tokens charged so far by bytes, and for how many requests.
    fn charged(&self) -> (u64, u64) {
        let tokens = self.metric("herdgate_llm_tokens_total{direction=\"output\",evidence=\"estimated\"}");
        (tokens, self.metric("herdgate_settled_total{evidence=\"estimated\"}"))
    }

    /// Asks `count` times, a sixth of the streams left in the middle; answers what was charged and what was generated.
    fn ask(&self, path: &str, stream: bool, count: usize) -> (u64, u64) {
        let ((charged, settled), generated) = (self.charged(), self.generated());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let request = Request::post(path, body(path, stream, number).to_string());
                        let request = request.key(&self.herdgate.keys.team).header("Connection", "close");
                        let mut conversation = Conversation::start(self.nginx.address, &request).unwrap();
                        if stream && number % 6 == 5 {
                            conversation.read_body(400 * (number % 13)).unwrap();
                            conversation.leave();
                        } else {
                            conversation.read_to_end().unwrap();
                            let answer = &conversation.response;
                            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                        }
                    }
                });
            }
        });
        wait_until("every request to be settled", Duration::from_secs(15), || {
            self.charged().1 >= settled + count as u64
        })
        .unwrap_or_else(|fault| panic!("{fault}: {path}: {} of {count} by bytes", self.charged().1 - settled));
        (self.charged().0 - charged, self.generated() - generated)
    }
}

/// Between 10 and 250 tokens, now and then by another of the model's names, and with the usage asked for.
fn body(path: &str, stream: bool, number: usize) -> Value {
    let tokens = 10 + number * 37 % 240;
    let model = if number % 4 == 1 { format!("library/{SINGLE_MODEL}") } else { SINGLE_MODEL.to_owned() };
    let turns = json!([{ "role": "user", "content": PROMPT }]);
    let mut body = match path {
        "/api/chat" => json!({ "messages": turns, "options": { "num_predict": tokens } }),
        "/api/generate" => {
            json!({ "prompt": PROMPT, "raw": number.is_multiple_of(5), "options": { "num_predict": tokens } })
        }
        "/v1/chat/completions" => json!({ "messages": turns, "max_tokens": tokens }),
        _ => json!({ "prompt": PROMPT, "max_tokens": tokens }),
    };
    body["model"] = json!(model);
    body["stream"] = json!(stream);
    if path.starts_with("/v1") && stream && number.is_multiple_of(3) {
        body["stream_options"] = json!({ "include_usage": true });
    }
    body
}

fn error(estimated: u64, exact: u64) -> f64 {
    (estimated as f64 - exact as f64) / exact as f64
}

#[test]
fn tokens_of_500_streams_through_nginx_are_charged_within_5_percent_by_deep_checks_alone() {
    let site = Site::start();
    let checked = ["estimated", "exact"].map(|kind| {
        site.metric(&format!("herdgate_estimate_tokens_total{{from=\"check\",answer=\"stream\",kind=\"{kind}\"}}"))
    });
    let status =
        send(site.herdgate.ports.metrics, &Request::get("/status").header("Connection", "close")).unwrap().json();
    println!("/status: {}", status["models"]);
    assert_eq!(status["models"][0]["name"], SINGLE_MODEL, "{status}");
    println!("deep checks: {} tokens, {} as estimated", checked[1], checked[0]);
    let run = |stream: bool, count: usize| {
        let (mut estimated, mut exact) = (0, 0);
        for path in ENDPOINTS {
            let (charged, generated) = site.ask(path, stream, count);
            println!(
                "{path}: {count} requests, {generated} tokens, charged {charged}: {:+.2} %",
                100.0 * error(charged, generated)
            );
            estimated += charged;
            exact += generated;
        }
        (estimated, exact)
    };
    println!("streams, a sixth of them aborted:");
    let (estimated, exact) = run(true, STREAMS);
    let streams = error(estimated, exact);
    println!("sum over {} streams: {exact} tokens, charged {estimated}: {:+.2} %", 4 * STREAMS, 100.0 * streams);
    println!("whole answers:");
    let (estimated, exact) = run(false, WHOLES);
    println!(
        "sum over {} whole answers: {exact} tokens, charged {estimated}: {:+.2} %",
        4 * WHOLES,
        100.0 * error(estimated, exact)
    );
    assert!(streams.abs() <= ERROR_MAX, "wrong by {:.2} %", 100.0 * streams);
}
