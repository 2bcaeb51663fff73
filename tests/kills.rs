//! herdgate is killed again and again under load: what was settled stays settled, once, and what was on its way is charged.
//!
//! Five kills, two seconds apart; `HERDGATE_KILLS=30` for more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail

mod harness;

use harness::client::{Request, send};
use harness::deadline::wait_until;
use harness::fleet::{Fleet, SHARED_MODEL};
use harness::haproxy::{HaProxy, Version};
use harness::herdgate::Herdgate;
use harness::scratch::Scratch;
use herdgate::ledger::reservation::Evidence;
use herdgate::store::{Row, StoredLife, find};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CLIENTS: usize = 8;
const BETWEEN: Duration = Duration::from_secs(2);
const PROMPT: &str = "How many sheep are there on the hill?";

/// A budget that is met; streams that are given up soon, because what no line ends must end by time.
const MORE: &str = r#"
[ledger]
max_stream = "4s"
[plans.capped]
models = ["*"]
concurrency = 4
max_output = 16
left_open = "refuse"
max_context = 1024
budget = ["6k/day"]
"#;

#[test]
fn what_was_settled_survives_kills_and_what_was_on_its_way_is_charged() {
    #[allow(clippy::disallowed_methods, reason = "how long a test takes is said from outside")]
    let kills: usize = std::env::var("HERDGATE_KILLS").map_or(5, |kills| kills.parse().expect("a number"));
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start_with(&scratch, 200, "--num-parallel 64", [&[SHARED_MODEL]; 3]).unwrap();
    let mut herdgate = Herdgate::new_with(&scratch, &fleet, MORE).unwrap();
    let capped = herdgate.new_key("capped", "capped").unwrap();
    let edits = [(" maxconn 8 ", " maxconn 64 ")];
    let haproxy = HaProxy::start_edited(&edits, Version::Debian, &scratch, &herdgate.ports, &fleet).unwrap();
    let file = scratch.join("herdgate.db");
    let all = herdgate.keys.all.clone();

    let answered: Mutex<BTreeMap<u128, bool>> = Mutex::default();
    let refused: Mutex<BTreeMap<u16, usize>> = Mutex::default();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut before: BTreeMap<u128, Row> = BTreeMap::new();
    herdgate.start().unwrap();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (haproxy, answered, refused, stop, asked) = (&haproxy, &answered, &refused, &stop, &asked);
            let is_capped = client % 2 == 0;
            let key = if is_capped { &capped } else { &all };
            scope.spawn(move || {
                let options = json!({ "num_predict": 4 + client });
                let turns = json!([{ "role": "user", "content": PROMPT }]);
                let body = json!({ "model": SHARED_MODEL, "messages": turns, "options": options });
                let request = Request::post("/api/chat", body.to_string()).key(key).header("Connection", "close");
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let Ok(answer) = send(haproxy.address, &request) else { continue };
                    let id = answer.header("x-request-id").and_then(|id| u128::from_str_radix(id, 16).ok());
                    match (answer.status, id) {
                        (200, Some(id)) => drop(answered.lock().unwrap().insert(id, is_capped)),
                        (status, _) => *refused.lock().unwrap().entry(status).or_default() += 1,
                    }
                }
            });
        }
        for _ in 0..kills {
            std::thread::sleep(BETWEEN);
            // What stands in the file now must stand there for ever.
            let ids: Vec<u128> =
                answered.lock().unwrap().keys().copied().filter(|id| !before.contains_key(id)).collect();
            before.extend(ids.into_iter().filter_map(|id| Some((id, settled(&file, id)?))));
            herdgate.kill();
            herdgate.start().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let answered = answered.into_inner().unwrap();
    let asked = asked.into_inner();
    wait_until("nothing to be on its way", Duration::from_secs(30), || {
        herdgate.metric("herdgate_slots_open") == Some(0) && herdgate.metric("herdgate_llm_tokens_reserved") == Some(0)
    })
    .unwrap();
    // Rows are written within milliseconds; the last may be those of the expiry just seen.
    let mut missing: BTreeSet<u128> = answered.keys().copied().collect();
    let mut rows = BTreeMap::new();
    let _ = wait_until("the rows", Duration::from_secs(2), || {
        missing.retain(|id| match settled(&file, *id) {
            Some(row) => {
                rows.insert(*id, row);
                false
            }
            None => true,
        });
        missing.is_empty()
    });
    let by_evidence = rows.values().fold(BTreeMap::new(), |mut counts: BTreeMap<Evidence, usize>, row| {
        *counts.entry(row.evidence).or_default() += 1;
        counts
    });
    println!(
        "{kills} kills, {asked} requests, {} answered, refused {:?}; settled {by_evidence:?}, {} before a kill, \
         {} decided within the last milliseconds before one and never written",
        answered.len(),
        refused.into_inner().unwrap(),
        before.len(),
        missing.len()
    );
    assert!(answered.len() > 100 * kills && before.len() > 50, "too little load");
    for (id, row) in &before {
        assert_eq!(rows.get(id), Some(row), "a settled row changed");
    }
    // What was decided in the milliseconds that no disk had seen yet, and ended while nobody listened.
    assert!(missing.len() <= kills * CLIENTS, "{} of {} are lost", missing.len(), answered.len());

    // The file's sums are those of its rows, and the budget holds across all runs.
    let used: u64 = rows.iter().filter(|(id, _)| answered[id]).map(|(_, row)| row.charge).sum();
    let told = herdgate.run(&["usage", "--key", "capped", "--json"]).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    println!("of 6,000 tokens {} are charged to answers, {told}", used.div_ceil(1000));
    let total = told[0]["charge"].as_f64().unwrap();
    assert!(total >= used as f64 / 1000.0 && total <= 6_000.0 + 4.0 * 1024.0, "{total}");
}

fn settled(file: &Path, id: u128) -> Option<Row> {
    match find(file, id) {
        Ok(Some(StoredLife::Settled(row))) => Some(*row),
        _ => None,
    }
}
