//! What is on its way is counted, and ends: concurrency limits, and 2,000 requests of which a third leave.

use super::stream;
use crate::harness::client::{Conversation, Request, send};
use crate::harness::deadline::wait_until;
use crate::harness::stack::{Front, Stack};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A caller with two streams under way is told to wait, and may go on when one ends.
pub fn a_caller_holds_as_many_requests_as_its_plan_says(front: Front) {
    let stack = Stack::start(front).unwrap();
    let key = stack.herdgate.new_key("narrow", "narrow").unwrap();
    let list = Request::get("/v1/models").key(&key).header("Connection", "close");
    wait_until("the key", Duration::from_secs(5), || stack.send(&list).is_ok_and(|answer| answer.status == 200))
        .unwrap();
    let request = stream(20).key(&key);
    let mut streams: Vec<Conversation> =
        (0..2).map(|_| Conversation::start(stack.proxy.address(), &request).unwrap()).collect();
    for under_way in &mut streams {
        under_way.read_body(1).unwrap();
    }
    let third = stack.send(&request).unwrap();
    assert_eq!(third.status, 429, "{}", third.text());
    assert!(third.text().contains("too many requests at once"), "{}", third.text());
    assert!(third.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s >= 1)));
    // One is read to its end, the other is left.
    streams.pop().unwrap().leave();
    streams.pop().unwrap().read_to_end().unwrap();
    wait_until("the slots to be free", Duration::from_secs(5), || open_slots(&stack) == Some(0)).unwrap();
    assert_eq!(stack.send(&stream(1).key(&key)).unwrap().status, 200);
}

/// LiteLLM #20256, LiteLLM PR 30522 and olla#144 in one: whatever clients do, nothing stays open.
pub fn two_thousand_requests_a_third_aborted_leave_no_slot_open(front: Front) {
    const REQUESTS: usize = 2_000;
    let stack = Stack::start(front).unwrap();
    let request = stream(2).key(&stack.keys().team);
    let address = stack.proxy.address();
    let (next, left, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    if number % 3 == 0 {
                        leave_at_some_moment(address, &request, number);
                        left.fetch_add(1, Ordering::Relaxed);
                    } else if send(address, &request).is_ok_and(|answer| answer.status == 200) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (left, done) = (left.into_inner(), done.into_inner());
    wait_until("no slot open", Duration::from_secs(15), || open_slots(&stack) == Some(0)).unwrap_or_else(|fault| {
        panic!("{fault}: {:?} open", open_slots(&stack));
    });
    let lines: Vec<u64> =
        ["released", "unheard", "forged", "malformed"].iter().map(|result| usage_lines(&stack, result)).collect();
    let expired = metric(&stack, "herdgate_slots_expired_total").unwrap_or(0);
    println!("{done} ended, {left} left; lines released {}, unheard {}; expired {expired}", lines[0], lines[1]);
    assert!(left > REQUESTS / 4 && done > REQUESTS / 2, "{left} left, {done} done");
    assert!(lines[0] as usize >= done, "{} lines released a slot", lines[0]);
    assert_eq!((lines[2], lines[3], expired), (0, 0, 0), "forged, malformed, expired");
}

/// During the question, while waiting for a server, before the first token, and after it.
fn leave_at_some_moment(address: SocketAddr, request: &Request, number: usize) {
    let Ok(mut conversation) = Conversation::start(address, request) else { return };
    match number / 3 % 4 {
        0 => {}
        1 => std::thread::sleep(Duration::from_millis((number % 7) as u64)),
        2 => std::thread::sleep(Duration::from_millis((number % 60) as u64)),
        _ => drop(conversation.read_body(1)),
    }
    conversation.leave();
}

fn open_slots(stack: &Stack) -> Option<u64> {
    metric(stack, "herdgate_slots_open")
}

fn usage_lines(stack: &Stack, result: &str) -> u64 {
    metric(stack, &format!("herdgate_usage_lines_total{{result=\"{result}\"}}")).unwrap_or(0)
}

fn metric(stack: &Stack, series: &str) -> Option<u64> {
    let scrape = Request::get("/metrics").header("Connection", "close");
    let text = send(stack.herdgate.ports.metrics, &scrape).ok()?.text();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}
