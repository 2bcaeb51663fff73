//! Refusals, model lists and limits: what the client is told, and that no server was asked.

use super::short_chat;
use crate::harness::client::{Request, Response};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL, SINGLE_MODEL};
use crate::harness::herdgate::{Keys, SLOW_BURST};
use crate::harness::stack::{Front, Stack};
use serde_json::json;
use std::time::Duration;

/// Returns the code of a refusal in OpenAI's form.
fn code(answer: &Response) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn openai(body: &str) -> Request {
    Request::post("/v1/chat/completions", body)
}

struct Case {
    what: &'static str,
    request: fn(&Keys) -> Request,
    status: u16,
    code: &'static str,
}

const REFUSALS: [Case; 14] = [
    Case { what: "no key", request: |_| openai(r#"{"model":"llama3.2:3b"}"#), status: 401, code: "invalid_api_key" },
    Case {
        what: "a bad key",
        request: |_| openai(r#"{"model":"llama3.2:3b"}"#).key("hg_0000000000000000000000000000000000000000000"),
        status: 401,
        code: "invalid_api_key",
    },
    Case {
        what: "a key with one character changed",
        request: |keys| {
            let last = if keys.team.ends_with('a') { "b" } else { "a" };
            openai("{}").key(&format!("{}{last}", &keys.team[..keys.team.len() - 1]))
        },
        status: 401,
        code: "invalid_api_key",
    },
    Case {
        what: "two credentials",
        request: |keys| openai(r#"{"model":"llama3.2:3b"}"#).key(&keys.team).header("x-api-key", &keys.all),
        status: 401,
        code: "invalid_api_key",
    },
    Case {
        what: "a model outside the plan",
        request: |keys| openai(r#"{"model":"mistral:7b"}"#).key(&keys.team),
        status: 404,
        code: "model_not_found",
    },
    Case {
        what: "a model nobody has",
        request: |keys| openai(r#"{"model":"nothing:1b"}"#).key(&keys.all),
        status: 404,
        code: "model_not_found",
    },
    Case {
        what: "two models in one body",
        request: |keys| openai(r#"{"model":"llama3.2:3b","model":"mistral:7b"}"#).key(&keys.team),
        status: 400,
        code: "ambiguous_body",
    },
    Case {
        what: "a case variant of model",
        request: |keys| openai(r#"{"model":"llama3.2:3b","Model":"mistral:7b"}"#).key(&keys.team),
        status: 400,
        code: "ambiguous_body",
    },
    Case {
        what: "a body that ends early",
        request: |keys| openai(r#"{"model":"llama3.2:3b""#).key(&keys.team),
        status: 400,
        code: "invalid_body",
    },
    Case {
        what: "a second document behind the first",
        request: |keys| openai(r#"{"model":"llama3.2:3b"}{"model":"mistral:7b"}"#).key(&keys.team),
        status: 400,
        code: "invalid_body",
    },
    Case {
        what: "a compressed body",
        request: |keys| openai("{}").key(&keys.team).header("Content-Encoding", "zstd"),
        status: 415,
        code: "unsupported_encoding",
    },
    Case {
        what: "a model in the query",
        request: |keys| {
            Request::post("/v1/chat/completions?model=mistral:7b", r#"{"model":"llama3.2:3b"}"#).key(&keys.team)
        },
        status: 400,
        code: "ambiguous_body",
    },
    Case {
        what: "an unknown route",
        request: |keys| Request::post("/v1/files", "{}").key(&keys.team),
        status: 404,
        code: "unknown_route",
    },
    Case {
        what: "herdgate's own port by name",
        request: |keys| Request::get("/v1/../catalog").key(&keys.team).header("X-Herdgate-Receipt", "x"),
        status: 404,
        code: "unknown_route",
    },
];

/// Every refusal has its status and code, is JSON, and reaches no server.
pub fn refusals_are_told_and_reach_no_server(front: Front) {
    let stack = Stack::start(front).unwrap();
    for case in &REFUSALS {
        let answer = stack.send(&(case.request)(stack.keys())).unwrap();
        assert_eq!(
            (answer.status, code(&answer).as_str()),
            (case.status, case.code),
            "{}: {}",
            case.what,
            answer.text()
        );
        assert_eq!(answer.header("content-type"), Some("application/json"), "{}", case.what);
        assert!(answer.header("x-request-id").is_some(), "{}", case.what);
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (case.status == 401).then_some("Bearer"), "{}", case.what);
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);

    // Ollama's routes have Ollama's form.
    let answer = stack.send(&short_chat(FOREIGN_MODEL).key(&stack.keys().team)).unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].is_string(), "{}", answer.text());

    // And what is allowed passes, so the refusals above were not an outage.
    let answer = stack.send(&short_chat(SHARED_MODEL).key(&stack.keys().team)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stack.fleet.asked().unwrap(), 1);
    let secret = &stack.keys().team;
    assert!(!stack.herdgate.output().contains(secret.as_str()));
    assert!(stack.proxy.log_lines().iter().all(|line| !line.contains(secret.as_str())));
}

/// The burst passes, what is over it is told when to come back, and only what passed reaches a server.
pub fn a_burst_over_the_rate_is_told_when_to_come_back(front: Front) {
    let stack = Stack::start(front).unwrap();
    let answers: Vec<Response> =
        (0..SLOW_BURST + 4).map(|_| stack.send(&short_chat(SHARED_MODEL).key(&stack.keys().slow)).unwrap()).collect();
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    // The plan gives one more each second, and the whole took a part of one.
    assert!((SLOW_BURST..=SLOW_BURST + 1).contains(&passed), "{passed} passed");
    for answer in &answers {
        let limit = answer.header("x-ratelimit-limit-requests");
        if answer.status == 200 {
            assert_eq!(limit, Some(SLOW_BURST.to_string().as_str()));
            assert!(answer.header("x-ratelimit-remaining-requests").is_some());
            continue;
        }
        assert_eq!(answer.status, 429, "{}", answer.text());
        let seconds: u64 = answer.header("retry-after").and_then(|value| value.parse().ok()).unwrap();
        assert!((1..=2).contains(&seconds), "Retry-After {seconds}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), u64::try_from(passed).unwrap());
}

/// LiteLLM #39309: rejected calls were charged. Where a caller stands with its tokens is told on every answer; what is
/// refused takes nothing, and what was held and not used is there again.
pub fn litellm_39309_token_limits_are_told_and_refusals_take_nothing(front: Front) {
    let plan = format!("\n[plans.frugal]\nmodels = [\"{SHARED_MODEL}\"]\nbudget = [\"300/day\"]\n");
    let stack = Stack::start_with(&plan, &[], front).unwrap();
    let key = stack.herdgate.new_key("frugal", "frugal").unwrap();
    wait_until("the key", Duration::from_secs(5), || {
        stack.send(&Request::get("/v1/models").key(&key)).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
    let ask = |output: u32| {
        let turns = json!([{ "role": "user", "content": "Say something." }]);
        let options = json!({ "num_predict": output });
        let body = json!({ "model": SHARED_MODEL, "messages": turns, "options": options, "stream": false });
        stack.send(&Request::post("/api/chat", body.to_string()).key(&key)).unwrap()
    };
    let number = |answer: &Response, name: &str| answer.header(name).and_then(|value| value.parse::<u64>().ok());
    let never = ask(301);
    assert_eq!((never.status, never.text().contains("at most 300")), (400, true), "{}", never.text());
    let first = ask(10);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(number(&first, "x-ratelimit-limit-tokens"), Some(300));
    let held = 300 - number(&first, "x-ratelimit-remaining-tokens").unwrap();
    assert!((11..60).contains(&held), "{held} tokens were held");
    assert!(first.header("x-ratelimit-reset-tokens").is_some());
    // What was held for the first comes free when its line is read; then this one has room, and what it holds is most of it.
    wait_until("the first to be settled", Duration::from_secs(5), || {
        stack.herdgate.metric("herdgate_slots_open") == Some(0)
    })
    .unwrap();
    for _ in 0..5 {
        let refused = ask(288);
        assert_eq!((refused.status, refused.text().contains("budget")), (429, true), "{}", refused.text());
        assert!(number(&refused, "retry-after").is_some_and(|seconds| seconds >= 1));
        assert_eq!(number(&refused, "x-ratelimit-limit-tokens"), Some(300));
    }
    let left = number(&ask(1), "x-ratelimit-remaining-tokens").unwrap();
    assert!(left >= 300 - 2 * held, "{left} left: refusals took some");
}

/// The lists are those of the whole fleet, filtered by plan; HEAD has the length of GET and no body.
pub fn the_catalog_is_the_fleets_filtered_by_plan(front: Front) {
    let stack = Stack::start(front).unwrap();
    let keys = stack.keys();
    let names = |answer: &Response, list: &str, name: &str| -> Vec<String> {
        let entries = answer.json()[list].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> =
            entries.iter().filter_map(|entry| entry[name].as_str()).map(str::to_owned).collect();
        names.sort();
        names
    };
    for (key, models) in
        [(&keys.team, vec![SHARED_MODEL, SINGLE_MODEL]), (&keys.all, vec![SHARED_MODEL, FOREIGN_MODEL, SINGLE_MODEL])]
    {
        for (target, list, name) in [("/v1/models", "data", "id"), ("/api/tags", "models", "name")] {
            let answer = stack.send(&Request::get(target).key(key)).unwrap();
            assert_eq!(answer.status, 200, "{target}: {}", answer.text());
            assert_eq!(names(&answer, list, name), models, "{target}");
            let head = stack.send(&Request::new("HEAD", target).key(key)).unwrap();
            assert_eq!(head.status, 200, "HEAD {target}");
            assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()), "HEAD {target}");
        }
    }
    for target in ["/v1/models", "/api/tags", "/api/ps", "/api/version"] {
        let answer = stack.send(&Request::get(target)).unwrap();
        assert_eq!(answer.status, 401, "{target} without a key: {}", answer.text());
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}
