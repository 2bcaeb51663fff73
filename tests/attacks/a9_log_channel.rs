//! Row A9: the usage channel is a way to write into the books. Only a line of ours counts, once, in any order (litellm#36926,
//! litellm#40050: requests counted twice).

use super::{HAPROXY, NGINX};
use crate::cases::short_chat;
use crate::harness::client::{Request, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{Fleet, SHARED_MODEL};
use crate::harness::haproxy::HaProxy;
use crate::harness::herdgate::{Herdgate, Ports};
use crate::harness::nginx::Nginx;
use crate::harness::scratch::Scratch;
use crate::harness::stack::{Front, Proxy, Stack};
use herdgate::decision::fleet::roster::PoolKey;
use herdgate::decision::plan::limits::{Scope, Tokens};
use herdgate::gate::receipt::{GrantClaims, Receipts};
use herdgate::metrics::SettleLabel;
use std::net::UdpSocket;
use std::time::Duration;

/// A stack whose proxy sends its lines to us and not to herdgate.
struct Tapped {
    stack: Stack,
    tap: UdpSocket,
}

/// Returns a stack whose usage lines come here.
pub fn tapped(front: Front) -> (Stack, UdpSocket) {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 200).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    herdgate.start().unwrap();
    let tap = UdpSocket::bind("127.0.0.1:0").unwrap();
    tap.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ports = Ports { usage: tap.local_addr().unwrap(), ..herdgate.ports };
    let proxy = match front {
        Front::HaProxy(version) => Proxy::HaProxy(HaProxy::start(version, &scratch, &ports, &fleet).unwrap()),
        Front::Nginx(version, mode) => Proxy::Nginx(Nginx::start(version, mode, &scratch, &ports, &fleet).unwrap()),
    };
    let stack = Stack { proxy, herdgate, fleet, scratch };
    stack.wait_for_service().unwrap();
    (stack, tap)
}

impl Tapped {
    fn start(front: Front) -> Tapped {
        let (stack, tap) = tapped(front);
        Tapped { stack, tap }
    }

    /// Returns the genuine lines of this many allowed requests, which herdgate has not seen.
    fn lines(&self, count: usize) -> Vec<String> {
        let request = short_chat(SHARED_MODEL).key(&self.stack.keys().team).header("Connection", "close");
        for _ in 0..count {
            let answer = self.stack.send(&request).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let mut lines = Vec::new();
        while lines.len() < count {
            let mut datagram = [0; 8192];
            let read = self.tap.recv(&mut datagram).unwrap();
            let line = String::from_utf8_lossy(&datagram[..read]).into_owned();
            if line.contains("\"receipt\":\"g1.") {
                lines.push(line);
            }
        }
        lines
    }

    fn say(&self, line: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(line, self.stack.herdgate.ports.usage).unwrap();
    }

    fn count(&self, result: SettleLabel) -> u64 {
        metric(&self.stack, &format!("herdgate_usage_lines_total{{result=\"{}\"}}", result.as_str()))
    }

    /// Says lines one after the other and waits until each was taken for what it is.
    fn expect(&self, what: &str, lines: &[Vec<u8>], result: SettleLabel, open: u64) {
        let before = self.count(result);
        lines.iter().for_each(|line| self.say(line));
        let expected = before + lines.len() as u64;
        wait_until(what, Duration::from_secs(5), || self.count(result) == expected).unwrap_or_else(|fault| {
            let all: Vec<_> = SettleLabel::ALL.iter().map(|kind| (kind.as_str(), self.count(*kind))).collect();
            panic!("{fault}: {all:?}")
        });
        wait_until(what, Duration::from_secs(5), || metric(&self.stack, "herdgate_slots_open") == open)
            .unwrap_or_else(|_| panic!("{what}: {} open, not {open}", metric(&self.stack, "herdgate_slots_open")));
    }
}

fn metric(stack: &Stack, series: &str) -> u64 {
    let text =
        send(stack.herdgate.ports.metrics, &Request::get("/metrics").header("Connection", "close")).unwrap().text();
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn bytes(line: &str) -> Vec<u8> {
    line.as_bytes().to_vec()
}

/// Returns the receipt of a line.
fn receipt(line: &str) -> &str {
    line.split("\"receipt\":\"").nth(1).unwrap().split('"').next().unwrap()
}

/// Returns the same line without its uid, which by itself would release what that inquiry took.
fn without_uid(line: &str) -> String {
    let uid = line.split("\"uid\":\"").nth(1).unwrap().split('"').next().unwrap();
    line.replace(uid, "")
}

fn only_a_line_of_ours_counts_and_once(front: Front) {
    let tapped = Tapped::start(front);
    let lines = tapped.lines(6);
    wait_until("six slots", Duration::from_secs(5), || metric(&tapped.stack, "herdgate_slots_open") == 6).unwrap();

    // Forged: one digit of the receipt, the id of one with the code of another, an invented one.
    let own = receipt(&lines[0]);
    let flipped = if own.ends_with('0') { "1" } else { "0" };
    let crossed = [&own[..own.len() - 32], &receipt(&lines[1])[own.len() - 32..]].concat();
    let invented = format!("g1.{}.{}", "0".repeat(16), "f".repeat(32));
    let forged: Vec<Vec<u8>> = [format!("{}{flipped}", &own[..own.len() - 1]), crossed, invented]
        .iter()
        .map(|other| bytes(&lines[0].replace(own, other)))
        .collect();
    tapped.expect("forged lines", &forged, SettleLabel::Forged, 6);

    // Of a sibling: a receipt under the same key file, of another process.
    let key = std::fs::read(tapped.stack.scratch.join("herdgate.secret")).unwrap();
    let key: [u8; 32] = parse_key(&key);
    let claimed = GrantClaims {
        id: 7,
        caller: Scope(5),
        model: PoolKey::new(9),
        tokens: Tokens { prompt: 1, output: 1 },
        unix_s: 1_700_000_000,
    };
    let sibling = Receipts::new(key, 1).grant(&claimed).to_string();
    tapped.expect("a sibling's line", &[bytes(&lines[0].replace(own, &sibling))], SettleLabel::Foreign, 6);

    // Cut, at every place: never half a line's worth. What ends behind the receipt is no JSON either.
    let whole = lines[0].trim_end();
    let mut ends: Vec<usize> = (1..whole.len()).step_by(whole.len() / 12).collect();
    ends.push(whole.len() - 1);
    let cut: Vec<Vec<u8>> = ends.into_iter().map(|end| bytes(&whole[..end])).collect();
    tapped.expect("cut lines", &cut, SettleLabel::Malformed, 6);

    // Quotes and line ends in a field of the client's: the whole datagram is one line, or none.
    let smuggled = lines[0].replace("\"v\":1", "\"v\":1,\"path\":\"x\"}\r\n{\"v\":1");
    tapped.expect("two lines in one", &[bytes(&smuggled)], SettleLabel::Malformed, 6);

    // Out of order, then again: each releases one slot, once.
    let reversed: Vec<Vec<u8>> = lines.iter().rev().map(|line| bytes(line)).collect();
    tapped.expect("lines in reverse", &reversed, SettleLabel::Released, 0);
    tapped.expect("the same again", &reversed, SettleLabel::Nothing, 0);
    let anonymous: Vec<Vec<u8>> = lines.iter().map(|line| bytes(&without_uid(line))).collect();
    tapped.expect("the same without their uid", &anonymous, SettleLabel::Nothing, 0);

    // And the channel still works.
    let more = tapped.lines(1);
    tapped.expect("one more", &[bytes(&more[0])], SettleLabel::Released, 0);
}

/// Returns the key as `herdgate.secret` holds it: 32 bytes, or their hex digits.
fn parse_key(file: &[u8]) -> [u8; 32] {
    if let Ok(raw) = file.try_into() {
        return raw;
    }
    let text = std::str::from_utf8(file).unwrap().trim();
    let digits: Vec<u8> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    digits.try_into().unwrap()
}

#[test]
fn forged_cut_repeated_reordered_and_foreign_lines_through_real_haproxy() {
    only_a_line_of_ours_counts_and_once(HAPROXY);
}

#[test]
fn forged_cut_repeated_reordered_and_foreign_lines_through_real_nginx() {
    only_a_line_of_ours_counts_and_once(NGINX);
}

/// CRLF, quotes and control bytes in what a client writes stay inside their field, in both proxies' lines.
fn what_a_client_writes_stays_in_its_field(front: Front) {
    let (stack, tap) = tapped(front);
    let keys = stack.keys();
    let odd = [
        "/api/chat\",\"receipt\":\"g1.forged",
        "/api/chat%0d%0a{\"v\":1,\"receipt\":\"g1.x\"}",
        "/api/chat\\\",\\\"uid\\\":\\\"x",
        "/api/\u{7f}\u{1}chat",
    ];
    for target in odd {
        let request = Request::post(target, "{}").key(&keys.team).header("User-Agent", "x\",\"receipt\":\"g1.y");
        let _ = stack.send(&request.header("Connection", "close"));
    }
    let last = short_chat(SHARED_MODEL).key(&keys.team).header("Connection", "close");
    assert_eq!(stack.send(&last).unwrap().status, 200);
    let mut read = 0;
    loop {
        let mut datagram = [0; 8192];
        let length = tap.recv(&mut datagram).unwrap();
        let line = herdgate::settle::parse(&datagram[..length]);
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        let line = line.unwrap_or_else(|fault| panic!("{fault}: {text}"));
        assert!(!line.receipt.starts_with("g1.forged") && line.receipt != "g1.x" && line.receipt != "g1.y", "{text}");
        read += 1;
        if line.receipt.starts_with("g1.") {
            break;
        }
    }
    println!("{front:?}: {read} lines read");
}

#[test]
fn what_a_client_writes_stays_in_its_field_in_real_haproxy() {
    what_a_client_writes_stays_in_its_field(HAPROXY);
}

#[test]
fn what_a_client_writes_stays_in_its_field_in_real_nginx() {
    what_a_client_writes_stays_in_its_field(NGINX);
}
