//! Streams: tokens arrive as they are written, and a client that leaves is noticed.

use super::stream;
use crate::harness::client::{Conversation, Request};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::stack::{Front, Stack};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The simulators write a token each 50 ms. A proxy that holds some back makes most gaps nearly zero and few long; the
/// tolerance is for a busy machine.
const GAP_MS: RangeInclusive<f64> = 35.0..=65.0;

fn median_gap_ms(stack: &Stack) -> f64 {
    let answer = stack.send(&stream(20).key(&stack.keys().team)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let median = answer.median_gap_ms().unwrap();
    println!("median gap {median:.1} ms, all: {:.0?}", answer.line_gaps_ms());
    median
}

/// On the shipped files.
pub fn tokens_written_50_ms_apart_arrive_50_ms_apart(front: Front) {
    let stack = Stack::start(front).unwrap();
    let median = median_gap_ms(&stack);
    assert!(GAP_MS.contains(&median), "median gap {median} ms");
}

/// With each first of `edits` replaced by the second in them: shows that the test above can fail.
pub fn with_these_edits_tokens_arrive_in_bursts(front: Front, edits: &[(&str, &str)]) {
    let stack = Stack::start_edited(edits, front).unwrap();
    let median = median_gap_ms(&stack);
    assert!(!GAP_MS.contains(&median), "median gap {median} ms with {edits:?}");
}

/// The same before the first byte of an answer: this is what HAProxy's abortonclose is for.
pub fn a_client_that_leaves_before_the_answer_is_noticed_by_the_server(front: Front) {
    let stack = Stack::start(front).unwrap();
    let body = format!(r#"{{"model":"{SHARED_MODEL}","prompt":"x","stream":false,"options":{{"num_predict":400}}}}"#);
    let request = Request::post("/api/generate", body).key(&stack.keys().team);
    let conversation = Conversation::start(stack.proxy.address(), &request).unwrap();
    wait_until("a server works on it", Duration::from_secs(5), || stack.fleet.asked() == Ok(1)).unwrap();
    conversation.leave();
    wait_until("the server sees the abort", Duration::from_secs(3), || stack.fleet.aborts() == Ok(1)).unwrap();
}

/// The server sees the abort, so that the GPU is free again.
pub fn a_client_that_leaves_is_noticed_by_the_server(front: Front) {
    let stack = Stack::start(front).unwrap();
    let request = stream(400).key(&stack.keys().team);
    let mut conversation = Conversation::start(stack.proxy.address(), &request).unwrap();
    conversation.read_body(200).unwrap();
    assert_eq!(conversation.response.status, 200);
    assert_eq!(stack.fleet.aborts().unwrap(), 0);
    conversation.leave();
    wait_until("the server sees the abort", Duration::from_secs(3), || stack.fleet.aborts() == Ok(1)).unwrap();
}
