//! What requests are charged through real HAProxy, against what the servers and the clients saw of them.

use crate::harness::client::{self, Conversation, Request};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{Counters, Fleet, SHARED_MODEL};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::Herdgate;
use crate::harness::scratch::Scratch;
use herdgate::ledger::reservation::Evidence;
use herdgate::store::{Row, StoredLife, find};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// Requests in all, on so many clients at once.
const REQUESTS: usize = 2_000;
const CLIENTS: usize = 20;

/// One client in so many leaves before a stream is over.
const ABORTS: u32 = 4;

const PLANS: &str = r#"
[plans.capped]
models = ["*"]
concurrency = 10
max_output = 64
left_open = "refuse"
max_context = 4096
budget = ["12k/day"]
"#;

/// What a client saw of one answer.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    /// The answer came to its end and told these figures, of prompt and output.
    Told(u64, u64),
    /// The stream came to its end and told none; so many pieces came.
    Pieces(u64),
    /// The client left.
    Left,
}

#[test]
fn two_thousand_mixed_requests_are_charged_what_they_used_through_real_haproxy() {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start_with(&scratch, 400, "--num-parallel 64", [&[SHARED_MODEL]; 3]).unwrap();
    let mut herdgate = Herdgate::new_with(&scratch, &fleet, PLANS).unwrap();
    let bound = printed_bound(&herdgate);
    let capped = herdgate.new_key("capped", "capped").unwrap();
    herdgate.start().unwrap();
    let edits = [(" maxconn 8 ", " maxconn 64 ")];
    let haproxy = HaProxy::start_edited(&edits, Version::Debian, &scratch, &herdgate.ports, &fleet).unwrap();
    let all = herdgate.keys.all.clone();
    let ask = |request: &Request| client::send(haproxy.address, request).unwrap();
    wait_until("the service", Duration::from_secs(20), || {
        ask(&Request::get("/v1/models").key(&capped).header("Connection", "close")).status == 200
    })
    .unwrap();

    let seen: Mutex<BTreeMap<u128, (bool, Seen)>> = Mutex::default();
    let refused = Mutex::new(BTreeMap::<u16, usize>::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (haproxy, all, capped, seen, refused) = (&haproxy, &all, &capped, &seen, &refused);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(client as u64);
                for turn in 0..REQUESTS / CLIENTS {
                    let is_capped = turn % 4 == 0;
                    let key = if is_capped { capped } else { all };
                    let (status, id, found) = one(haproxy, key, &mut random);
                    match id.filter(|_| status == 200) {
                        Some(id) => drop(seen.lock().unwrap().insert(id, (is_capped, found))),
                        None => *refused.lock().unwrap().entry(status).or_default() += 1,
                    }
                }
            });
        }
    });
    let (seen, refused) = (seen.into_inner().unwrap(), refused.into_inner().unwrap());
    println!("{} answers, refused {refused:?}", seen.len());
    wait_until("all to be settled", Duration::from_secs(20), || {
        herdgate.metric("herdgate_slots_open") == Some(0) && herdgate.metric("herdgate_llm_tokens_reserved") == Some(0)
    })
    .unwrap();

    // One row for each answer, and what it says is what its client saw.
    let file = scratch.join("herdgate.db");
    let rows = wait_for_rows(&file, seen.keys());
    let mut by_evidence: BTreeMap<Evidence, (usize, u64, u64)> = BTreeMap::new();
    let mut left = 0_u64;
    for (id, (_, seen)) in &seen {
        let row = &rows[id];
        let sum = by_evidence.entry(row.evidence).or_default();
        *sum = (sum.0 + 1, sum.1 + row.tokens_in, sum.2 + row.tokens_out);
        match seen {
            Seen::Told(tokens_in, tokens_out) => assert_eq!(
                (row.evidence, row.tokens_in, row.tokens_out),
                (Evidence::Exact, *tokens_in, *tokens_out),
                "{row:?}"
            ),
            Seen::Pieces(pieces) => {
                assert_eq!((row.evidence, row.tokens_out), (Evidence::Counted, *pieces), "{row:?}");
            }
            Seen::Left => left += 1,
        }
    }
    println!("by evidence (requests, tokens in, tokens out): {by_evidence:?}; {left} clients left");
    assert!(by_evidence[&Evidence::Exact].0 > 500 && by_evidence[&Evidence::Counted].0 > 200 && left > 100);
    assert!(!by_evidence.contains_key(&Evidence::Reserved), "every line came");

    // The sum over all classes: only of what was broken off does the server know more.
    let truth = fleet
        .counters()
        .unwrap()
        .iter()
        .map(Counters::tokens)
        .fold((0, 0), |sum, of| (sum.0 + of.tokens_in, sum.1 + of.tokens_out));
    let charged =
        by_evidence.values().fold((0, 0), |sum, (_, tokens_in, tokens_out)| (sum.0 + tokens_in, sum.1 + tokens_out));
    println!(
        "servers: {} in, {} out; charged: {} in, {} out; plan \"capped\" may be passed by {bound}",
        truth.0, truth.1, charged.0, charged.1
    );
    let off = |charged: u64, true_sum: u64| (charged as f64 - true_sum as f64).abs() / true_sum as f64;
    assert!(off(charged.0, truth.0) < 0.05 && off(charged.1, truth.1) < 0.05);

    // A budget under all this: passed by no more than was said.
    let of_capped: u64 =
        seen.iter().filter(|(_, (is_capped, _))| *is_capped).map(|(id, _)| rows[id].charge.div_ceil(1000)).sum();
    println!("the budget of 12,000 tokens: {of_capped} charged, {} requests refused", refused.get(&429).unwrap_or(&0));
    assert!(refused.get(&429).is_some_and(|refused| *refused > 50), "the budget was never met: {refused:?}");
    assert!(of_capped <= 12_000 + bound && of_capped > 9_000, "{of_capped} and {bound}");

    // The report says the same.
    let lines = herdgate.run(&["usage", "--by", "key", "--json"]).unwrap();
    let told: Value = serde_json::from_str(&lines).unwrap();
    println!("herdgate usage --by key: {told}");
}

/// One request of a random kind: its status, its decision's id, and what came.
fn one(haproxy: &HaProxy, key: &str, random: &mut StdRng) -> (u16, Option<u128>, Seen) {
    let output = random.random_range(5..40_u32);
    let words = "how many sheep are on the hill ".repeat(random.random_range(1..6));
    let turns = json!([{ "role": "user", "content": words }]);
    let options = json!({ "num_predict": output });
    let (path, body, is_stream, tells) = match random.random_range(0..8) {
        0 => ("/api/chat", json!({ "messages": turns, "options": options }), true, true),
        1 => ("/api/generate", json!({ "prompt": words, "options": options }), true, true),
        2 => ("/api/chat", json!({ "messages": turns, "options": options, "stream": false }), false, true),
        3 => ("/v1/chat/completions", json!({ "messages": turns, "max_tokens": output }), false, true),
        4 => ("/v1/chat/completions", json!({ "messages": turns, "max_tokens": output, "stream": true }), true, false),
        5 => {
            let usage = json!({ "include_usage": true });
            let body = json!({ "messages": turns, "max_tokens": output, "stream": true, "stream_options": usage });
            ("/v1/chat/completions", body, true, true)
        }
        6 => ("/v1/completions", json!({ "prompt": words, "max_tokens": output, "stream": true }), true, false),
        _ => ("/v1/completions", json!({ "prompt": words, "max_tokens": output }), false, true),
    };
    let mut body = body;
    body["model"] = json!(SHARED_MODEL);
    let request = Request::post(path, body.to_string()).key(key).header("Connection", "close");
    let leaves = is_stream && random.random_range(0..ABORTS) == 0;
    let Ok(mut conversation) = Conversation::start(haproxy.address, &request) else { return (0, None, Seen::Left) };
    let until = random.random_range(1..1_500);
    let read = if leaves { conversation.read_body(until).map(drop) } else { conversation.read_to_end().map(drop) };
    let answer = conversation.response.clone();
    let id = answer.header("x-request-id").and_then(|id| u128::from_str_radix(id, 16).ok());
    // A short stream may be over by then.
    if leaves || read.is_err() {
        return (answer.status, id, Seen::Left);
    }
    let text = answer.text();
    let seen = if !tells {
        let pieces = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        let has_text = |piece: &Value| {
            let choice = &piece["choices"][0];
            [&choice["delta"]["content"], &choice["text"]]
                .iter()
                .any(|text| text.as_str().is_some_and(|t| !t.is_empty()))
        };
        Seen::Pieces(pieces.filter(has_text).count() as u64)
    } else {
        let mut objects = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap_or(line)).ok());
        let last = objects.rfind(|object| object["usage"].is_object() || object["eval_count"].is_u64());
        let last = last.unwrap_or_default();
        let number = |native: &str, v1: &str| last[native].as_u64().or(last["usage"][v1].as_u64()).unwrap_or(0);
        Seen::Told(number("prompt_eval_count", "prompt_tokens"), number("eval_count", "completion_tokens"))
    };
    (answer.status, id, seen)
}

fn wait_for_rows<'i>(file: &std::path::Path, ids: impl Iterator<Item = &'i u128> + Clone) -> BTreeMap<u128, Row> {
    let mut rows = BTreeMap::new();
    wait_until("the rows", Duration::from_secs(20), || {
        for id in ids.clone() {
            if !rows.contains_key(id)
                && let Ok(Some(StoredLife::Settled(row))) = find(file, *id)
            {
                rows.insert(*id, *row);
            }
        }
        rows.len() == ids.clone().count()
    })
    .unwrap();
    rows
}

/// Returns what `herdgate check` says of the plan `capped`.
fn printed_bound(herdgate: &Herdgate) -> u64 {
    let printed = herdgate.run(&["check"]).unwrap();
    let line = printed.lines().find(|line| line.contains("\"capped\"")).unwrap();
    println!("{line}");
    line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
}
