//! The scenes: each is one call of the openai client through a proxy, what it got, and what herdgate's log says of it.

use crate::harness::client::{self, Request};
use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::herdgate::Herdgate;
use crate::harness::stack::Proxy;
use crate::harness::{Fault, sdk};
use crate::llama::{Llama, MODEL, NAME};
use herdgate::ledger::reservation::Evidence;
use herdgate::store::{StoredLife, find};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for something that takes a few probes.
const PATIENCE: Duration = Duration::from_secs(20);

/// When to give up, between two scenes: on a machine too slow for this.
const LIMIT: Duration = Duration::from_secs(120);

/// Tokens of each answer.
const TOKENS: u64 = 24;

/// What all scenes share.
pub struct Stage {
    /// Scenes played.
    pub played: usize,
    /// Scenes that went wrong.
    pub failed: usize,
    llama: Llama,
    herdgate: Herdgate,
    watch: Stopwatch,
    /// On a plan that lists the model.
    key: String,
    /// On a plan that does not.
    other: String,
}

impl Stage {
    /// Returns a stage on which nothing was played; makes the keys.
    pub fn new(llama: Llama, herdgate: Herdgate) -> Result<Stage, Fault> {
        let key = herdgate.new_key("team", "team")?;
        let other = herdgate.new_key("other", "other")?;
        Ok(Stage { played: 0, failed: 0, watch: Stopwatch::new(), llama, herdgate, key, other })
    }

    /// What herdgate found out about the server by itself.
    pub fn found(&mut self) -> Result<(), Fault> {
        self.herdgate.wait_for_state(NAME, "up", PATIENCE)?;
        let direct = client::send(self.llama.address, &Request::get("/v1/models").header("Connection", "close"))?;
        let status = client::send(self.herdgate.ports.metrics, &Request::get("/status").header("Connection", "close"))?;
        let (direct, status) = (direct.json(), status.json());
        let (listed, server) = (&direct["data"][0], &status["servers"][0]);
        let ok = listed["id"] == MODEL
            && server["models"] == serde_json::json!([MODEL])
            && server["state"] == "up"
            && server["kind"] == "openai";
        println!();
        self.count("what herdgate found by itself", ok);
        println!("  asked   llama-server's /v1/models: {} of {}", listed["id"], listed["owned_by"]);
        println!("  got     herdgate's /status: {} {} with {}", server["name"], server["state"], server["models"]);
        Ok(())
    }

    /// Nobody asks, and herdgate does: two tokens at a time, by the server's own count.
    pub fn deep_checks(&mut self) -> Result<(), Fault> {
        let before = self.predicted()?;
        let watch = Stopwatch::new();
        wait_until("three deep checks", PATIENCE, || self.predicted().is_ok_and(|now| now >= before + 6))?;
        let (tokens, ms) = (self.predicted()? - before, watch.elapsed().as_millis());
        let state = self.herdgate.wait_for_state(NAME, "up", PATIENCE);
        println!();
        self.count("deep checks on a server that nobody uses", state.is_ok() && tokens % 2 == 0);
        println!("  asked   nothing, for {ms} ms");
        println!("  got     {tokens} tokens generated, by llama-server's /metrics; herdgate says it is up");
        Ok(())
    }

    /// Tokens that the server has generated.
    fn predicted(&self) -> Result<u64, Fault> {
        let metrics = client::send(self.llama.address, &Request::get("/metrics").header("Connection", "close"))?.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("llamacpp:tokens_predicted_total "));
        line.and_then(|count| count.trim().parse::<f64>().ok())
            .map(|count| count as u64)
            .ok_or_else(|| "llama-server's /metrics tell of no tokens".to_owned())
    }

    /// Plays every scene through one proxy.
    pub fn play(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        self.wait_for_service(proxy)?;
        self.list(proxy)?;
        self.stream(proxy)?;
        self.whole(proxy)?;
        let bad = format!("{}x", self.key);
        let other = self.other.clone();
        self.refusal(proxy, "a bad key", &bad, 401, "invalid_api_key")?;
        self.refusal(proxy, "a model outside the plan", &other, 404, "model_not_found")?;
        self.pair(proxy)?;
        self.stopped(proxy)
    }

    fn list(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        let got = self.ask("list", proxy, &self.key)?;
        let model = &got["models"][0];
        let ok = got["status"] == 200
            && got["models"].as_array().is_some_and(|models| models.len() == 1)
            && model["id"] == MODEL
            && model["owned_by"] == "llamacpp";
        self.show("a model list", "models.list()", &format!("{} {}", got["status"], got["models"]), &got, ok)
    }

    fn stream(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        let got = self.ask("stream", proxy, &self.key)?;
        self.show(
            "a stream",
            &format!("chat.completions.create(stream=True, max_tokens={TOKENS})  \"Name three colours.\""),
            &told_of_stream(&got),
            &got,
            streamed(&got),
        )?;
        self.charged(proxy, &got)
    }

    /// What the ledger has of an answer is what the server said of it: to the token where the proxy can read it.
    fn charged(&mut self, proxy: &Proxy, got: &Value) -> Result<(), Fault> {
        let id = got["id"].as_str().and_then(|id| u128::from_str_radix(id, 16).ok()).ok_or("the answer has no id")?;
        let file = self.herdgate.config().with_file_name("herdgate.db");
        let mut row = None;
        wait_until("the ledger's row", PATIENCE, || {
            if let Ok(Some(StoredLife::Settled(found))) = find(&file, id) {
                row = Some(found);
            }
            row.is_some()
        })?;
        let row = row.ok_or("no row")?;
        let usage = |name: &str| got["usage"][name].as_u64().unwrap_or(0);
        let ok = match proxy {
            Proxy::HaProxy(_) => {
                row.evidence == Evidence::Exact
                    && (row.tokens_in, row.tokens_out) == (usage("prompt_tokens"), usage("completion_tokens"))
            }
            // One answer by its bytes: docs/tokens.md says how exact that is.
            Proxy::Nginx(_) => row.evidence == Evidence::Estimated && row.tokens_out.abs_diff(TOKENS) <= TOKENS / 2,
        };
        println!();
        self.count("what it is charged", ok);
        println!("  asked   the ledger for {}", got["id"]);
        println!(
            "  got     {} tokens in, {} out ({}); llama-server said {} and {}",
            row.tokens_in,
            row.tokens_out,
            row.evidence.as_str(),
            usage("prompt_tokens"),
            usage("completion_tokens")
        );
        Ok(())
    }

    fn whole(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        let got = self.ask("whole", proxy, &self.key)?;
        let ok = got["status"] == 200
            && got["text"].as_str().is_some_and(|text| !text.is_empty())
            && got["usage"]["completion_tokens"] == TOKENS
            && got["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0);
        self.show(
            "an answer in one piece",
            &format!("chat.completions.create(max_tokens={TOKENS})  \"Name three colours.\""),
            &format!("{} {}\n          usage {}", got["status"], got["text"], got["usage"]),
            &got,
            ok,
        )
    }

    fn refusal(&mut self, proxy: &Proxy, title: &str, key: &str, status: u16, code: &str) -> Result<(), Fault> {
        let got = self.ask("whole", proxy, key)?;
        let ok = got["status"] == status && got["code"] == code;
        self.show(
            title,
            &format!("chat.completions.create(model=\"{MODEL}\")"),
            &format!("{} {} {}", got["status"], got["code"], got["message"]),
            &got,
            ok,
        )
    }

    fn pair(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        let got = self.ask("pair", proxy, &self.key)?;
        let answers = got["answers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let together = if got["together"] == true { "at the same time" } else { "one after the other" };
        let told: Vec<String> = answers.iter().map(told_of_stream).collect();
        let ok = answers.len() == 2 && answers.iter().all(complete) && got["together"] == true;
        self.show(
            "two at once",
            "two streams from two threads",
            &format!("{}\n          {together}", told.join("\n          ")),
            &got,
            ok,
        )
    }

    fn stopped(&mut self, proxy: &Proxy) -> Result<(), Fault> {
        let watch = Stopwatch::new();
        self.llama.stop();
        self.herdgate.wait_for_state(NAME, "down", PATIENCE)?;
        let ms = watch.elapsed().as_millis();
        let got = self.ask("whole", proxy, &self.key)?;
        let ok = got["status"] == 503
            && got["code"] == "no_server"
            && got["retry_after"]
                .as_str()
                .is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0));
        self.show(
            "the server is stopped",
            &format!("llama-server is ended (seen by herdgate within {ms} ms), then chat.completions.create()"),
            &format!("{} {} {}, Retry-After: {}", got["status"], got["code"], got["message"], got["retry_after"]),
            &got,
            ok,
        )?;

        let watch = Stopwatch::new();
        self.llama.start()?;
        self.herdgate.wait_for_state(NAME, "up", PATIENCE)?;
        self.wait_for_service(proxy)?;
        let ms = watch.elapsed().as_millis();
        let got = self.ask("stream", proxy, &self.key)?;
        self.show(
            "and back",
            &format!("llama-server is started (served again after {ms} ms, loading included), then a stream"),
            &told_of_stream(&got),
            &got,
            streamed(&got),
        )
    }

    /// Waits until one token comes through: HAProxy's own checks may need a moment longer than herdgate's.
    fn wait_for_service(&self, proxy: &Proxy) -> Result<(), Fault> {
        let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":1}}"#);
        let request = Request::post("/v1/chat/completions", body).key(&self.key).header("Connection", "close");
        let mut last = String::new();
        wait_until("one token", PATIENCE, || match client::send(proxy.address(), &request) {
            Ok(answer) if answer.status == 200 => true,
            Ok(answer) => {
                last = format!("{} {}", answer.status, answer.text());
                false
            }
            Err(fault) => {
                last = fault;
                false
            }
        })
        .map_err(|fault| format!("{fault}; last: {last}"))
    }

    fn ask(&self, step: &str, proxy: &Proxy, key: &str) -> Result<Value, Fault> {
        if self.watch.elapsed() > LIMIT {
            return Err(format!("not done within {LIMIT:?}"));
        }
        let url = format!("http://{}", proxy.address());
        sdk::call("openai_step.py", &[step, &url, key, MODEL, &TOKENS.to_string()])
    }

    /// Prints a scene and counts it.
    fn show(&mut self, title: &str, asked: &str, got: &str, answer: &Value, ok: bool) -> Result<(), Fault> {
        println!();
        self.count(title, ok);
        println!("  asked   {asked}");
        println!("  got     {got}");
        match answer["id"].as_str() {
            Some(id) => println!("  why     {}", self.herdgate.why(id)?),
            None => println!("  why     (the answer has no id)"),
        }
        Ok(())
    }

    fn count(&mut self, title: &str, ok: bool) {
        self.played += 1;
        self.failed += usize::from(!ok);
        println!("{} {title}", if ok { "✓" } else { "✗" });
    }
}

/// Returns whether all tokens came.
fn complete(got: &Value) -> bool {
    got["status"] == 200
        && got["usage"]["completion_tokens"] == TOKENS
        && got["pieces"].as_u64().is_some_and(|pieces| pieces > TOKENS / 2)
}

/// Returns whether all tokens came, and came as they were generated: over most of the time that llama.cpp says it took,
/// and not in bursts, where most gaps would be nothing.
fn streamed(got: &Value) -> bool {
    let ms = |name: &str| got[name].as_f64().unwrap_or(0.0);
    complete(got) && ms("span_ms") > 0.5 * ms("generated_ms") && ms("gap_ms") > 0.5
}

fn told_of_stream(got: &Value) -> String {
    if got["status"] != 200 {
        return format!("{} {} {}", got["status"], got["code"], got["message"]);
    }
    let number = |name: &str| got[name].as_f64().unwrap_or(0.0);
    format!(
        "{} {}\n          {:.0} tokens/s, {:.1} ms apart (median), {} tokens in {:.0} ms; usage {}",
        got["status"],
        got["text"],
        number("per_second"),
        number("gap_ms"),
        got["pieces"],
        number("span_ms"),
        got["usage"],
    )
}
