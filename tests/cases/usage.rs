//! What HAProxy's usage line says of an answer is what the model server did, and reading it changes nothing.

use super::recorded::{RECORDED, Recorded, Said};
use crate::harness::client::{Conversation, Request, Response};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{Fleet, SHARED_MODEL, Tokens};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::Ports;
use crate::harness::process::{Process, built};
use crate::harness::replay::Replay;
use crate::harness::scratch::{Scratch, edit};
use crate::harness::{port, root};
use herdgate::settle::{UsageLine, parse};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// HAProxy before an agent that allows everything, to one server.
struct Site {
    proxy: HaProxy,
    _agent: Process,
    _scratch: Scratch,
}

/// Replacements in one of the shipped files.
type Edits<'e> = &'e [(&'e str, &'e str)];

impl Site {
    fn start(version: Version, server: SocketAddr) -> Site {
        Site::start_edited(version, server, &[], &[])
    }

    fn start_edited(version: Version, server: SocketAddr, config: Edits<'_>, script: Edits<'_>) -> Site {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::elsewhere([server, port::free().unwrap(), port::free().unwrap()]);
        let ports = Ports::free().unwrap();
        let mut command = Command::new(built("constant-agent").unwrap());
        command.arg(ports.spop.to_string()).arg("ollama1");
        let mut agent = Process::start("constant-agent", command, &scratch.join("agent.log")).unwrap();
        agent.wait_until_ready(Duration::from_secs(10), |_| TcpStream::connect(ports.spop).is_ok()).unwrap();
        scratch.copy(&root().join("haproxy"), "haproxy").unwrap();
        // Thousands of questions are asked here: none may be late because the machine is busy.
        let patient: Edits<'_> = &[("timeout processing 100ms", "timeout processing 5s")];
        for (file, edits) in [("haproxy.cfg", config), ("usage.lua", script), ("spoe-herdgate.conf", patient)] {
            let name = format!("haproxy/{file}");
            let text = std::fs::read_to_string(scratch.join(&name)).unwrap();
            let text = edits.iter().fold(text, |text, (from, to)| edit(&text, from, to).unwrap());
            scratch.write(&name, &text).unwrap();
        }
        let file = scratch.join("haproxy/haproxy.cfg");
        let proxy = HaProxy::start_on(&file, version, &scratch, &ports, &fleet).unwrap();
        Site { proxy, _agent: agent, _scratch: scratch }
    }

    /// Sends a request, reads the answer to its end, and waits for its usage line.
    fn ask(&self, request: &Request) -> (Response, UsageLine) {
        self.proxy.log_lines();
        let mut conversation = self.start_request(request);
        conversation.read_to_end().unwrap();
        (conversation.response.clone(), self.line())
    }

    fn start_request(&self, request: &Request) -> Conversation {
        Conversation::start(self.proxy.address, &request.clone().key("any").header("Connection", "close")).unwrap()
    }

    /// Returns the usage line that comes next.
    fn line(&self) -> UsageLine {
        let mut found = None;
        wait_until("a usage line", Duration::from_secs(5), || {
            let lines = self.proxy.log_lines();
            // Those of connections without a request name no server.
            let mut read = lines.iter().filter_map(|line| parse(line.as_bytes()).ok());
            found = read.find(|line| line.server == "ollama1");
            found.is_some()
        })
        .unwrap();
        found.unwrap()
    }

    /// Replays an answer cut into these pieces, each sent when the client has the one before.
    fn replay(&self, server: &Replay, answer: &Recorded, pieces: Vec<Vec<u8>>) -> (Response, UsageLine) {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n", answer.kind);
        self.replay_with(server, &head, answer.path, pieces)
    }

    fn replay_with(&self, server: &Replay, head: &str, path: &str, pieces: Vec<Vec<u8>>) -> (Response, UsageLine) {
        self.proxy.log_lines();
        let ends: Vec<usize> =
            pieces.iter().scan(0, |end, piece| Some(std::mem::replace(end, *end + piece.len()))).collect();
        let go_on = server.answer(head, pieces);
        let mut conversation = self.start_request(&Request::post(path, r#"{"model":"m"}"#));
        for end in ends.into_iter().skip(1) {
            conversation.read_body(end).unwrap();
            let _ = go_on.send(());
        }
        conversation.read_to_end().unwrap();
        (conversation.response.clone(), self.line())
    }
}

fn said(line: &UsageLine) -> Said {
    (line.tokens_in, line.tokens_out, line.units, line.failed)
}

/// Returns a simulator of this kind; the address is where it listens.
fn simulator(scratch: &Scratch, kind: &str, tokens_per_second: u32) -> (Process, SocketAddr) {
    let address = port::free().unwrap();
    let mut command = Command::new(built("ollama-sim").unwrap());
    command.args(["--listen", &address.to_string(), "--kind", kind, "--model", SHARED_MODEL, "--num-parallel", "8"]);
    command.args(["--tokens-per-second", &tokens_per_second.to_string(), "--prompt-tokens-per-second", "0"]);
    let mut process = Process::start("ollama-sim", command, &scratch.join("ollama-sim.log")).unwrap();
    process.wait_until_ready(Duration::from_secs(10), |_| TcpStream::connect(address).is_ok()).unwrap();
    (process, address)
}

fn tokens(server: SocketAddr) -> Tokens {
    let request = Request::get("/sim/stats").header("Host", "localhost").header("Connection", "close");
    let answer = crate::harness::client::send(server, &request).unwrap();
    serde_json::from_slice::<crate::harness::fleet::Counters>(&answer.body).unwrap().tokens()
}

/// Whether a case's answer tells tokens in, tokens out, and units.
type Tells = (bool, bool, bool);

/// Path, body, what the answer tells. `OUT` tokens are asked for.
fn dialects() -> Vec<(&'static str, Value, Tells)> {
    const OUT: u64 = 23;
    let turns = json!([{ "role": "user", "content": "How many sheep are there on the hill, and who counted them?" }]);
    let options = json!({ "num_predict": OUT });
    let usage = json!({ "include_usage": true });
    let chat = |more: Value| merged(json!({ "messages": turns, "max_tokens": OUT }), more);
    let text = |more: Value| merged(json!({ "prompt": "Once upon a time", "max_tokens": OUT }), more);
    let responses = |stream: bool| json!({ "input": "Count!", "max_output_tokens": OUT, "stream": stream });
    let (whole, stream, silent) = ((true, true, false), (true, true, true), (false, false, true));
    vec![
        ("/api/generate", json!({ "prompt": "Count the sheep", "options": options }), stream),
        ("/api/generate", json!({ "prompt": "Count the sheep", "options": options, "stream": false }), whole),
        ("/api/chat", json!({ "messages": turns, "options": options }), stream),
        ("/api/chat", json!({ "messages": turns, "options": options, "stream": false }), whole),
        ("/api/embed", json!({ "input": ["one", "and another text"] }), (true, false, false)),
        ("/api/embeddings", json!({ "prompt": "one" }), (false, false, false)),
        ("/v1/chat/completions", chat(json!({})), whole),
        ("/v1/chat/completions", chat(json!({ "stream": true })), silent),
        ("/v1/chat/completions", chat(json!({ "stream": true, "stream_options": usage })), stream),
        ("/v1/completions", text(json!({})), whole),
        ("/v1/completions", text(json!({ "stream": true })), silent),
        ("/v1/completions", text(json!({ "stream": true, "stream_options": usage })), stream),
        ("/v1/embeddings", json!({ "input": "some text to embed" }), (true, false, false)),
        ("/v1/messages", chat(json!({})), whole),
        ("/v1/messages", chat(json!({ "stream": true })), stream),
        ("/v1/responses", responses(false), whole),
        ("/v1/responses", responses(true), stream),
    ]
}

fn merged(mut value: Value, more: Value) -> Value {
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// In each dialect of Ollama, and in those of vLLM, on four threads.
pub fn what_the_line_says_is_what_the_server_did(version: Version) {
    for kind in ["ollama", "openai"] {
        let scratch = Scratch::new().unwrap();
        let (_simulator, server) = simulator(&scratch, kind, 0);
        let threads = [("maxconn 2000\n", "maxconn 2000\n    nbthread 4\n")];
        let site = Site::start_edited(version, server, &threads, &[]);
        let mut checked = 0;
        for (path, body, (tells_in, tells_out, tells_units)) in dialects() {
            if kind == "openai" && !["/v1/chat/completions", "/v1/completions"].contains(&path) {
                continue;
            }
            let body = merged(body, json!({ "model": SHARED_MODEL }));
            // More than once: four threads take turns.
            for _ in 0..3 {
                let before = tokens(server);
                let (answer, line) = site.ask(&Request::post(path, body.to_string()));
                assert_eq!(answer.status, 200, "{kind} {path} {body}: {}", answer.text());
                let after = tokens(server);
                let (tokens_in, tokens_out) =
                    (after.tokens_in - before.tokens_in, after.tokens_out - before.tokens_out);
                let expected = (
                    tells_in.then_some(tokens_in),
                    tells_out.then_some(tokens_out),
                    tells_units.then_some(tokens_out),
                    false,
                );
                assert_eq!(said(&line), expected, "{kind} {path} {body}\n{}", answer.text());
                assert_eq!((line.end.as_str(), line.status, line.attempts), ("--", Some(200), Some(1)));
                assert!(line.bytes_out >= Some(answer.body.len() as u64), "{line:?}");
                checked += 1;
            }
        }
        println!("{kind}: {checked} answers said exactly");
    }
}

/// Every answer in one piece, in two at every place, and byte by byte: it arrives unchanged, and says the same.
pub fn however_an_answer_is_cut_it_says_the_same(version: Version) {
    let server = Replay::start().unwrap();
    let site = Site::start(version, server.address);
    let mut cuts = 0;
    for answer in RECORDED {
        let body = answer.body.as_bytes();
        let mut ways = vec![vec![body.to_vec()], body.iter().map(|byte| vec![*byte]).collect()];
        ways.extend((1..body.len()).map(|at| vec![body[..at].to_vec(), body[at..].to_vec()]));
        for pieces in ways {
            let count = pieces.len();
            let first = pieces[0].len();
            let (response, line) = site.replay(&server, answer, pieces);
            let what = format!("{} in {count} pieces, the first of {first} bytes", answer.what);
            assert_eq!(said(&line), answer.said, "{what}");
            assert!(response.body == body, "{what}: {}", response.text());
            cuts += 1;
        }
    }
    println!("{} answers, {cuts} ways to cut them", RECORDED.len());
}

/// Lines of many buffers' length, cut where nothing is aligned: an Ollama context, a whole text in `response.completed`.
pub fn long_lines_are_read_and_pass_unchanged(version: Version) {
    let server = Replay::start().unwrap();
    let site = Site::start(version, server.address);
    let context = vec!["12345"; 60_000].join(",");
    let text = "größe 漢字 \\\"usage\\\":{} ".repeat(12_000);
    let native = format!(
        "{{\"response\":\"a\",\"done\":false}}\n{{\"response\":\"{text}\",\"done\":false}}\n\
         {{\"response\":\"\",\"done\":true,\"context\":[{context}],\"prompt_eval_count\":26,\"eval_count\":298,\"logprobs\":[{context}]}}\n"
    );
    let responses = format!(
        "event: response.output_text.delta\ndata: {{\"delta\":\"{text}\"}}\n\nevent: response.completed\n\
         data: {{\"response\":{{\"output\":[\"{text}\"],\"usage\":{{\"input_tokens\":37,\"output_tokens\":11}},\"instructions\":\"{text}\"}}}}\n\n"
    );
    let chat = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\ndata: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":9}}}}\n\n"
    );
    let whole = format!(
        "{{\"done\":true,\"context\":[{context}],\"prompt_eval_count\":1,\"eval_count\":2,\"logprobs\":[{context}]}}"
    );
    let cases = [
        ("/api/generate", "application/x-ndjson", native, (Some(26), Some(298), Some(2), false)),
        ("/v1/responses", "text/event-stream", responses, (Some(37), Some(11), Some(1), false)),
        ("/v1/chat/completions", "text/event-stream", chat, (Some(3), Some(9), Some(1), false)),
        ("/api/generate", "application/json", whole, (Some(1), Some(2), None, false)),
    ];
    for (path, kind, body, expected) in cases {
        for size in [body.len(), 977, 4096, 4097, 16_384, 16_385, 100_003] {
            let pieces = body.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
            let (response, line) = site.replay_with(&server, &head, path, pieces);
            assert!(response.body == body.as_bytes(), "{path} in pieces of {size}: {} bytes", response.body.len());
            assert_eq!(said(&line), expected, "{path} in pieces of {size}");
        }
    }
}

/// Answers whose tokens are not to be read, or that have no body at all.
pub fn answers_of_other_kinds_are_left_alone(version: Version) {
    let server = Replay::start().unwrap();
    let site = Site::start(version, server.address);
    let body = br#"{"usage":{"prompt_tokens":5,"completion_tokens":1}}"#.to_vec();
    let nothing: Said = (None, None, None, false);
    let json = "Content-Type: application/json\r\n";
    let heads = [
        (format!("HTTP/1.1 200 OK\r\n{json}Content-Encoding: gzip\r\n"), 200),
        (format!("HTTP/1.1 500 Internal Server Error\r\n{json}"), 500),
        (format!("HTTP/1.1 404 Not Found\r\n{json}"), 404),
        ("HTTP/1.1 200 OK\r\n".to_owned(), 200),
        (format!("HTTP/1.1 200 OK\r\n{json}{json}X-Usage: 1\r\n"), 200),
    ];
    for (head, status) in &heads {
        let (response, line) = site.replay_with(&server, head, "/v1/completions", vec![body.clone()]);
        assert_eq!((response.status, &response.body), (*status, &body), "{head}");
        let twice = head.matches("application/json").count() == 2;
        assert_eq!(said(&line), if twice { (Some(5), Some(1), None, false) } else { nothing }, "{head}");
    }
    let without_body = [
        "HTTP/1.1 204 No Content\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 0\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 0\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n".to_owned(),
    ];
    for head in &without_body {
        let (response, line) = site.replay_with(&server, head, "/api/chat", Vec::new());
        assert!([200, 204].contains(&response.status) && response.body.is_empty(), "{head}: {response:?}");
        let units = head.contains("ndjson").then_some(0);
        assert_eq!((line.tokens_in, line.tokens_out), (None, None), "{head}");
        assert!(line.units.is_none() || line.units == units, "{head}: {:?}", line.units);
    }
    let continued = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let (_, line) = site.replay_with(&server, continued, "/v1/completions", vec![body]);
    assert_eq!(said(&line), (Some(5), Some(1), None, false), "after 100 Continue");
}

/// A client that leaves in the middle, where the server tells no usage (openai-openapi#539): what it got is counted. `received <= units <= generated`: HAProxy counts a piece
/// before it sends it on, and counts nothing that it was not sent. Above `received` are the tokens between the client's last
/// read and HAProxy's noticing that it left, and those read by neither: one second's worth is allowed for a busy machine.
pub fn what_a_client_got_before_it_left_is_counted(version: Version) {
    const PER_SECOND: u32 = 50;
    let scratch = Scratch::new().unwrap();
    let (_simulator, server) = simulator(&scratch, "ollama", PER_SECOND);
    let site = Site::start(version, server);
    let markers = [
        ("/api/generate", "\"done\":false"),
        ("/api/chat", "\"done\":false"),
        ("/v1/chat/completions", "\"choices\":[{"),
        ("/v1/completions", "\"choices\":[{"),
        ("/v1/messages", "\"type\":\"content_block_delta\""),
        ("/v1/responses", "\"type\":\"response.output_text.delta\""),
    ];
    for (path, marker) in markers {
        for bytes in [1, 1_500, 4_000] {
            let body = json!({
                "model": SHARED_MODEL, "stream": true, "stream_options": { "include_usage": true },
                "prompt": "Count", "input": "Count", "messages": [{ "role": "user", "content": "Count" }],
                "max_tokens": 900, "max_output_tokens": 900, "options": { "num_predict": 900 },
            });
            let before = tokens(server);
            site.proxy.log_lines();
            let mut conversation = site.start_request(&Request::post(path, body.to_string()));
            conversation.read_body(bytes).unwrap();
            let text = conversation.response.text();
            assert_eq!(conversation.response.status, 200, "{text}");
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let received = whole.lines().filter(|line| line.contains(marker)).count() as u64;
            conversation.leave();
            let line = site.line();
            let generated = tokens(server).tokens_out - before.tokens_out;
            let units = line.units.unwrap();
            println!(
                "{path} after {bytes} bytes: received {received}, units {units}, generated {generated}, {}",
                line.end
            );
            assert!(line.end.starts_with(['C', 'S']), "{line:?}");
            assert!(received >= 1 && received <= units && units <= generated, "{received} <= {units} <= {generated}");
            assert!(units <= received + u64::from(PER_SECOND), "{units} of {received}");
            assert_eq!(line.tokens_out, None, "{path}");
        }
    }
}

/// Whatever goes wrong in Lua, and where there is none: the answer passes whole, and its line comes without counts.
pub fn a_fault_in_lua_costs_the_counts_and_no_answer(version: Version) {
    const SECOND: &str =
        "    if self.shown['txn.herdgate_units'] then error({}) end\n    local from = 1\n    local stop";
    let server = Replay::start().unwrap();
    let answer = RECORDED.iter().find(|answer| answer.said == (Some(26), Some(298), Some(2), false)).unwrap();
    let body = answer.body.as_bytes();
    let halves = || vec![body[..100].to_vec(), body[100..].to_vec()];
    let places: [(&str, Edits<'_>, Edits<'_>); 6] = [
        ("nothing", &[], &[]),
        ("the head", &[], &[("    local headers = message:get_headers()\n", "    error('planted')\n")]),
        ("each piece", &[], &[("    local piece = message:body()\n", "    error('planted')\n")]),
        ("the second piece", &[], &[("    local from = 1\n    local stop", SECOND)]),
        (
            "the last line",
            &[],
            &[("        self:end_counts(text)\n    elseif", "        local _ = nil + 1\n    elseif")],
        ),
        ("a HAProxy without Lua", &[("feature(LUA)", "feature(NO_SUCH_FEATURE)")], &[]),
    ];
    for (place, config, script) in places {
        let site = Site::start_edited(version, server.address, config, script);
        for _ in 0..5 {
            let (response, line) = site.replay(&server, answer, halves());
            assert!(response.status == 200 && response.body == body, "{place}: {}", response.text());
            let expected = if place == "nothing" { answer.said } else { (None, None, None, false) };
            assert_eq!((said(&line), line.end.as_str()), (expected, "--"), "{place}");
        }
    }
}
