//! The simulated Ollama server's faults on purpose, from outside: whom each strikes, and that its counter says so.

use crate::sim::{Answer, Sim};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Routes that say nothing of generation.
const READ_ONLY: [&str; 4] = ["/", "/api/tags", "/api/ps", "/api/version"];

fn set(sim: &Sim, faults: &Value) -> Answer {
    sim.ask("POST", "/sim/faults", faults.to_string())
}

/// Returns a request for four tokens of a model, on any native route.
fn body(model: &str) -> String {
    let options = json!({ "num_predict": 4 });
    let messages = json!([{ "role": "user", "content": "x" }]);
    json!({ "model": model, "prompt": "x", "input": "x", "messages": messages, "options": options }).to_string()
}

/// Writes `bytes` on a connection, and whether the server closed it without a word.
fn is_closed(mut stream: TcpStream, bytes: &[u8]) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = Vec::new();
    match stream.write_all(bytes).and_then(|()| stream.read_to_end(&mut answer)) {
        Ok(_) => answer.is_empty(),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection stays open");
            true
        }
    }
}

fn connect(sim: &Sim) -> TcpStream {
    TcpStream::connect(&sim.address).unwrap()
}

fn request(method: &str, target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn an_error_at_once_strikes_where_it_is_meant_to() {
    let (native, v1) = (json!("failure on purpose"), json!({ "message": "failure on purpose", "type": "api_error" }));
    let full = json!("server busy, please try again.  maximum pending requests exceeded");
    let ok = Value::Null;
    // The fault, a request, its status and error, strikes counted.
    let cases = [
        (json!({ "fault": "500" }), "POST", "/api/chat", "m", 500, &native, 1),
        (json!({ "fault": "500" }), "POST", "/api/embed", "m", 500, &native, 1),
        (json!({ "fault": "500" }), "POST", "/v1/chat/completions", "m", 500, &v1, 1),
        (json!({ "fault": "500" }), "GET", "/api/tags", "", 200, &ok, 0),
        (json!({ "fault": "500", "on": "all" }), "GET", "/api/tags", "", 500, &native, 1),
        (json!({ "fault": "500", "on": "all" }), "GET", "/", "", 500, &native, 1),
        (json!({ "fault": "500", "model": "n" }), "POST", "/api/chat", "m", 200, &ok, 0),
        (json!({ "fault": "500", "model": "N:latest" }), "POST", "/api/chat", "n", 500, &native, 1),
        (json!({ "fault": "503" }), "POST", "/api/generate", "m", 503, &full, 1),
        (json!({ "fault": "503" }), "GET", "/api/ps", "", 200, &ok, 0),
        (json!({ "fault": "503", "model": "m", "on": "all" }), "POST", "/api/show", "m", 503, &full, 1),
        (json!({ "fault": "503", "model": "n", "on": "all" }), "POST", "/api/show", "m", 200, &ok, 0),
    ];
    let sim = Sim::start("--model m --model n --tokens-per-second 0");
    for (fault, method, target, model, status, error, strikes) in cases {
        sim.ask("POST", "/sim/reset", "");
        assert_eq!(set(&sim, &fault).status, 200, "{fault}");
        let body = if model.is_empty() { String::new() } else { body(model) };
        let answer = sim.ask(method, target, &body);
        assert_eq!(answer.status, status, "{fault} {target}: {}", answer.text());
        match error {
            Value::Null => {}
            Value::String(_) => assert_eq!(&answer.json()["error"], error, "{fault} {target}"),
            error => assert_eq!(answer.json()["error"]["type"], error["type"], "{fault} {target}"),
        }
        let stats = sim.stats();
        let name = fault["fault"].as_str().unwrap();
        assert_eq!(stats["faults"][name].as_u64().unwrap_or(0), strikes, "{fault} {target}");
        assert_eq!((&stats["requests"], &stats["busy"]), (&json!(1), &json!(0)), "a fault is no real shortage");
        sim.ask("DELETE", "/sim/faults", "");
        assert_eq!(sim.ask(method, target, &body).status, 200, "{fault} {target} after it is gone");
    }
}

#[test]
fn what_hangs_stands_still_until_the_fault_is_gone() {
    let hang = json!({ "fault": "hang" });
    // The fault, a request, and what stands while it is struck: requests holding a slot, loads, tokens in and out.
    let cases = [
        (hang.clone(), "/api/chat", [1, 1, 0, 0]),
        (hang.clone(), "/api/generate", [1, 1, 0, 0]),
        (hang.clone(), "/v1/chat/completions", [1, 1, 0, 0]),
        (hang, "/api/embed", [1, 1, 0, 0]),
        (json!({ "fault": "dead" }), "/api/chat", [0, 0, 0, 0]),
        (json!({ "fault": "dead" }), "/api/generate", [0, 0, 0, 0]),
        (json!({ "fault": "dead", "model": "m" }), "/api/embed", [0, 0, 0, 0]),
        (json!({ "fault": "dead" }), "/api/embeddings", [0, 0, 0, 0]),
        (json!({ "fault": "dead" }), "/v1/completions", [0, 0, 0, 0]),
        (json!({ "fault": "stall" }), "/api/chat", [1, 1, 1, 1]),
        (json!({ "fault": "stall", "after": 3 }), "/api/generate", [1, 1, 1, 3]),
        (json!({ "fault": "stall", "after": 2, "model": "m:latest" }), "/v1/completions", [1, 1, 1, 2]),
    ];
    for (fault, target, stands) in cases {
        let sim = Sim::start("--model m --model n --tokens-per-second 500");
        assert_eq!(set(&sim, &fault).status, 200, "{fault}");
        let name = fault["fault"].as_str().unwrap();
        let struck = sim.ask_aside(target, &body("m"));
        let stats = sim.wait("the strike", |stats| stats["faults"][name] == 1);
        let model = &stats["models"]["m:latest"];
        let found = [&stats["generating"], &stats["loads"], &model["tokens_in"], &model["tokens_out"]];
        assert_eq!(found.map(|number| number.as_u64().unwrap()), stands, "{fault} {target}: {stats}");
        assert_eq!((&stats["in_flight"], &stats["handlers"]["ps"]), (&json!(1), &Value::Null), "{fault} {target}");
        for target in READ_ONLY {
            assert_eq!(sim.ask("GET", target, "").status, 200, "{fault} {target}");
        }
        if fault["model"].is_string() {
            assert_eq!(sim.ask("POST", "/api/chat", body("n")).status, 200, "{fault}: another model");
        }
        assert_eq!(sim.stats()["faults"], json!({ name: 1 }), "{fault} {target}");
        // Nothing set is as good as DELETE.
        assert_eq!(sim.ask("POST", "/sim/faults", "").json(), json!([]));
        assert_eq!(struck.join().unwrap().status, 200, "{fault} {target}");
        let stats = sim.wait("the end", |stats| stats["in_flight"] == 0);
        assert_eq!((&stats["generating"], &stats["aborts"]), (&json!(0), &json!(0)), "{fault} {target}");
    }
}

#[test]
fn a_client_that_leaves_what_hangs_gives_everything_back() {
    for name in ["hang", "dead", "stall"] {
        let sim = Sim::start("--model m --tokens-per-second 500");
        set(&sim, &json!([{ "fault": name }]));
        let client = sim.send(&sim.address, "POST", "/api/chat", body("m").as_bytes());
        sim.wait("the strike", |stats| stats["faults"][name] == 1);
        drop(client);
        let stats = sim.wait("the abort", |stats| stats["aborts"] == 1 && stats["in_flight"] == 0);
        assert_eq!(stats["generating"], 0, "{name}");
    }
}

#[test]
fn a_stall_past_the_end_of_an_answer_never_strikes() {
    let sim = Sim::start("--model m --tokens-per-second 0");
    set(&sim, &json!({ "fault": "stall", "after": 4 }));
    assert_eq!(sim.ask("POST", "/api/chat", body("m")).status, 200);
    assert_eq!(sim.stats()["faults"], json!({}));
}

#[test]
fn a_hang_on_all_routes_reaches_those_that_only_read() {
    let sim = Sim::start("--model m");
    set(&sim, &json!({ "fault": "hang", "on": "all" }));
    let mut probe = connect(&sim);
    probe.write_all(&request("GET", "/api/tags", "")).unwrap();
    sim.wait("the strike", |stats| stats["faults"]["hang"] == 1 && stats["recent"][0]["status"] == 0);
    sim.ask("DELETE", "/sim/faults", "");
    sim.wait("the answer", |stats| stats["recent"][0]["status"] == 200);
}

#[test]
fn a_dead_vllm_still_says_that_it_is_healthy() {
    let sim = Sim::start("--kind openai --model Qwen/Qwen3-8B --tokens-per-second 0");
    set(&sim, &json!({ "fault": "dead", "model": "Qwen/Qwen3-8B" }));
    let struck = sim.ask_aside("/v1/chat/completions", &body("Qwen/Qwen3-8B"));
    sim.wait("the strike", |stats| stats["faults"]["dead"] == 1);
    assert_eq!(sim.ask("GET", "/health", "").status, 200);
    sim.ask("DELETE", "/sim/faults", "");
    assert_eq!(struck.join().unwrap().status, 200);
    let models = sim.stats()["models"].clone();
    assert_eq!(models, json!({ "Qwen/Qwen3-8B": { "requests": 1, "tokens_in": 1, "tokens_out": 32 } }));
}

#[test]
fn slow_makes_each_token_of_its_model_take_longer() {
    let sim = Sim::start("--model m --model n --tokens-per-second 100");
    set(&sim, &json!({ "fault": "slow", "factor": 8, "model": "m" }));
    // Four tokens of 10 ms; how long they take at least.
    for (model, least_ms, strikes) in [("n", 40, 0), ("m", 320, 1), ("n", 40, 1), ("m", 320, 2)] {
        let answer = sim.ask("POST", "/api/chat", body(model));
        let took = answer.objects().last().unwrap()["eval_duration"].as_u64().unwrap();
        // The timer's wheel has slots of a millisecond.
        assert!(took >= (least_ms - 5) * 1_000_000, "{model}: {took} ns");
        assert_eq!(sim.stats()["faults"]["slow"].as_u64().unwrap_or(0), strikes, "{model}");
    }
    assert_eq!(sim.ask("POST", "/api/embed", body("m")).status, 200);
    assert_eq!(sim.stats()["faults"], json!({ "slow": 2 }), "no tokens, no strike");
}

#[test]
fn a_wrong_digest_is_shown_for_its_model_only() {
    let (true_m, true_n, other) = ("01".repeat(32), "ab".repeat(32), "77".repeat(32));
    let sim = Sim::start(&format!("--model m --model n --digest m={true_m} --digest n={true_n} --tokens-per-second 0"));
    for model in ["m", "n"] {
        sim.ask("POST", "/api/chat", body(model));
    }
    let shown = |target: &str, name: &str| {
        let answer = sim.ask("GET", target, "").json();
        let models = answer["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap()["digest"].as_str().unwrap().to_owned()
    };
    // What is set, what tags and ps then show for m and n, strikes of the four answers.
    let cases = [
        (json!([]), &true_m, &true_n, 0),
        (json!({ "fault": "digest", "model": "m" }), &"fe".repeat(32), &true_n, 4),
        (json!({ "fault": "digest", "model": "n", "digest": other }), &true_m, &other, 4),
        (json!({ "fault": "digest", "digest": other }), &other, &other, 8),
    ];
    for (faults, m, n, strikes) in cases {
        sim.ask("POST", "/sim/reset", "");
        set(&sim, &faults);
        for target in ["/api/tags", "/api/ps"] {
            assert_eq!((&shown(target, "m:latest"), &shown(target, "n:latest")), (m, n), "{faults} {target}");
        }
        assert_eq!(sim.stats()["faults"]["digest"].as_u64().unwrap_or(0), strikes, "{faults}");
    }
}

#[test]
fn refused_connections_are_closed_without_a_word() {
    let sim = Sim::start("--model m --model n --tokens-per-second 0");
    // A connection that is open already, and has been used.
    let mut kept = connect(&sim);
    kept.write_all(&request("GET", "/", "")).unwrap();
    assert!(kept.read(&mut [0; 1024]).unwrap() > 0);
    let chat = |model: &str| request("POST", "/api/chat", &body(model));

    set(&sim, &json!({ "fault": "refuse" }));
    assert!(is_closed(connect(&sim), &request("GET", "/", "")));
    assert!(is_closed(connect(&sim), &chat("m")));
    assert!(is_closed(connect(&sim), b""), "one that says nothing");
    assert!(is_closed(kept, &request("GET", "/", "")));
    let stats = sim.stats();
    assert_eq!((&stats["faults"], &stats["requests"]), (&json!({ "refuse": 4 }), &json!(1)), "{stats}");

    set(&sim, &json!({ "fault": "refuse", "times": 2 }));
    for (number, closed) in [(1, true), (2, true), (3, false)] {
        if closed {
            assert!(is_closed(connect(&sim), &request("GET", "/", "")), "{number}");
        } else {
            assert_eq!(sim.ask("GET", "/", "").status, 200, "{number}");
        }
    }
    // Which model is meant shows only once the request is read.
    set(&sim, &json!({ "fault": "refuse", "model": "m" }));
    assert_eq!(sim.ask("GET", "/api/tags", "").status, 200);
    assert_eq!(sim.ask("POST", "/api/chat", body("n")).status, 200);
    assert!(is_closed(connect(&sim), &chat("m")));
    assert_eq!(sim.stats()["faults"], json!({ "refuse": 7 }));
}

#[test]
fn a_fault_with_times_is_spent_and_the_next_takes_its_place() {
    let sim = Sim::start("--model m --model n --tokens-per-second 0");
    set(&sim, &json!([{ "fault": "500", "model": "m", "times": 2 }, { "fault": "503", "times": 1 }]));
    for (model, status) in [("m", 500), ("n", 503), ("n", 200), ("m", 500), ("m", 200)] {
        assert_eq!(sim.ask("POST", "/api/chat", body(model)).status, status, "{model}");
    }
    let shown = json!([
        { "fault": "500", "model": "m", "times": 2, "struck": 2 },
        { "fault": "503", "times": 1, "struck": 1 }
    ]);
    assert_eq!(sim.ask("GET", "/sim/faults", "").json(), shown);
    assert_eq!(sim.stats()["faults"], json!({ "500": 2, "503": 1 }));
    assert_eq!(sim.ask("DELETE", "/sim/faults", "").json(), json!([]));
    assert_eq!(sim.stats()["faults"], json!({ "500": 2, "503": 1 }), "what struck has struck");
}

#[test]
fn what_cannot_be_set_leaves_everything_as_it_was() {
    let sim = Sim::start("--model m");
    set(&sim, &json!({ "fault": "slow", "factor": 2.5 }));
    let many = Value::Array(vec![json!({ "fault": "hang" }); 33]).to_string();
    let cases = [
        ("{", "EOF while parsing"),
        (r#"{"fault":"fire"}"#, "unknown variant `fire`"),
        (r#"{"model":"m"}"#, "missing field `fault`"),
        (r#"{"fault":"hang","for":"m"}"#, "unknown field `for`"),
        (r#"[{"fault":"hang"},{"fault":"hang","times":-1}]"#, "invalid value: integer `-1`"),
        (r#"{"fault":"hang","times":0}"#, "hang: times must be at least 1"),
        (r#"{"fault":"stall","after":0}"#, "stall: after must be at least 1"),
        (r#"{"fault":"hang","after":1}"#, "hang: after means nothing here"),
        (r#"{"fault":"dead","on":"all"}"#, "dead: on means nothing here"),
        (r#"{"fault":"stall","factor":2}"#, "stall: factor means nothing here"),
        (r#"{"fault":"500","digest":"00"}"#, "500: digest means nothing here"),
        (r#"{"fault":"slow","factor":0}"#, "slow: factor must be above 0"),
        (r#"{"fault":"digest","digest":"00"}"#, "digest: digest must have 64 hexadecimal digits"),
        (&many, "at most 32 faults"),
    ];
    for (body, error) in cases {
        let answer = sim.ask("POST", "/sim/faults", body);
        assert_eq!(answer.status, 400, "{body}");
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(said.starts_with(error), "{body}: {said}");
    }
    let left = json!([{ "fault": "slow", "factor": 2.5, "struck": 0 }]);
    assert_eq!(sim.ask("GET", "/sim/faults", "").json(), left);
}
