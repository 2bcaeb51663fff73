//! herdgate absent, stopped, killed under load, or replaced by something else: every client gets 503, no server is asked,
//! and service returns by itself.

use super::short_chat;
use crate::harness::client::{self, Request, Response};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::stack::{Front, Stack};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Clients at once, and requests of each.
const CLIENTS: usize = 8;
const ROUNDS: usize = 3;

/// Sends `CLIENTS * ROUNDS` requests that would be allowed, a model list among them.
fn ask(stack: &Stack) -> Vec<Result<Response, String>> {
    let chat = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    let list = Request::get("/v1/models").key(&stack.keys().team).header("Connection", "close");
    let answers = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let request = if client == 0 { &list } else { &chat };
            let answers = &answers;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let answer = stack.send(request);
                    answers.lock().unwrap().push(answer);
                }
            });
        }
    });
    answers.into_inner().unwrap()
}

/// Every one of them is a 503 in JSON that says when to come back. Returns how many.
fn all_503(what: &str, answers: Vec<Result<Response, String>>) -> usize {
    let count = answers.len();
    for answer in answers {
        let answer = answer.unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        assert!(answer.json()["error"].is_object(), "{what}: {}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{what}");
    }
    count
}

/// Not running, then started.
pub fn absent(front: Front) {
    let mut stack = Stack::start(front).unwrap();
    stack.herdgate.stop();
    let struck = all_503("absent", ask(&stack));
    println!("absent: struck {struck} times");
    assert_eq!(stack.fleet.asked().unwrap(), 0);
    stack.herdgate.start().unwrap();
    stack.wait_for_service().unwrap();
}

/// Stopped by a signal: it listens and never answers; then continued.
pub fn stopped(front: Front) {
    let mut stack = Stack::start(front).unwrap();
    stack.herdgate.process().unwrap().pause().unwrap();
    let struck = all_503("stopped", ask(&stack));
    println!("stopped: struck {struck} times");
    assert_eq!(stack.fleet.asked().unwrap(), 0);
    stack.herdgate.process().unwrap().resume();
    stack.wait_for_service().unwrap();
}

/// Killed while requests run: each is answered whole or refused with 503, and a server saw the former only.
pub fn killed_under_load(front: Front) {
    let mut stack = Stack::start(front).unwrap();
    let request = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    let address = stack.proxy.address();
    let stop = AtomicBool::new(false);
    let (passed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client::send(address, &request);
                    match answer.as_ref().map(|answer| answer.status) {
                        Ok(200) => passed.fetch_add(1, Ordering::Relaxed),
                        Ok(503) => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("killed under load: {other:?}"),
                    };
                }
            });
        }
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let limit = Duration::from_secs(15);
        let load = wait_until("some load", limit, || count(&passed) >= 20);
        stack.herdgate.kill();
        let strikes = wait_until("some strikes", limit, || count(&refused) >= 20);
        stop.store(true, Ordering::Relaxed);
        load.and(strikes).unwrap();
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    println!("killed under load: {passed} passed before, struck {refused} times");
    assert_eq!(stack.fleet.asked().unwrap(), u64::try_from(passed).unwrap());
    let struck = all_503("after the kill", ask(&stack));
    println!("killed: struck {struck} times");
    assert_eq!(stack.fleet.asked().unwrap(), u64::try_from(passed).unwrap());
    stack.herdgate.start().unwrap();
    stack.wait_for_service().unwrap();
}

/// Something else listens where herdgate did, and answers each connection with one of `answers`; then herdgate is back.
/// `judge` says what a client may see.
pub fn garbage(front: Front, answers: &[&'static [u8]], judge: fn(&str, Vec<Result<Response, String>>) -> usize) {
    let mut stack = Stack::start(front).unwrap();
    stack.herdgate.stop();
    for (number, answer) in answers.iter().enumerate() {
        let what = format!("garbage {number}");
        let ports = stack.herdgate.ports;
        let listeners = [Garbage::listen(ports.spop, answer), Garbage::listen(ports.http, answer)];
        // A proxy that has noticed the fault asks no more, except by its own checks: go on until it did.
        let mut asked = 0;
        let mut struck: usize = 0;
        wait_until("the fault strikes", Duration::from_secs(10), || {
            asked += judge(&what, ask(&stack));
            struck = listeners.iter().map(|listener| listener.struck.load(Ordering::Relaxed)).sum();
            struck > 0
        })
        .unwrap();
        println!("{what}: {asked} requests, struck {struck} times");
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
    stack.herdgate.start().unwrap();
    stack.wait_for_service().unwrap();
}

/// As [`garbage`], where every client must get 503.
pub fn garbage_is_503(front: Front, answers: &[&'static [u8]]) {
    garbage(front, answers, all_503);
}

/// A listener that answers whatever comes with the same bytes, until dropped.
struct Garbage {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    struck: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Garbage {
    fn listen(address: SocketAddr, answer: &'static [u8]) -> Garbage {
        let listener = TcpListener::bind(address).unwrap();
        let (ended, struck) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, count) = (ended.clone(), struck.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let mut question = [0; 65536];
                if matches!(stream.read(&mut question), Ok(1..)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                let _ = stream.write_all(answer);
            }
        });
        Garbage { address, ended, struck, thread: Some(thread) }
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
