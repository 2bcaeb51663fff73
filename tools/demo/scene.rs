//! The scenes: each sends requests through a proxy, checks what came back, and asks herdgate's log why.

use crate::harness::Fault;
use crate::harness::client::{self, Request, Response};
use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL, SINGLE_MODEL};
use crate::harness::herdgate::{Herdgate, SLOW_BURST};
use crate::harness::stack::Proxy;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for something that takes a few probes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all scenes share.
pub struct Stage {
    /// The servers.
    pub fleet: Fleet,
    /// herdgate.
    pub herdgate: Herdgate,
    /// Scenes played.
    pub played: usize,
    /// Scenes that went wrong.
    pub failed: usize,
    kept: Option<Proxy>,
}

impl Stage {
    /// Returns a stage on which nothing was played.
    pub fn new(fleet: Fleet, herdgate: Herdgate) -> Stage {
        Stage { fleet, herdgate, played: 0, failed: 0, kept: None }
    }

    /// Keeps a proxy running to the end.
    pub fn keep(&mut self, proxy: Proxy) {
        self.kept = Some(proxy);
    }

    /// Returns the proxy kept.
    pub fn kept(&self) -> Option<&Proxy> {
        self.kept.as_ref()
    }

    /// Plays every scene through one proxy.
    pub fn play(&mut self, proxy_name: &str, proxy: &Proxy) -> Result<(), Fault> {
        let key = self.herdgate.keys.team.clone();
        // The first answer may have to wait for HAProxy's and herdgate's first checks.
        let list = Request::get("/v1/models").key(&key).header("Connection", "close");
        wait_until("service", PATIENCE, || {
            client::send(proxy.address(), &list).is_ok_and(|answer| answer.status == 200)
        })?;

        self.stream(proxy, &key)?;
        self.list(proxy, &key)?;
        let last = if key.ends_with('x') { 'y' } else { 'x' };
        let bad = format!("{}{last}", &key[..key.len() - 1]);
        let refusals = [
            ("no key", chat(SHARED_MODEL), 401, "invalid_api_key"),
            ("a bad key", chat(SHARED_MODEL).key(&bad), 401, "invalid_api_key"),
            ("a model outside the plan", chat(FOREIGN_MODEL).key(&key), 404, "model_not_found"),
            (
                "a body that can be read in two ways",
                Request::post(
                    "/v1/chat/completions",
                    format!(r#"{{"model":"{SHARED_MODEL}","messages":[],"Model":"{FOREIGN_MODEL}"}}"#),
                )
                .key(&key),
                400,
                "ambiguous_body",
            ),
            (
                "another spelling of /api/pull",
                Request::post("/api/%70ull", r#"{"model":"mistral:7b"}"#).key(&key),
                404,
                "unknown_route",
            ),
        ];
        for (title, request, status, code) in refusals {
            self.refusal(proxy, title, &request, status, code)?;
        }
        let slow = self.new_key(proxy, &format!("burst-{proxy_name}"))?;
        self.burst(proxy, &slow)?;
        self.budget(proxy, &format!("frugal-{proxy_name}"))?;
        self.dead_server(proxy, &key)
    }

    fn stream(&mut self, proxy: &Proxy, key: &str) -> Result<(), Fault> {
        let body = format!(
            r#"{{"model":"{SHARED_MODEL}","messages":[{{"role":"user","content":"hello"}}],"options":{{"num_predict":12}}}}"#
        );
        let answer = client::send(proxy.address(), &Request::post("/api/chat", body).key(key))?;
        let gap = answer.median_gap_ms().unwrap_or(0.0);
        let lines = answer.text().lines().count();
        // The simulator writes a token every 50 ms; a busy machine may be late, but bursts would be at 0.
        let ok = answer.status == 200 && answer.complete && lines == 13 && (25.0..150.0).contains(&gap);
        self.show(
            "a stream",
            &format!("POST /api/chat  {SHARED_MODEL}, 12 tokens"),
            &format!("{} and {lines} lines, {gap:.0} ms apart (median)", answer.status),
            &answer,
            ok,
        )
    }

    fn list(&mut self, proxy: &Proxy, key: &str) -> Result<(), Fault> {
        let answer = client::send(proxy.address(), &Request::get("/v1/models").key(key))?;
        let models = answer.json()["data"]
            .as_array()
            .map(|models| models.iter().filter_map(|model| model["id"].as_str()).collect::<Vec<_>>().join(", "))
            .unwrap_or_default();
        let ok = answer.status == 200 && models == format!("{SHARED_MODEL}, {SINGLE_MODEL}");
        self.show("a model list", "GET /v1/models", &format!("{}: {models}", answer.status), &answer, ok)
    }

    fn refusal(&mut self, proxy: &Proxy, title: &str, request: &Request, status: u16, code: &str) -> Result<(), Fault> {
        let before = self.fleet.asked()?;
        let answer = client::send(proxy.address(), request)?;
        let reached = self.fleet.asked()? - before;
        let why = self.why(&answer)?;
        let ok = answer.status == status && why.contains(&format!("code={code}")) && reached == 0;
        let got = format!("{} {}", answer.status, answer.text());
        self.show(
            title,
            &request.summary(),
            &format!("{got}\n          {reached} requests reached a server"),
            &answer,
            ok,
        )
    }

    fn new_key(&mut self, proxy: &Proxy, name: &str) -> Result<String, Fault> {
        let key = self.herdgate.new_key(name, "slow")?;
        let watch = Stopwatch::new();
        let request = Request::get("/v1/models").key(&key);
        let mut answer = Response::default();
        let came = wait_until("the new key to be known", PATIENCE, || {
            answer = client::send(proxy.address(), &request).unwrap_or_default();
            answer.status == 200
        });
        let ms = watch.elapsed().as_millis();
        let asked = format!("herdgate key new --name {name} --plan slow, then GET /v1/models");
        self.show(
            "a key made while everything runs",
            &asked,
            &format!("{} after {ms} ms", answer.status),
            &answer,
            came.is_ok(),
        )?;
        Ok(key)
    }

    fn burst(&mut self, proxy: &Proxy, key: &str) -> Result<(), Fault> {
        let answers: Result<Vec<Response>, Fault> =
            (0..SLOW_BURST + 2).map(|_| client::send(proxy.address(), &one_token(SHARED_MODEL).key(key))).collect();
        let answers = answers?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let Some(last) = answers.last() else { return Err("no answers".to_owned()) };
        let retry = last.header("retry-after").unwrap_or("none").to_owned();
        let passed = statuses.iter().filter(|status| **status == 200).count();
        // At one a second, one more may pass while the burst goes through.
        let ok = (SLOW_BURST..=SLOW_BURST + 1).contains(&passed)
            && last.status == 429
            && retry.parse::<u64>().is_ok_and(|seconds| seconds >= 1);
        self.show(
            "a burst over the rate",
            &format!("{} times POST /api/generate on plan `slow`", SLOW_BURST + 2),
            &format!("{statuses:?}, the last with Retry-After: {retry}"),
            last,
            ok,
        )
    }

    /// Tokens are held, then charged as they were used; who has none left is told when there are some again.
    fn budget(&mut self, proxy: &Proxy, name: &str) -> Result<(), Fault> {
        let key = self.herdgate.new_key(name, "frugal")?;
        let list = Request::get("/v1/models").key(&key);
        wait_until("the key to be known", PATIENCE, || {
            client::send(proxy.address(), &list).is_ok_and(|answer| answer.status == 200)
        })?;
        let body = format!(
            r#"{{"model":"{SHARED_MODEL}","messages":[{{"role":"user","content":"hello"}}],"max_tokens":30,"stream":true}}"#
        );
        let request = Request::post("/v1/chat/completions", body).key(&key);
        let first = client::send(proxy.address(), &request)?;
        let settled = wait_until("its usage line", PATIENCE, || self.herdgate.metric("herdgate_slots_open") == Some(0));
        let second = client::send(proxy.address(), &request)?;
        let number = |name: &str| second.header(name).unwrap_or("none").to_owned();
        let (left, retry) = (number("x-ratelimit-remaining-tokens"), number("retry-after"));
        let told = wait_until("the ledger", PATIENCE, || {
            self.herdgate.run(&["usage", "--key", name]).is_ok_and(|told| told.contains(name))
        });
        let usage = self.herdgate.run(&["usage", "--key", name])?;
        let ok = first.status == 200
            && second.status == 429
            && second.text().contains("quota_exceeded")
            && left.parse::<u64>().is_ok_and(|left| (1..40).contains(&left))
            && settled.and(told).is_ok();
        self.show(
            "a budget of 60 tokens a day",
            &format!("twice POST /v1/chat/completions, 30 tokens, then herdgate usage --key {name}"),
            &format!(
                "{} and {}, x-ratelimit-remaining-tokens: {left}, Retry-After: {retry}\n          {}",
                first.status,
                second.status,
                usage.trim_end().replace('\n', "\n          ")
            ),
            &second,
            ok,
        )
    }

    fn dead_server(&mut self, proxy: &Proxy, key: &str) -> Result<(), Fault> {
        self.fleet.server("ollama1")?.stop();
        self.herdgate.wait_for_state("ollama1", "down", PATIENCE)?;
        let before = self.served()?;
        let answers: Result<Vec<Response>, Fault> =
            (0..4).map(|_| client::send(proxy.address(), &one_token(SHARED_MODEL).key(key))).collect();
        let answers = answers?;
        let after = self.served()?;
        let served = after["ollama2"] - before["ollama2"];
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        let Some(last) = answers.last() else { return Err("no answers".to_owned()) };
        self.show(
            "a stopped server is avoided",
            &format!("ollama1 is stopped, then 4 times POST /api/generate  {SHARED_MODEL}"),
            &format!("{statuses:?}, {served} of them from ollama2"),
            last,
            statuses == [200; 4] && served == 4,
        )?;

        let only = client::send(proxy.address(), &one_token(SINGLE_MODEL).key(key))?;
        let retry = only.header("retry-after").unwrap_or("none").to_owned();
        let ok = only.status == 503 && retry.parse::<u64>().is_ok();
        self.show(
            "a model that only the stopped server has",
            &format!("POST /api/generate  {SINGLE_MODEL}"),
            &format!("{} {}, Retry-After: {retry}", only.status, only.text()),
            &only,
            ok,
        )?;

        self.fleet.server("ollama1")?.start()?;
        self.herdgate.wait_for_state("ollama1", "up", PATIENCE)?;
        let mut back = Response::default();
        // HAProxy's own checks may need a moment longer than herdgate's.
        let came = wait_until("ollama1 to serve again", PATIENCE, || {
            match client::send(proxy.address(), &one_token(SINGLE_MODEL).key(key)) {
                Ok(answer) => {
                    back = answer;
                    back.status == 200
                }
                Err(_) => false,
            }
        });
        self.show(
            "the server is back",
            &format!("ollama1 is started, then POST /api/generate  {SINGLE_MODEL}"),
            &format!("{}", back.status),
            &back,
            came.is_ok(),
        )
    }

    /// Prints a scene and counts it.
    fn show(&mut self, title: &str, asked: &str, got: &str, answer: &Response, ok: bool) -> Result<(), Fault> {
        self.played += 1;
        self.failed += usize::from(!ok);
        println!("\n{} {title}", if ok { "✓" } else { "✗" });
        println!("  asked   {asked}");
        println!("  got     {got}");
        println!("  why     {}", self.why(answer)?);
        Ok(())
    }

    /// Returns what herdgate's log says of the decision that an answer names by its `x-request-id`.
    fn why(&self, answer: &Response) -> Result<String, Fault> {
        let Some(id) = answer.header("x-request-id") else { return Ok("(the answer has no id)".to_owned()) };
        self.herdgate.why(id)
    }

    fn served(&self) -> Result<BTreeMap<&'static str, u64>, Fault> {
        self.fleet.servers.iter().map(|server| Ok((server.name, server.counters()?.asked()))).collect()
    }
}

/// Returns a chat request.
fn chat(model: &str) -> Request {
    Request::post("/v1/chat/completions", format!(r#"{{"messages":[],"model":"{model}"}}"#))
}

/// Returns the shortest generation.
fn one_token(model: &str) -> Request {
    let body = format!(r#"{{"model":"{model}","prompt":"hi","stream":false,"options":{{"num_predict":1}}}}"#);
    Request::post("/api/generate", body)
}
