//! Who is limited with whom: secrets of one key, users behind a key, teams, callers without a key, and failed credentials.

use super::short_chat;
use crate::harness::client::{Request, Response, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::herdgate::RARE_BURST;
use crate::harness::stack::{Front, Stack};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const USER: &str = "X-OpenWebUI-User-Email";

/// A key changes its secret three times under load: with a grace both secrets pass, and no answer is wrong.
pub fn a_key_is_rotated_under_load_without_a_wrong_answer(front: Front) {
    let stack = Stack::start(front).unwrap();
    let first = stack.herdgate.new_key("ann", "team").unwrap();
    wait_for_key(&stack, &first);
    let live = Mutex::new(vec![first.clone()]);
    let (stop, asked, wrong) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let second = std::thread::scope(|scope| {
        for client in 0..4 {
            let (stack, live, stop, asked, wrong) = (&stack, &live, &stop, &asked, &wrong);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let secrets = live.lock().unwrap().clone();
                    let turn = asked.fetch_add(1, Ordering::Relaxed) + client;
                    let answer = stack.send(&list().key(&secrets[turn % secrets.len()]));
                    if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                        wrong.lock().unwrap().push(format!("{answer:?}"));
                    }
                }
            });
        }
        let mut newest = first.clone();
        let mut under_load = Ok(());
        for _ in 0..3 {
            newest = stack.herdgate.rotate_key("ann", "1h").unwrap();
            wait_for_key(&stack, &newest);
            live.lock().unwrap().push(newest.clone());
            let enough = asked.load(Ordering::Relaxed) + 80;
            let answered = || asked.load(Ordering::Relaxed) >= enough;
            under_load = under_load.and_then(|()| wait_until("80 answers", Duration::from_secs(20), answered));
        }
        stop.store(true, Ordering::Relaxed);
        under_load.unwrap();
        newest
    });
    let (asked, wrong) = (asked.into_inner(), wrong.into_inner().unwrap());
    println!("{asked} answers over three rotations, {} wrong", wrong.len());
    assert!(asked > 200 && wrong.is_empty(), "{asked} asked, {} wrong, first {:?}", wrong.len(), wrong.first());
    // Without grace the ones before end at once; the identity goes on with the new one alone.
    let last = stack.herdgate.rotate_key("ann", "0s").unwrap();
    wait_for_key(&stack, &last);
    for secret in [&first, &second] {
        assert_eq!(stack.send(&list().key(secret)).unwrap().status, 401);
    }
}

/// Limits belong to the key and not to the secret: a rotation does not begin them anew.
pub fn a_rotated_secret_begins_no_limit_anew(front: Front) {
    let stack = Stack::start(front).unwrap();
    let first = stack.herdgate.new_key("ann", "rare").unwrap();
    let second = stack.herdgate.rotate_key("ann", "1h").unwrap();
    wait_for_key(&stack, &second);
    for turn in 0..RARE_BURST {
        let secret = if turn % 2 == 0 { &first } else { &second };
        assert_eq!(stack.send(&chat().key(secret)).unwrap().status, 200, "{turn}");
    }
    for secret in [&first, &second] {
        refused(&stack.send(&chat().key(secret)).unwrap(), 60);
    }
}

/// Open WebUI's header moves requests to a user's books for the key that names it, and for no other.
pub fn users_behind_a_key_are_limited_each(front: Front) {
    let stack = Stack::start(front).unwrap();
    let more = ["--on-behalf-of", USER, "--user-plan", "rare"];
    let webui = stack.herdgate.new_key_with("webui", "team", &more).unwrap();
    wait_for_key(&stack, &webui);
    let ask = |user: &str| stack.send(&chat().key(&webui).header(USER, user)).unwrap();
    for (turn, user) in ["ann@example.com", "Ann@Example.com", "  ann@example.com "].into_iter().enumerate() {
        assert_eq!(ask(user).status, 200, "{turn}");
    }
    refused(&ask("ann@example.com"), 60);
    refused(&ask("ANN@EXAMPLE.COM"), 60);
    assert_eq!(ask("bob@example.com").status, 200, "another user");
    // Nobody gets around it by naming nobody: all such share one user's limits.
    for turn in 0..RARE_BURST {
        let nobody = if turn == 0 { stack.send(&chat().key(&webui)).unwrap() } else { ask("") };
        assert_eq!(nobody.status, 200, "{turn}");
    }
    refused(&ask(""), 60);
    refused(&stack.send(&chat().key(&webui)).unwrap(), 60);
    // Two names in one field: how a proxy joins two fields.
    let two = ask("carol@example.com, dave@example.com");
    assert_eq!(two.status, 403, "{}", two.text());
    // Other keys are not moved by it, neither into Ann's limits nor out of their own.
    let rare = stack.herdgate.new_key("rare", "rare").unwrap();
    wait_for_key(&stack, &rare);
    for turn in 0..RARE_BURST + 2 {
        let team = stack.send(&chat().key(&stack.keys().team).header(USER, "ann@example.com")).unwrap();
        assert_eq!(team.status, 200, "{turn}");
        let own = stack.send(&chat().key(&rare).header(USER, &format!("user{turn}"))).unwrap();
        assert_eq!(own.status, if turn < RARE_BURST { 200 } else { 429 }, "{turn}");
    }
}

/// The header is read for its key alone where it comes twice, too.
pub fn a_user_named_twice_is_refused(front: Front) {
    let stack = Stack::start(front).unwrap();
    let webui = stack.herdgate.new_key_with("webui", "team", &["--on-behalf-of", USER]).unwrap();
    wait_for_key(&stack, &webui);
    let twice = |key: &str| stack.send(&chat().key(key).header(USER, "ann").header(USER, "bob")).unwrap();
    assert_eq!(twice(&webui).status, 403);
    assert_eq!(twice(&stack.keys().team).status, 200);
}

/// Two keys of a team share its limit; a third key, of no team, does not.
pub fn two_keys_of_a_team_share_its_limit(front: Front) {
    let stack = Stack::start(front).unwrap();
    let key = |name: &str| stack.herdgate.new_key_with(name, "team", &["--team", "pair"]).unwrap();
    let pair = [key("ann"), key("bob")];
    wait_for_key(&stack, &pair[1]);
    for turn in 0..RARE_BURST {
        assert_eq!(stack.send(&chat().key(&pair[turn % 2])).unwrap().status, 200, "{turn}");
    }
    for secret in &pair {
        refused(&stack.send(&chat().key(secret)).unwrap(), 60);
    }
    assert_eq!(stack.send(&chat().key(&stack.keys().team)).unwrap().status, 200);
}

/// Who presents no credential gets the anonymous plan, and by address; a wrong key is not taken for none.
pub fn callers_without_a_credential_get_the_anonymous_plan(front: Front) {
    let open = [("    default-path config\n", "    default-path config\n    setenv HERDGATE_ANONYMOUS yes\n")];
    let edits = if matches!(front, Front::HaProxy(_)) { &open[..] } else { &[] };
    let stack = Stack::start_with("\n[auth]\nanonymous = \"rare\"\n", edits, front).unwrap();
    for turn in 0..RARE_BURST {
        let answer = stack.send(&chat()).unwrap();
        assert_eq!(answer.status, 200, "{turn}: {}", answer.text());
    }
    refused(&stack.send(&chat()).unwrap(), 60);
    let spoofed = stack.send(&chat().header("X-Forwarded-For", "198.51.100.7").header("Forwarded", "for=198.51.100.7"));
    refused(&spoofed.unwrap(), 60);
    assert_eq!(stack.send(&chat().key("hg_wrong")).unwrap().status, 401);
    assert_eq!(stack.send(&chat().key(&stack.keys().team)).unwrap().status, 200);
    assert_eq!(stack.send(&list()).unwrap().status, 200, "the catalog too");
}

/// Without an anonymous plan the same requests are refused, and all the anonymous together are held to a limit of theirs.
pub fn all_anonymous_callers_together_are_held_to_a_limit(front: Front) {
    let open = [("    default-path config\n", "    default-path config\n    setenv HERDGATE_ANONYMOUS yes\n")];
    let edits = if matches!(front, Front::HaProxy(_)) { &open[..] } else { &[] };
    let addition = "\n[auth]\nanonymous = \"team\"\nanonymous_requests = \"1/h\"\n";
    let stack = Stack::start_with(addition, edits, front).unwrap();
    assert_eq!(stack.send(&chat()).unwrap().status, 200);
    refused(&stack.send(&chat()).unwrap(), 3600);
}

/// Over the limit an address waits, with a good key too, because none is looked up; without a credential it need not.
pub fn failed_credentials_are_limited_by_address(front: Front) {
    let stack = Stack::start_with("\n[auth]\nfailures = \"4/h\"\n", &[], front).unwrap();
    let wrong = |header: &str| stack.send(&chat().key("hg_wrong").header("X-Forwarded-For", header)).unwrap();
    for turn in 0..4 {
        assert_eq!(wrong("198.51.100.7").status, 401, "{turn}");
    }
    refused(&wrong("198.51.100.8"), 900);
    refused(&stack.send(&chat().key(&stack.keys().team)).unwrap(), 900);
    assert_eq!(stack.send(&chat()).unwrap().status, 401, "nothing presented, nothing to guess");
}

/// Shut out over the control socket, and in again.
pub fn a_blocked_key_is_out_until_it_is_let_in(front: Front) {
    let stack = Stack::start(front).unwrap();
    let status = || stack.send(&chat().key(&stack.keys().team)).unwrap().status;
    assert_eq!(status(), 200);
    let said = stack.herdgate.run(&["block", "key", "team", "--for", "1h"]).unwrap();
    assert_eq!(said, "key \"team\" is blocked for 3600 s\n");
    assert_eq!(status(), 403, "at once");
    assert!(stack.herdgate.run(&["block", "--list"]).unwrap().starts_with("key team until 2"));
    assert!(stack.herdgate.run(&["status"]).unwrap().contains("blocked: key team, until 2"));
    assert!(stack.herdgate.run(&["block", "key", "taem", "--for", "1h"]).unwrap_err().contains("no key named"));
    stack.herdgate.run(&["unblock", "key", "team"]).unwrap();
    assert_eq!(status(), 200);
    assert!(stack.herdgate.run(&["unblock", "key", "team"]).unwrap_err().contains("is not blocked"));
}

fn chat() -> Request {
    short_chat(SHARED_MODEL).header("Connection", "close")
}

fn list() -> Request {
    Request::get("/v1/models").header("Connection", "close")
}

fn wait_for_key(stack: &Stack, secret: &str) {
    let request = list().key(secret);
    let request = if secret.is_empty() { list() } else { request };
    wait_until("the key", Duration::from_secs(5), || {
        send(stack.proxy.address(), &request).is_ok_and(|answer| answer.status == 200)
    })
    .unwrap();
}

/// 429, and told to come back within `most` seconds, and not much sooner.
fn refused(answer: &Response, most: u64) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| (most / 2..=most).contains(&seconds)), "{wait:?} of {most}");
}
