//! Break-glass as shipped: the file with its marks taken off, herdgate alive and away, the glass closed and open.

use crate::cases::short_chat;
use crate::harness::client::{Request, Response, send};
use crate::harness::fleet::{FOREIGN_MODEL, Fleet, SHARED_MODEL};
use crate::harness::haproxy::{HaProxy, Version};
use crate::harness::herdgate::Herdgate;
use crate::harness::scratch::Scratch;
use crate::harness::stack::{Proxy, Stack};
use sha2::Digest;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// The emergency secret, and one that is not.
const SECRET: &str = "hg_the-secret-in-the-sealed-envelope-0123456789";
const OTHER: &str = "hg_another-secret-in-no-file-at-all-0123456789";

/// Requests a minute, as the shipped file says.
const RATE: usize = 30;

struct Glass {
    stack: Stack,
}

impl Glass {
    /// Returns the shipped file without its marks, prepared as haproxy/README.md says.
    fn prepare(version: Version) -> Glass {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::start(&scratch, 200).unwrap();
        let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
        herdgate.start().unwrap();
        let folder = scratch.copy(&crate::harness::root().join("haproxy"), "haproxy").unwrap();
        let text = std::fs::read_to_string(folder.join("haproxy.cfg")).unwrap();
        assert!(text.matches("#! ").count() > 10);
        scratch.write("haproxy/haproxy.cfg", &text.replace("#! ", "")).unwrap();
        let digest: String = sha2::Sha256::digest(SECRET).iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = std::fs::read_to_string(folder.join("emergency-keys.map")).unwrap();
        scratch.write("haproxy/emergency-keys.map", &format!("{keys}{digest} on-call\n")).unwrap();
        let proxy = HaProxy::start_on(&folder.join("haproxy.cfg"), version, &scratch, &herdgate.ports, &fleet).unwrap();
        let said = proxy.process.output();
        assert!(!said.contains("WARNING") && !said.contains("ALERT"), "{said}");
        let stack = Stack { proxy: Proxy::HaProxy(proxy), herdgate, fleet, scratch };
        stack.wait_for_service().unwrap();
        Glass { stack }
    }

    /// What the operator types, on the runtime socket.
    fn set(&self, word: &str) {
        let mut socket = UnixStream::connect(self.stack.scratch.join("haproxy.sock")).unwrap();
        socket.write_all(format!("set map break-glass.map glass {word}\n").as_bytes()).unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        assert!(said.trim().is_empty(), "{said}");
    }

    fn send(&self, request: Request) -> Response {
        send(self.stack.proxy.address(), &request.header("Connection", "close")).unwrap()
    }

    fn refused(&self, what: &str, request: Request, status: u16) {
        let before = self.stack.fleet.asked().unwrap();
        let answer = self.send(request);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(self.stack.fleet.asked().unwrap(), before, "{what}");
    }
}

fn break_glass(version: Version) {
    let mut glass = Glass::prepare(version);
    let emergency = || short_chat(SHARED_MODEL).key(SECRET);
    let team = glass.stack.keys().team.clone();

    // Closed, herdgate alive: the secret is nobody's; then away: 503 as before, for everybody.
    glass.refused("closed, herdgate alive", emergency(), 401);
    assert_eq!(glass.send(short_chat(SHARED_MODEL).key(&team)).status, 200);
    glass.stack.herdgate.stop();
    glass.refused("closed, herdgate away", emergency(), 503);
    glass.refused("closed, a plain key", short_chat(SHARED_MODEL).key(&team), 503);

    glass.set("open");
    // Nobody but the sealed secret, as a bearer token, alone, on these routes.
    for (what, request) in [
        ("no key", short_chat(SHARED_MODEL)),
        ("a plain key", short_chat(SHARED_MODEL).key(&team)),
        ("another secret", short_chat(SHARED_MODEL).key(OTHER)),
        ("its digest", short_chat(SHARED_MODEL).key(&hex(SECRET))),
        ("without the scheme", short_chat(SHARED_MODEL).header("Authorization", SECRET)),
        ("as another header", short_chat(SHARED_MODEL).header("x-api-key", SECRET)),
        ("with another credential", emergency().header("x-api-key", OTHER)),
        ("twice", emergency().header("Authorization", &format!("Bearer {SECRET}"))),
        ("pull", Request::post("/api/pull", r#"{"model":"x"}"#).key(SECRET)),
        ("a spelling of pull", Request::post("/api/%70ull", r#"{"model":"x"}"#).key(SECRET)),
        ("delete", Request::new("DELETE", "/api/delete").key(SECRET)),
        ("a list", Request::get("/api/tags").key(SECRET)),
        ("a query", Request::post("/api/chat?model=x", "{}").key(SECRET)),
        ("a path around", Request::post("/api/chat/../pull", "{}").key(SECRET)),
        ("an agent's variable by header", short_chat(SHARED_MODEL).header("X-Herdgate-Emergency", "on-call")),
    ] {
        glass.refused(what, request, 503);
    }

    // It passes, thirty times, to the one server, without its credential; then no more.
    let mut answers = Vec::new();
    for _ in 0..RATE + 5 {
        answers.push(glass.send(emergency().header("X-Forwarded-For", "127.0.0.1")));
    }
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, RATE, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    for late in &answers[RATE..] {
        assert_eq!((late.status, late.header("retry-after")), (429, Some("60")), "{}", late.text());
    }
    let first = &mut glass.stack.fleet.servers[0];
    for seen in first.counters().unwrap().asked_recently() {
        for (name, value) in &seen.headers {
            assert!(!name.contains("authorization") && !name.contains("forwarded"), "{name}: {value}");
            assert!(!value.contains(SECRET), "{name}");
        }
    }
    for other in &glass.stack.fleet.servers[1..] {
        assert_eq!(other.counters().unwrap().asked_recently().filter(|seen| seen.model == FOREIGN_MODEL).count(), 0);
    }
    // Logged by the secret's name, and without the secret.
    let lines = glass.stack.proxy.log_lines();
    let named =
        lines.iter().filter(|line| line.contains(r#""code":"on-call""#) && line.contains(r#""verdict":"emergency""#));
    assert!(named.count() >= RATE, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(SECRET)));

    // Closed again, and herdgate back: as before.
    glass.set("closed");
    glass.refused("closed again", emergency(), 503);
    glass.stack.herdgate.start().unwrap();
    glass.stack.wait_for_service().unwrap();
    glass.refused("closed again, herdgate back", emergency(), 401);
    // Open while herdgate is well: the others are decided on as ever.
    glass.set("open");
    assert_eq!(glass.send(short_chat(SHARED_MODEL).key(&team)).status, 200);
    glass.refused("open, herdgate well, another model", short_chat(FOREIGN_MODEL).key(&team), 404);
    glass.refused("open, herdgate well, no key", short_chat(SHARED_MODEL), 401);
}

fn hex(secret: &str) -> String {
    sha2::Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn break_glass_passes_the_sealed_secrets_alone_and_slowly_on_debian_haproxy() {
    break_glass(Version::Debian);
}

#[test]
fn break_glass_passes_the_sealed_secrets_alone_and_slowly_on_haproxy_3_1_or_newer() {
    break_glass(Version::Newer);
}

/// As shipped nothing of it is in force: no secret of any file passes while herdgate is away.
#[test]
fn as_shipped_there_is_no_glass_to_break() {
    let mut stack = Stack::start(super::HAPROXY).unwrap();
    stack.herdgate.stop();
    for key in [SECRET, "", "on-call"] {
        let answer = stack.send(&short_chat(SHARED_MODEL).key(key).header("Connection", "close")).unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}
