//! How the real daemon starts and stops: nothing that was read stays unanswered, and nothing is left behind.

use crate::harness::deadline::{Stopwatch, wait_until};
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::herdgate::Herdgate;
use crate::harness::port;
use crate::harness::process::built;
use crate::harness::scratch::Scratch;
use crate::harness::spop::{Spop, question, verdict};
use herdgate::spop::frame::FrameKind;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Questions on one connection that are under way when the signal comes.
const PIPELINED: u64 = 20;

fn running() -> (Scratch, Fleet, Herdgate) {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    herdgate.start_at("info").unwrap();
    (scratch, fleet, herdgate)
}

#[test]
fn sigterm_answers_what_was_asked_and_leaves_nothing_behind() {
    let (scratch, _fleet, mut herdgate) = running();
    let mut connections: Vec<Spop> = (0..50).map(|_| Spop::connect(herdgate.ports.spop).unwrap()).collect();
    let batch: Vec<u8> =
        (1..=PIPELINED).flat_map(|stream| question(stream, &herdgate.keys.team, SHARED_MODEL)).collect();
    for connection in &mut connections {
        connection.write(&batch).unwrap();
    }
    let watch = Stopwatch::new();
    herdgate.process().unwrap().signal(Signal::TERM);
    let mut answered = 0;
    for connection in &mut connections {
        loop {
            match connection.frame().unwrap() {
                (FrameKind::Ack, _, payload) => {
                    assert!(verdict(&payload).unwrap().starts_with("allow:"));
                    answered += 1;
                }
                (FrameKind::AgentDisconnect, ..) => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(answered, 50 * PIPELINED);
    drop(connections);
    let mut ended = None;
    wait_until("it ends", Duration::from_secs(8), || {
        ended = herdgate.process().unwrap().ended();
        ended.is_some()
    })
    .unwrap();
    println!("{answered} questions answered after SIGTERM; ended with {} after {:?}", ended.unwrap(), watch.elapsed());
    assert_eq!(ended.unwrap().code(), Some(0));
    assert!(!scratch.join("herdgate.sock").exists());
    // On the same ports and socket.
    herdgate.start_at("info").unwrap();
}

#[test]
fn status_is_a_page_for_people() {
    let (_scratch, _fleet, herdgate) = running();
    let said =
        Command::new(built("herdgate").unwrap()).args(["status", "--config"]).arg(herdgate.config()).output().unwrap();
    let page = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    assert!(said.status.success() && lines.len() == 4, "{page}");
    assert!(lines[0].ends_with(" s, 3 keys, 5 plans"), "{page}");
    assert!(lines[1].starts_with("  ollama1              up        2 models, "), "{page}");
    assert!(lines[2].starts_with("  ollama2              up        1 model, "), "{page}");
}

#[test]
fn a_port_in_use_is_exit_status_2_and_named() {
    let (scratch, _fleet, herdgate) = running();
    let said =
        Command::new(built("herdgate").unwrap()).args(["serve", "--config"]).arg(herdgate.config()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(2), "{text}");
    assert!(text.contains(&format!("listening on {} ([listen] spop): ", herdgate.ports.spop)), "{text}");
    assert!(scratch.join("herdgate.sock").exists(), "the running daemon's socket stays");
}

#[test]
fn sighup_does_not_end_a_daemon_that_read_standard_input() {
    let scratch = Scratch::new().unwrap();
    let mut child = Command::new(built("herdgate").unwrap())
        .args(["serve", "--config", "-"])
        .current_dir(scratch.path())
        .stdin(Stdio::piped())
        .stderr(std::fs::File::create(scratch.join("log")).unwrap())
        .spawn()
        .unwrap();
    let off = ["spop", "agent_check", "metrics", "control"].map(|port| format!("{port} = \"off\"\n")).concat();
    let http = port::free().unwrap();
    let server = "[[server]]\nname = \"a\"\nurl = \"http://127.0.0.1:9\"\n\n[plans.team]\nmodels = [\"*\"]\n";
    let config = format!("[listen]\nhttp = \"{http}\"\n{off}\n{server}");
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let log = || std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
    let serving = wait_until("it serves", Duration::from_secs(10), || log().contains("serving"));
    let pid = Pid::from_child(&child);
    let mut ended = None;
    for signal in [Signal::HUP, Signal::TERM] {
        kill_process(pid, signal).unwrap();
        let limit = if signal == Signal::HUP { Duration::from_millis(500) } else { Duration::from_secs(10) };
        let gone = wait_until("it ends", limit, || {
            ended = child.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(gone.is_ok(), signal == Signal::TERM, "{signal:?}: {ended:?}\n{}", log());
    }
    assert!(serving.is_ok() && ended.unwrap().code() == Some(0), "{ended:?}\n{}", log());
}
