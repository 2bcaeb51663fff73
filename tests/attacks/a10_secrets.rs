//! Rows A3 and A10: nothing that must stay secret is written anywhere in a whole run, and the search for it finds what is.

use super::a9_log_channel::tapped;
use super::{HAPROXY, NGINX};
use crate::harness::client::{Request, Response, send};
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::stack::{Front, Stack};
use herdgate::decision::caller::keyset::Pepper;
use herdgate::files::secret::ReceiptKey;
use herdgate::gate::receipt::Receipts;
use herdgate::keys::Secret;
use herdgate::shared_store::address::StoreAddress;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::net::UdpSocket;
use std::path::Path;

/// Stands in every prompt.
const PROMPT: &str = "the-merger-is-on-friday";
/// A credential that is none of ours, of the form of a JWT.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLWFubg";
/// A wrong key.
const WRONG: &str = "hg_this-one-was-revoked-long-ago-0123456789abcdef";
/// Written into a path on purpose: proxies log paths.
const PLANTED: &str = "hg_planted-where-paths-are-logged-0123456789";

/// Something to look for, and its name.
struct Needle {
    name: &'static str,
    bytes: Vec<u8>,
    /// Files it may stand in.
    at_home: &'static [&'static str],
}

/// A place, and what stands there.
type Place = (String, Vec<u8>);

fn hits(places: &[Place], needles: &[Needle]) -> Vec<String> {
    let mut hits = Vec::new();
    for (place, text) in places {
        for needle in needles {
            let home = needle.at_home.iter().any(|home| place == home);
            if !home && text.windows(needle.bytes.len()).any(|window| window == needle.bytes) {
                hits.push(format!("{} in {place}", needle.name));
            }
        }
    }
    hits
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes).into_bytes()
}

fn needles(stack: &Stack) -> Vec<Needle> {
    let keys = stack.keys();
    let mut needles: Vec<Needle> = [("the prompt", PROMPT), ("a token", TOKEN), ("a wrong key", WRONG)]
        .map(|(name, text)| Needle { name, bytes: text.into(), at_home: &[] })
        .into();
    for secret in [&keys.team, &keys.slow, &keys.all] {
        let digest: [u8; 32] = sha2::Sha256::digest(secret).into();
        needles.push(Needle { name: "a key", bytes: secret.clone().into(), at_home: &[] });
        // Digests have one home.
        needles.push(Needle { name: "a digest", bytes: hex(&digest), at_home: &["keys.toml"] });
        needles.push(Needle { name: "a digest in base64", bytes: base64(&digest), at_home: &["keys.toml"] });
        needles.push(Needle { name: "a digest in bytes", bytes: digest.into(), at_home: &[] });
    }
    // 64 hex digits (src/files/secret.rs).
    let text = std::fs::read_to_string(stack.scratch.join("herdgate.secret")).unwrap().trim().to_owned();
    let key: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let home: &[&str] = &["herdgate.secret"];
    needles.push(Needle { name: "the receipts' key in base64", bytes: base64(&key), at_home: home });
    needles.push(Needle { name: "the receipts' key in bytes", bytes: key, at_home: home });
    needles.push(Needle { name: "the receipts' key", bytes: text.into(), at_home: home });
    needles
}

/// Every request with which a secret comes near a log: good, bad and malformed, the prompt in each body.
fn requests(stack: &Stack) -> Vec<Request> {
    let keys = stack.keys();
    let body = |model: &str, more: &str| {
        format!(r#"{{"model":"{model}","stream":false,"options":{{"num_predict":1}},"prompt":"{PROMPT}"{more}}}"#)
    };
    let post = |body: String| Request::post("/api/generate", body);
    let good = || post(body(SHARED_MODEL, ""));
    let mut requests = vec![
        good().key(&keys.team),
        good().header("x-api-key", &keys.slow),
        good().header("api-key", &keys.all),
        good(),
        good().key(WRONG),
        good().key(TOKEN),
        good().header("Authorization", &format!("Basic {TOKEN}")),
        good().header("Authorization", &keys.team),
        good().key(&keys.team).header("x-api-key", &keys.all),
        good().key(&format!("{},{}", keys.team, keys.slow)),
        good().key(&keys.team).header("Cookie", &format!("session={TOKEN}")),
        good()
            .key(&keys.team)
            .header("User-Agent", &format!("agent {TOKEN}"))
            .header("Referer", &format!("http://a/?{WRONG}")),
        good().key(&keys.team).header("X-Request-Id", TOKEN),
        post(body("mistral:7b", "")).key(&keys.team),
        post(body(SHARED_MODEL, r#","model":"x""#)).key(&keys.team),
        post(body(SHARED_MODEL, ",oops")).key(&keys.team),
        post(format!(r#"{{"prompt":"{PROMPT}"#)).key(&keys.team),
        post(body(SHARED_MODEL, "")).key(&keys.team).header("Content-Encoding", "gzip"),
        Request::post("/api/pull", body("x", "")).key(&keys.team),
        Request::post("/nowhere", body("x", "")).key(&keys.team),
        Request::post(&format!("/api/generate?key={}", keys.team), body(SHARED_MODEL, "")).key(&keys.team),
        Request::post(&format!("/api/generate?key={}", keys.all), body(SHARED_MODEL, "")),
        Request::get("/v1/models").key(&keys.team),
        Request::get("/api/tags").key(WRONG),
    ];
    requests.extend((0..6).map(|_| good().header("x-api-key", &keys.slow)));
    requests
}

/// All files below a folder, by their path in it.
fn files(folder: &Path, below: &str, places: &mut Vec<Place>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), places);
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            places.push((name, bytes));
        }
    }
}

/// What a client is told: everything of a refusal, the head of what a server answered.
fn told(answers: &[Response], places: &mut Vec<Place>) {
    for answer in answers {
        let mut text = format!("{:?}", answer.headers).into_bytes();
        if answer.status != 200 {
            text.extend_from_slice(&answer.body);
        }
        places.push((format!("an answer of status {}", answer.status), text));
    }
}

fn lines(stack: &Stack, tap: &UdpSocket, places: &mut Vec<Place>) {
    tap.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let mut datagram = [0; 16 * 1024];
    while let Ok(read) = tap.recv(&mut datagram) {
        places.push(("a usage line".to_owned(), datagram[..read].to_vec()));
    }
    places.extend(stack.proxy.log_lines().into_iter().map(|line| ("the proxy's log".to_owned(), line.into_bytes())));
}

fn nothing_secret_is_written_anywhere(front: Front) {
    let (mut stack, tap) = tapped(front);
    let needles = needles(&stack);
    let ask = |stack: &Stack, request: &Request| stack.send(&request.clone().header("Connection", "close"));
    let mut answers: Vec<Response> = requests(&stack).iter().filter_map(|request| ask(&stack, request).ok()).collect();
    let mut places = Vec::new();
    // What herdgate tells on its ports and to its operators.
    for path in ["/metrics", "/status", "/livez", "/readyz", "/", "/nowhere"] {
        let answer = send(stack.herdgate.ports.metrics, &Request::get(path).header("Connection", "close")).unwrap();
        places.push((path.to_owned(), answer.body));
    }
    for command in [&["key", "list"][..], &["key", "list", "--json"], &["status", "--json"], &["check"]] {
        places.push((command.join(" "), stack.herdgate.run(command).unwrap().into_bytes()));
    }
    // Gone, the proxy answers by itself; back again, it starts from its files.
    let (good, bad) = (requests(&stack).swap_remove(0), requests(&stack).swap_remove(4));
    stack.herdgate.stop();
    answers.extend([&good, &bad].into_iter().filter_map(|request| ask(&stack, request).ok()));
    stack.herdgate.start().unwrap();
    stack.wait_for_service().unwrap();
    stack.herdgate.stop();
    told(&answers, &mut places);
    lines(&stack, &tap, &mut places);
    files(stack.scratch.path(), "", &mut places);

    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    for status in [200, 400, 401, 403, 404, 415, 429, 503] {
        assert!(statuses.contains(&status), "no answer of status {status}: {statuses:?}");
    }
    for place in [
        "a usage line",
        "the proxy's log",
        "herdgate.log",
        "keys.toml",
        "keys.toml.used",
        "herdgate.secret",
        "/metrics",
    ] {
        assert!(places.iter().any(|(name, text)| name == place && !text.is_empty()), "{place} was not searched");
    }
    let found = hits(&places, &needles);
    println!(
        "{front:?}: {} places, {} bytes searched for {} secrets: {} hits",
        places.len(),
        places.iter().map(|(_, text)| text.len()).sum::<usize>(),
        needles.len(),
        found.len()
    );
    assert!(found.is_empty(), "{found:#?}");

    // The search finds what is there: in the home of each, in a path that a client wrote, and in a file.
    let homeless: Vec<Needle> = needles.into_iter().map(|needle| Needle { at_home: &[], ..needle }).collect();
    let at_home = hits(&places, &homeless);
    assert!(at_home.contains(&"the receipts' key in herdgate.secret".to_owned()), "{at_home:?}");
    assert!(at_home.iter().any(|hit| hit.starts_with("a digest") && hit.ends_with("keys.toml")), "{at_home:?}");
    let _ = ask(&stack, &Request::post(&format!("/api/{PLANTED}"), "{}").key(&stack.keys().team));
    stack.scratch.write("planted.log", &format!("key={}\n", stack.keys().team)).unwrap();
    let mut places = Vec::new();
    lines(&stack, &tap, &mut places);
    files(stack.scratch.path(), "", &mut places);
    let planted = Needle { name: "the planted one", bytes: PLANTED.into(), at_home: &[] };
    let found = hits(&places, &[planted]);
    assert!(found.contains(&"the planted one in the proxy's log".to_owned()), "{found:?}");
    let found = hits(&places, &homeless);
    assert!(found.contains(&"a key in planted.log".to_owned()), "{found:?}");
}

#[test]
fn nothing_secret_is_written_anywhere_behind_real_haproxy() {
    nothing_secret_is_written_anywhere(HAPROXY);
}

#[test]
fn nothing_secret_is_written_anywhere_behind_real_nginx() {
    nothing_secret_is_written_anywhere(NGINX);
}

#[test]
fn what_holds_a_secret_wipes_it_when_dropped_and_never_shows_it() {
    fn wipes<T: zeroize::ZeroizeOnDrop>() {}
    wipes::<ReceiptKey>(); // the receipts' key, as read from its file
    wipes::<Sha256>(); // the same and the pepper, as they are used: HMAC keeps its key as two states of SHA-256
    wipes::<SecretString>(); // the shared store's password
    wipes::<zeroize::Zeroizing<String>>(); // an API key while it is made

    let word = "hunter2.hunter2.hunter2.hunter2."; // 32 bytes
    let bytes: [u8; 32] = word.as_bytes().try_into().unwrap();
    let debug_of_bytes = "104, 117, 110, 116, 101, 114, 50";
    let shown = [
        format!("{:?}", ReceiptKey::new(Box::new(bytes))),
        format!("{:?}", Receipts::new(bytes, 1)),
        format!("{:?}", Pepper::new(&bytes)),
        format!("{:?}", Secret::imported(word, true).unwrap()),
        format!("{:?}", StoreAddress::parse(&format!("redis://herdgate:{word}@127.0.0.1")).unwrap()),
        StoreAddress::parse(&format!("redis://:{word}@127.0.0.1")).unwrap().to_string(),
    ];
    for shown in shown {
        assert!(!shown.contains("hunter2") && !shown.contains(debug_of_bytes), "{shown}");
    }
}
