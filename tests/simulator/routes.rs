//! The simulated Ollama server, from outside: routes, streams, memory, queue, counters.

use crate::sim::{Answer, Sim};
use serde_json::{Value, json};
use std::net::Shutdown;

#[test]
fn requests_reach_the_handler_that_go_would_give_them() {
    let sim = Sim::start("--model m:1b");
    let cases = [
        ("GET", "/", 200, "root", ""),
        ("HEAD", "/", 200, "root", ""),
        ("HEAD", "/api/tags", 200, "tags", ""),
        ("GET", "/api/tags?x=1", 200, "tags", ""),
        ("GET", "http://localhost/api/version", 200, "version", ""),
        ("POST", "/api/%70ull", 400, "pull", ""),
        ("POST", "/api%2fpull", 400, "pull", ""),
        ("POST", "/%61%70%69/delete", 405, "method_not_allowed", ""),
        ("DELETE", "/api/delete", 400, "delete", ""),
        ("POST", "//api/pull", 301, "redirect", "/api/pull"),
        ("POST", "/v1/../api/pull?a=b", 301, "redirect", "/api/pull?a=b"),
        ("POST", "/api/./pull", 301, "redirect", "/api/pull"),
        ("POST", "//api/%70ull", 301, "redirect", "/api/%2570ull"),
        ("POST", "/v1/%2e%2e/api/pull", 404, "not_found", ""),
        ("POST", "/api/%2fpull", 404, "not_found", ""),
        ("POST", "/api/pull/", 307, "redirect", "/api/pull"),
        ("POST", "/api/%70ull/", 307, "redirect", "/api/pull"),
        ("GET", "/api/tags/", 301, "redirect", "/api/tags"),
        ("GET", "/v1/models/", 301, "redirect", "/v1/models"),
        ("GET", "/api/pull/", 404, "not_found", ""),
        ("POST", "/API/pull", 404, "not_found", ""),
        ("POST", "/api/pull;x", 404, "not_found", ""),
        ("POST", "/api/%zz", 400, "bad_path", ""),
        ("GET", "/api/chat", 405, "method_not_allowed", ""),
        ("OPTIONS", "/api/chat", 204, "method_not_allowed", ""),
        ("GET", "/v1/models/M%3A1B", 200, "v1_model", ""),
        ("GET", "/v1/models/a%2Fm", 404, "not_found", ""),
        ("GET", "/v1/models/other", 404, "v1_model", ""),
        ("HEAD", "/api/blobs/sha256:00", 404, "blob_head", ""),
        ("POST", "/api/me", 401, "me", ""),
    ];
    for (method, target, status, handler, location) in cases {
        let answer = sim.ask(method, target, "");
        let stats = sim.stats();
        let seen = stats["recent"].as_array().unwrap().last().unwrap();
        let found = (answer.status, seen["handler"].as_str().unwrap(), answer.header("location"));
        assert_eq!(found, (status, handler, location), "{method} {target}");
        assert_eq!(seen["path"], target);
        assert_eq!(seen["status"], status);
    }
    assert_eq!(sim.stats()["requests"], cases.len());
}

#[test]
fn models_are_found_as_ollama_finds_them() {
    let sim = Sim::start("--model llama3:8b --model mistral --model hf.co/a/b:Q4_K_M --model nomic-embed-text");
    let said = |content: &str| {
        format!(r#"{{{content},"messages":[{{"role":"user","content":"hi"}}],"stream":false,"max_tokens":1}}"#)
    };
    let error = |message: &str| json!({ "error": message });
    let v1 = |message: &str, kind: &str| json!({ "error": { "message": message, "type": kind, "param": null, "code": null } });
    let missing = "model 'nope' not found";
    let cases = [
        ("/api/show", r#"{"model":" LLAMA3:8B "}"#.to_owned(), 200, Value::Null),
        ("/api/show", r#"{"name":"https://registry.ollama.ai/library/mistral"}"#.to_owned(), 200, Value::Null),
        ("/api/show", r#"{"model":"mistral:latest:local"}"#.to_owned(), 200, Value::Null),
        ("/api/show", r#"{"model":"HF.co/A/B:q4_k_m"}"#.to_owned(), 200, Value::Null),
        ("/api/show", r#"{"model":"llama3"}"#.to_owned(), 404, error("model 'llama3' not found")),
        ("/api/show", "{}".to_owned(), 400, error("model is required")),
        ("/api/show", String::new(), 400, error("missing request body")),
        ("/api/chat", said(r#""model":"nope""#), 404, error(missing)),
        ("/api/chat", said(r#""x":1"#), 400, error("model is required")),
        ("/api/chat", said(r#""model":"a b""#), 400, error("invalid model name")),
        ("/api/chat", said(r#""model":"nomic-embed-text""#), 400, error("\"nomic-embed-text\" does not support chat")),
        ("/api/chat", r#"{"model":"#.to_owned(), 400, error("unexpected EOF")),
        ("/api/generate", r#"{"model":"nope"}"#.to_owned(), 404, error(missing)),
        ("/api/generate", r#"{"prompt":"x"}"#.to_owned(), 404, error("model '' not found")),
        ("/api/embed", r#"{"model":"nope","input":"x"}"#.to_owned(), 404, error(missing)),
        (
            "/api/embeddings",
            r#"{"model":"nope"}"#.to_owned(),
            404,
            error("model \"nope\" not found, try pulling it first"),
        ),
        ("/v1/chat/completions", said(r#""model":"nope""#), 404, v1(missing, "not_found_error")),
        (
            "/v1/chat/completions",
            r#"{"model":"mistral"}"#.to_owned(),
            400,
            v1("[] is too short - 'messages'", "invalid_request_error"),
        ),
        ("/v1/chat/completions", String::new(), 400, v1("EOF", "invalid_request_error")),
        (
            "/v1/messages",
            said(r#""model":"nope""#),
            404,
            json!({ "type": "error", "error": { "type": "not_found_error", "message": missing } }),
        ),
        ("/v1/chat/completions", said(r#""model":"Mistral""#), 200, Value::Null),
        ("/v1/responses", r#"{"model":"mistral","input":"x","max_output_tokens":1}"#.to_owned(), 200, Value::Null),
        ("/api/chat", said(r#""model":"gpt-oss:120b-cloud""#), 401, Value::Null),
    ];
    for (target, body, status, expected) in cases {
        let answer = sim.ask("POST", target, &body);
        assert_eq!(answer.status, status, "{target} {body}: {}", answer.text());
        if expected != Value::Null {
            assert_eq!(answer.json(), expected, "{target} {body}");
        }
    }
    let stats = sim.stats();
    assert_eq!(stats["models"]["nope:latest"]["requests"], 6);
    assert_eq!(stats["models"]["mistral:latest"]["requests"], 5);
    assert_eq!(stats["cloud"], 1);
    let digest = "ab".repeat(32);
    let sim = Sim::start(&format!("--model a --model b --digest b={digest}"));
    let tags = sim.ask("GET", "/api/tags", "").json();
    assert_eq!(tags["models"][1]["digest"], digest);
    assert_eq!(tags["models"][0]["digest"].as_str().unwrap().len(), 64);
}

/// A route, what it is asked, and where the answer's pieces of text lie.
type Stream = (&'static str, &'static str, &'static str, &'static str);

const STREAMS: [Stream; 6] = [
    (
        "/api/generate",
        r#""prompt":"eight bytes of prompt make it","options":{"num_predict":8}"#,
        "/response",
        "application/x-ndjson",
    ),
    (
        "/api/chat",
        r#""messages":[{"role":"user","content":"x"}],"options":{"num_predict":8}"#,
        "/message/content",
        "application/x-ndjson",
    ),
    (
        "/v1/chat/completions",
        r#""messages":[{"role":"user","content":"x"}],"max_tokens":8,"stream":true"#,
        "/choices/0/delta/content",
        "text/event-stream",
    ),
    ("/v1/completions", r#""prompt":"x","max_tokens":8,"stream":true"#, "/choices/0/text", "text/event-stream"),
    ("/v1/responses", r#""input":"x","max_output_tokens":8,"stream":true"#, "/delta", "text/event-stream"),
    (
        "/v1/messages",
        r#""messages":[{"role":"user","content":"x"}],"max_tokens":8,"stream":true"#,
        "/delta/text",
        "text/event-stream",
    ),
];

#[test]
fn streams_bring_one_token_at_a_time_at_the_set_rate() {
    let sim = Sim::start("--model m --tokens-per-second 20");
    for (target, body, pointer, content_type) in STREAMS {
        let answer = sim.ask("POST", target, format!(r#"{{"model":"m",{body}}}"#));
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{target}");
        let objects = answer.objects();
        let texts: Vec<&str> = objects
            .iter()
            .filter_map(|object| object.pointer(pointer)?.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(texts.len(), 8, "{target}: {}", answer.text());
        assert_eq!(texts.concat(), "The herd walks slowly over größe hills,", "{target}");
        let mut gaps = answer.gaps.clone();
        gaps.sort_unstable();
        let median = gaps[gaps.len() / 2];
        assert!((40_000_000..=60_000_000).contains(&median), "{target}: median gap {median} ns");
        assert!(answer.total > 350_000_000, "{target}: all within {} ns", answer.total);
    }
    let stats = sim.stats();
    assert_eq!(stats["models"]["m:latest"], json!({ "requests": 6, "tokens_in": 8 + 5, "tokens_out": 48 }));
    assert_eq!((&stats["aborts"], &stats["in_flight"], &stats["loads"]), (&json!(0), &json!(0), &json!(1)));
}

#[test]
fn ends_of_answers_say_what_was_used() {
    let sim = Sim::start("--model m --tokens-per-second 0 --default-predict 5");
    let asked = |target: &str, body: &str| sim.ask("POST", target, format!(r#"{{"model":"m",{body}}}"#));
    let chat = r#""messages":[{"role":"user","content":"123456789"}]"#;
    let last = |answer: &Answer| answer.objects().last().cloned().unwrap();

    let end = last(&asked("/api/chat", chat));
    let counts = [&end["prompt_eval_count"], &end["eval_count"], &end["done_reason"], &end["done"]];
    assert_eq!(counts, [&json!(3), &json!(5), &json!("stop"), &json!(true)]);
    assert!(end["total_duration"].as_u64() > Some(0) && end["load_duration"].as_u64() > Some(0), "{end}");
    let end = asked("/api/generate", r#""prompt":"x","stream":false,"options":{"num_predict":2}"#).json();
    assert_eq!(
        [&end["eval_count"], &end["done_reason"], &end["response"]],
        [&json!(2), &json!("length"), &json!("The herd")]
    );
    assert_eq!(end["context"].as_array().unwrap().len(), 3);

    // Ollama does not read max_completion_tokens.
    for (bound, tokens) in [(r#""max_tokens":2"#, 2), (r#""max_completion_tokens":2"#, 5), (r#""max_tokens":null"#, 5)]
    {
        let usage = asked("/v1/chat/completions", &format!("{chat},{bound}")).json()["usage"].clone();
        assert_eq!(
            usage,
            json!({ "prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens }),
            "{bound}"
        );
    }
    for (options, usages) in [("", 0), (r#","stream_options":{"include_usage":true}"#, 1)] {
        let answer = asked("/v1/chat/completions", &format!(r#"{chat},"stream":true{options}"#));
        assert!(answer.text().ends_with("data: [DONE]\n\n"));
        let with_usage: Vec<Value> =
            answer.objects().into_iter().filter(|chunk| chunk.get("usage").is_some()).collect();
        assert_eq!(with_usage.len(), usages, "{options}");
        assert!(with_usage.iter().all(|chunk| chunk["choices"] == json!([]) && chunk["usage"]["total_tokens"] == 8));
    }
    let usage = r#""prompt":"x","stream":true,"stream_options":{"include_usage":true}"#;
    let chunks = asked("/v1/completions", usage).objects();
    assert_eq!(chunks[0]["usage"]["total_tokens"], 0);
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 6);

    let end = last(&asked("/v1/responses", r#""input":"x","stream":true"#));
    assert_eq!([&end["type"], &end["response"]["usage"]["output_tokens"]], [&json!("response.completed"), &json!(5)]);
    let events = asked("/v1/messages", &format!(r#"{chat},"max_tokens":2,"stream":true"#)).objects();
    assert_eq!(events[events.len() - 2]["usage"], json!({ "input_tokens": 3, "output_tokens": 2 }));

    let embed = asked("/api/embed", r#""input":["a","bcdef"]"#).json();
    assert_eq!((&embed["prompt_eval_count"], embed["embeddings"].as_array().unwrap().len()), (&json!(3), 2));
    let legacy = asked("/api/embeddings", r#""prompt":"a""#).json();
    let first = |vector: &Value| vector[0].as_f64().unwrap();
    assert!((first(&legacy["embedding"]) - first(&embed["embeddings"][0])).abs() < 1e-6, "{legacy}");
    let v1 = asked("/v1/embeddings", r#""input":"a","encoding_format":"base64""#).json();
    assert_eq!(v1["data"][0]["embedding"].as_str().unwrap().len(), 172);
    assert_eq!(v1["usage"], json!({ "prompt_tokens": 1, "total_tokens": 1 }));
    let load = asked("/api/chat", "\"messages\":[]");
    assert_eq!(load.objects()[0].as_object().unwrap().keys().count(), 5, "no metrics: {}", load.text());
}

#[test]
fn models_are_loaded_kept_evicted_and_reloaded() {
    let sim = Sim::start("--model a --model b --model c --max-loaded 2 --tokens-per-second 0 --load-ms 100");
    let load = |body: &str| sim.ask("POST", "/api/generate", body).json();
    let loaded = || {
        let ps = sim.ask("GET", "/api/ps", "").json();
        let mut names: Vec<String> =
            ps["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(loaded(), "");
    // What is asked, why the answer ended, what is in memory then.
    let steps = [
        (r#"{"model":"a"}"#, "load", "a:latest"),
        (r#"{"model":"b"}"#, "load", "a:latest b:latest"),
        (r#"{"model":"a","prompt":"x","stream":false}"#, "stop", "a:latest b:latest"),
        (r#"{"model":"c"}"#, "load", "a:latest c:latest"),
        (r#"{"model":"a","options":{"num_ctx":8192}}"#, "load", "a:latest c:latest"),
        (r#"{"model":"a","keep_alive":0}"#, "unload", "c:latest"),
        (r#"{"model":"a","prompt":"x","stream":false,"keep_alive":0}"#, "stop", "c:latest"),
        (r#"{"model":"c","keep_alive":"5h"}"#, "load", "c:latest"),
        (r#"{"model":"a","keep_alive":-1}"#, "load", "a:latest c:latest"),
        // The shorter keep-alive goes first, though `a` was used later.
        (r#"{"model":"b"}"#, "load", "a:latest b:latest"),
    ];
    for (body, reason, memory) in steps {
        let end = load(body);
        assert_eq!(end["done_reason"], reason, "{body}: {end}");
        assert_eq!(loaded(), memory, "after {body}");
    }
    let stats = sim.stats();
    let counts = ["loads", "reloads", "evictions", "unloads", "expiries"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(counts, [6, 1, 2, 1, 1], "{stats}");
    let ps = sim.ask("GET", "/api/ps", "").json();
    assert_eq!(ps["models"][0]["name"], "a:latest", "the one that stays longest is first");
    assert!(ps["models"][0]["expires_at"].as_str().unwrap() > "2300", "{ps}");
    assert_eq!(ps["models"][0]["context_length"], 4096);
    assert_eq!(ps["models"][0]["digest"].as_str().unwrap().len(), 64);

    let cold = sim.ask("POST", "/api/generate", r#"{"model":"c","prompt":"x","stream":false}"#).json();
    assert!(cold["load_duration"].as_u64().unwrap() >= 100_000_000, "{cold}");
    sim.ask("POST", "/api/generate", r#"{"model":"c","keep_alive":"1ms"}"#);
    sim.wait("expiry of c", |_| loaded() == "a:latest");
    assert_eq!(sim.ask("POST", "/api/generate", r#"{"model":"a","options":{"num_ctx":"x"}}"#).status, 500);
}

#[test]
fn a_request_too_many_is_refused_and_the_others_wait() {
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_predict":4}}"#;
    // One loads, one is being scheduled, one may queue.
    let sim = Sim::start("--model m --load-ms 600 --max-queue 1 --tokens-per-second 0");
    let first = sim.ask_aside("/api/chat", chat);
    sim.wait("the load", |stats| stats["loads"] == 1);
    let others = [sim.ask_aside("/api/chat", chat), sim.ask_aside("/api/chat", chat)];
    sim.wait("the queue", |stats| stats["queued"] == 3);
    let refused = sim.ask("POST", "/v1/chat/completions", chat);
    let message = "server busy, please try again.  maximum pending requests exceeded";
    assert_eq!((refused.status, &refused.json()["error"]["message"]), (503, &json!(message)));
    assert_eq!(first.join().unwrap().status, 200);
    assert!(others.into_iter().all(|other| other.join().unwrap().status == 200));
    let stats = sim.stats();
    assert_eq!(
        [&stats["busy"], &stats["queued_peak"], &stats["generating_peak"]],
        [&json!(1), &json!(3), &json!(1)],
        "{stats}"
    );

    // Slots: without a bound of their own requests wait; with one they are refused.
    for (arguments, status) in [("", 200), ("--slot-queue 0", 503)] {
        let sim = Sim::start(&format!("--model m --tokens-per-second 20 --num-parallel 2 {arguments}"));
        let two = [sim.ask_aside("/api/chat", chat), sim.ask_aside("/api/chat", chat)];
        sim.wait("two slots taken", |stats| stats["generating"] == 2);
        assert_eq!(sim.ask("POST", "/api/chat", chat).status, status, "{arguments}");
        assert!(two.into_iter().all(|one| one.join().unwrap().status == 200));
        assert_eq!(sim.stats()["generating_peak"], 2);
    }
}

#[test]
fn a_client_that_leaves_ends_its_generation() {
    let sim = Sim::start("--model m --model n --tokens-per-second 20 --load-ms 300");
    for (aborts, stream) in [(1, true), (2, false)] {
        let body = json!({ "model": "m", "prompt": "x", "stream": stream, "options": { "num_predict": 1000 } });
        let client = sim.send(&sim.address, "POST", "/api/generate", body.to_string().as_bytes());
        sim.wait("the generation", |stats| stats["generating"] == 1);
        client.shutdown(Shutdown::Both).unwrap();
        drop(client);
        let stats = sim.wait("the abort", |stats| stats["aborts"] == aborts && stats["in_flight"] == 0);
        assert_eq!(stats["generating"], 0);
        assert!(stats["models"]["m:latest"]["tokens_out"].as_u64().unwrap() < 100, "{stats}");
    }
    // Long before the next token, which a mere failing write would wait for.
    let slow = Sim::start("--model m --tokens-per-second 0.01");
    let client = slow.send(&slow.address, "POST", "/api/generate", br#"{"model":"m","prompt":"x"}"#);
    slow.wait("the generation", |stats| stats["generating"] == 1);
    drop(client);
    slow.wait("the abort", |stats| stats["aborts"] == 1 && stats["generating"] == 0);
    // During a load: nothing stays in memory.
    let client = sim.send(&sim.address, "POST", "/api/generate", br#"{"model":"n"}"#);
    sim.wait("the load", |stats| stats["loads"] == 2);
    drop(client);
    sim.wait("the abort", |stats| stats["aborts"] == 3);
    assert_eq!(sim.ask("GET", "/api/ps", "").json()["models"].as_array().unwrap().len(), 1);
    assert_eq!(sim.ask("POST", "/sim/reset", "").status, 200);
    assert_eq!(sim.stats()["aborts"], 0);
}

#[test]
fn foreign_hosts_and_origins_are_refused_on_loopback() {
    let cases = [
        ("127.0.0.1:11434", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:11434", 200),
        ("192.168.1.7", 200),
        ("gpu.local", 200),
        ("ollama.internal:11434", 200),
        ("8.8.8.8", 403),
        ("ollama.example.com", 403),
        ("localhost.example.com", 403),
    ];
    let (strict, open) = (Sim::start("--model m"), Sim::start("--model m --check-host false"));
    for (host, status) in cases {
        assert_eq!(strict.ask_as(host, "GET", "/api/tags", "").status, status, "{host}");
        assert_eq!(open.ask_as(host, "GET", "/api/tags", "").status, 200, "{host}");
    }
    assert_eq!(strict.stats()["handlers"]["forbidden"], 3);
    for (origin, status) in [("http://localhost:3000", 200), ("https://example.com", 403), ("app://obsidian", 200)] {
        let host = format!("localhost\r\nOrigin: {origin}");
        assert_eq!(strict.ask_as(&host, "GET", "/api/tags", "").status, status, "{origin}");
    }
}

#[test]
fn administration_works_and_leaves_a_trace() {
    let sim = Sim::start("--model m");
    let names = || {
        let tags = sim.ask("GET", "/api/tags", "").json();
        let mut names: Vec<String> =
            tags["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    let blob = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let steps = [
        ("POST", "/api/pull", r#"{"model":"n:1b"}"#, 200, "m:latest n:1b"),
        ("POST", "/api/copy", r#"{"source":"m","destination":"me/o"}"#, 200, "m:latest me/o:latest n:1b"),
        ("POST", "/api/copy", r#"{"source":"zzz","destination":"o"}"#, 404, "m:latest me/o:latest n:1b"),
        ("DELETE", "/api/delete", r#"{"name":"N:1B"}"#, 200, "m:latest me/o:latest"),
        ("DELETE", "/api/delete", r#"{"name":"n:1b"}"#, 404, "m:latest me/o:latest"),
        ("POST", "/api/create", r#"{"model":"p","from":"m","stream":false}"#, 200, "m:latest me/o:latest p:latest"),
        ("POST", "/api/push", r#"{"model":"me/o"}"#, 200, "m:latest me/o:latest p:latest"),
    ];
    for (method, target, body, status, models) in steps {
        let answer = sim.ask(method, target, body);
        assert_eq!((answer.status, names().as_str()), (status, models), "{target} {body}: {}", answer.text());
    }
    assert_eq!(sim.ask("POST", &format!("/api/blobs/{blob}"), "hello").status, 201);
    assert_eq!(sim.ask("HEAD", &format!("/api/blobs/{blob}"), "").status, 200);
    assert_eq!(sim.ask("POST", "/api/blobs/sha256:00", "hello").status, 400);
    let handlers = sim.stats()["handlers"].clone();
    let counts =
        ["pull", "copy", "delete", "create", "push", "blob_create"].map(|name| handlers[name].as_u64().unwrap());
    assert_eq!(counts, [1, 2, 2, 1, 1, 2]);
}

#[test]
fn as_openai_it_answers_like_vllm() {
    let sim = Sim::start("--kind openai --model Qwen/Qwen3-8B --tokens-per-second 0");
    let chat = |rest: &str| format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{rest}}}"#);
    let cases = [
        ("GET", "/health", String::new(), 200),
        ("GET", "/v1/models", String::new(), 200),
        ("GET", "/api/tags", String::new(), 404),
        ("GET", "/", String::new(), 404),
        ("GET", "/v1/chat/completions", String::new(), 405),
        ("POST", "/v1/chat/completions/", String::new(), 307),
        ("POST", "/v1/chat/completions", chat(r#""model":"Qwen/Qwen3-8B""#), 200),
        ("POST", "/v1/chat/completions", chat(r#""model":"qwen/qwen3-8b""#), 404),
        ("POST", "/v1/chat/completions", chat(r#""MODEL":"other""#), 200),
        ("POST", "/v1/chat/completions", chat(r#""model":"Qwen/Qwen3-8B","model":"x""#), 404),
        ("POST", "/v1/chat/completions", chat(r#""model":"Qwen/Qwen3-8B""#) + "x", 400),
    ];
    for (method, target, body, status) in cases {
        let answer = sim.ask_as("vllm.example.com", method, target, &body);
        assert_eq!(answer.status, status, "{method} {target} {body}: {}", answer.text());
    }
    assert_eq!(sim.ask("GET", "/v1/models", "").json()["data"][0]["id"], "Qwen/Qwen3-8B");
    let bounded = chat(r#""model":"Qwen/Qwen3-8B","max_completion_tokens":2,"stream":true"#);
    let chunks = sim.ask("POST", "/v1/chat/completions", bounded).objects();
    assert_eq!(chunks.len(), 4, "role, two tokens, end: {chunks:?}");
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "length");
}

#[test]
fn headers_are_remembered_and_a_signal_ends_it() {
    let mut sim = Sim::start("--model m --name one");
    sim.ask_as("localhost\r\nAuthorization: Bearer secret\r\nX-A: 1\r\nX-A: 2", "GET", "/api/ps", "");
    let stats = sim.stats();
    assert_eq!(stats["name"], "one");
    let headers = stats["recent"][0]["headers"].clone();
    let expected = json!([
        ["host", "localhost"],
        ["authorization", "Bearer secret"],
        ["x-a", "1"],
        ["x-a", "2"],
        ["connection", "close"],
        ["content-length", "0"]
    ]);
    assert_eq!(headers, expected);
    for _ in 0..250 {
        sim.ask("GET", "/nowhere", "");
    }
    assert_eq!(sim.stats()["recent"].as_array().unwrap().len(), 200, "bounded");
    let pid = i32::try_from(sim.child.id()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert!(sim.child.wait().unwrap().success());
}
