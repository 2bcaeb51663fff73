//! A server that stops is avoided, and used again when it is back.

use super::short_chat;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{SHARED_MODEL, SINGLE_MODEL};
use crate::harness::stack::{Front, Stack};
use std::time::Duration;

/// Stops the first of two servers that share a model, then starts it again.
pub fn a_stopped_server_is_avoided_and_then_back(front: Front) {
    let mut stack = Stack::start(front).unwrap();
    let shared = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    let single = short_chat(SINGLE_MODEL).key(&stack.keys().team).header("Connection", "close");

    stack.fleet.server("ollama1").unwrap().stop();
    // Up to the moment the stop is noticed, a request may fail; never with anything but 502 or 503.
    let mut streak = 0;
    wait_until("ten answers in a row from the other server", Duration::from_secs(20), || {
        let answer = stack.send(&shared).unwrap();
        assert!([200, 502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        streak = if answer.status == 200 { streak + 1 } else { 0 };
        streak == 10
    })
    .unwrap();
    assert!(stack.fleet.server("ollama2").unwrap().counters().unwrap().asked() >= 10);

    // The model only the stopped server has.
    wait_until("503 for a model no live server has", Duration::from_secs(10), || {
        let answer = stack.send(&single).unwrap();
        assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        answer.status == 503 && answer.header("retry-after").is_some()
    })
    .unwrap();

    stack.fleet.server("ollama1").unwrap().start().unwrap();
    wait_until("the server is used again", Duration::from_secs(20), || {
        let _ = stack.send(&shared).unwrap();
        stack.fleet.servers[0].counters().is_ok_and(|counters| counters.asked() > 0)
    })
    .unwrap();
    assert_eq!(stack.send(&single).unwrap().status, 200);
}
