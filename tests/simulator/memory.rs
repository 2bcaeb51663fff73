//! What requests do to models in the simulator's memory: loads, reloads, and expiries moved, each with its cause.

use crate::sim::Sim;
use serde_json::{Value, json};

const EFFECTS: [&str; 4] = ["loads", "reloads", "pins", "keep_alive_changes"];

fn effects(counters: &Value) -> [u64; 4] {
    EFFECTS.map(|name| counters[name].as_u64().unwrap_or(0))
}

/// Returns a request for one token, with further members.
fn body(more: &Value) -> String {
    let mut body = json!({ "model": "m", "prompt": "x", "messages": [{ "role": "user", "content": "x" }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn option(name: &str, value: i64) -> Value {
    json!({ "options": { name: value } })
}

#[test]
fn each_request_has_the_effect_on_memory_that_it_has_in_ollama() {
    let sim = Sim::start("--model m --keep-alive 1h --tokens-per-second 0");
    // A request, why it has its effects, and these: load, reload, pin, another keep-alive.
    let cases = [
        ("chat", json!({}), "nothing is loaded", [1, 0, 0, 0]),
        ("chat", json!({}), "an hour from now is later than an hour from then", [0, 0, 1, 0]),
        ("generate", option("num_ctx", 4096), "the context it has", [0, 0, 1, 0]),
        ("generate", json!({ "keep_alive": 1800 }), "less than what remains", [0, 0, 0, 1]),
        ("chat", json!({}), "the half hour stays for those that say nothing", [0, 0, 1, 0]),
        ("generate", json!({ "keep_alive": "1799s" }), "less again", [0, 0, 0, 1]),
        ("generate", json!({ "keep_alive": "1h" }), "more than what remains", [0, 0, 1, 1]),
        ("chat", option("num_ctx", 8192), "another context", [0, 1, 0, 0]),
        ("chat", json!({}), "back to the default", [0, 1, 0, 0]),
        ("chat", option("num_gpu", 20), "other layers", [0, 1, 0, 0]),
        ("chat", json!({}), "num_gpu left to the server", [0, 0, 1, 0]),
        ("chat", option("num_batch", 64), "another batch", [0, 1, 0, 0]),
        ("chat", option("num_ctx", 200_000), "another context, cut to the model's own", [0, 1, 0, 0]),
        ("generate", option("num_ctx", 131_072), "what /api/ps shows of it", [0, 0, 1, 0]),
        ("generate", json!({ "options": { "num_ctx": 131_072 }, "keep_alive": -1 }), "for ever", [0, 0, 1, 1]),
        ("generate", json!({ "options": { "num_ctx": 131_072 }, "keep_alive": -1 }), "still", [0, 0, 0, 0]),
        ("generate", json!({ "options": { "num_ctx": 131_072 }, "keep_alive": 60 }), "no longer", [0, 0, 0, 1]),
    ];
    let mut expected = [0; 4];
    for (handler, more, why, effect) in cases {
        assert_eq!(sim.ask("POST", &format!("/api/{handler}"), body(&more)).status, 200, "{more}");
        expected = std::array::from_fn(|at| expected[at] + effect[at]);
        assert_eq!(effects(&sim.stats()), expected, "{handler} {more}: {why}");
    }
    let causes = sim.stats()["causes"].clone();
    let (chat, generate) = (effects(&causes["chat"]), effects(&causes["generate"]));
    assert_eq!((chat, generate), ([1, 5, 3, 0], [0, 0, 4, 5]), "{causes}");
    assert!(sim.stats()["pinned_ms"].as_u64().unwrap() > 292 * 365 * 86_400_000, "for ever is long");
}

#[test]
fn a_check_that_asks_for_less_than_what_remains_leaves_memory_alone() {
    let sim = Sim::start("--model m --keep-alive 1h --tokens-per-second 0");
    sim.ask("POST", "/api/chat", body(&json!({})));
    sim.ask("POST", "/sim/reset", "");
    for number in 1..=20 {
        let context = sim.ask("GET", "/api/ps", "").json()["models"][0]["context_length"].clone();
        let check = json!({ "options": { "num_ctx": context, "num_predict": 1 }, "keep_alive": 3600 - 10 * number });
        assert_eq!(sim.ask("POST", "/api/generate", body(&check)).status, 200);
    }
    let stats = sim.stats();
    assert_eq!(effects(&stats), [0, 0, 0, 20], "{stats}");
    assert_eq!((&stats["evictions"], &stats["unloads"], &stats["pinned_ms"]), (&json!(0), &json!(0), &json!(0)));
}

#[test]
fn the_expiry_of_a_model_in_use_stands_still_even_when_it_is_past() {
    let sim = Sim::start("--model m --tokens-per-second 20");
    let expiry = || sim.ask("GET", "/api/ps", "").json()["models"][0]["expires_at"].as_str().unwrap().to_owned();
    let one = json!({ "keep_alive": "2s", "options": { "num_predict": 1 } });
    sim.ask("POST", "/api/chat", body(&one));
    let before = expiry();
    let long = sim.ask_aside("/api/chat", &body(&json!({ "keep_alive": "1h", "options": { "num_predict": 60 } })));
    sim.wait("the generation", |stats| stats["generating"] == 1);
    assert_eq!(expiry(), before);
    // Sixty tokens take three seconds.
    let stats = sim.wait("tokens past the expiry", |stats| {
        stats["models"]["m:latest"]["tokens_out"].as_u64().is_some_and(|tokens| tokens >= 50)
    });
    assert_eq!((stats["generating"].as_u64(), expiry()), (Some(1), before.clone()), "still loaded: {stats}");
    assert_eq!(long.join().unwrap().status, 200);
    let stats = sim.wait("the end", |stats| stats["in_flight"] == 0);
    assert_eq!(effects(&stats), [1, 0, 1, 1], "{stats}");
    assert!(expiry() > before);
}
