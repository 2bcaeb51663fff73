//! 100,000 keys in the real daemon: what it takes to start, and the memory it may have, also after reloads.

// A test fails loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::deadline::{Stopwatch, wait_until};
use harness::fleet::{Fleet, SHARED_MODEL};
use harness::herdgate::Herdgate;
use harness::process::resident_kib;
use harness::scratch::Scratch;
use harness::spop::Spop;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const KEYS: u32 = 100_000;

/// The budget, in KiB.
const RESIDENT_MAX_KIB: u64 = 60 * 1024;

/// The same after a reload, during which the keys of before and those after are there at once: what the allocator keeps of
/// that stays bounded however many reloads there are.
const RELOADED_MAX_KIB: u64 = 76 * 1024;

fn secret(number: u32) -> String {
    format!("imported-secret-number-{number:012}")
}

/// A key file of `KEYS` keys, put in place in one step; `round` makes the text another.
fn write_keys(scratch: &Scratch, round: u32) {
    let mut text = String::new();
    for number in 0..KEYS {
        let digest = Sha256::digest(secret(number).as_bytes());
        let digest = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let _ = write!(
            text,
            "[[key]]\nname = \"user-{number:06}.{round}@example.com\"\nplan = \"team\"\nsha256 = \"{digest}\"\n\
             created = 2026-01-31T12:00:00Z\n\n"
        );
    }
    let new = scratch.write("keys.toml.next", &text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, scratch.join("keys.toml")).unwrap();
}

#[test]
fn a_hundred_thousand_keys_fit_the_budget_also_after_reloads() {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    write_keys(&scratch, 0);
    let watch = Stopwatch::new();
    herdgate.start_at("info").unwrap();
    let ready = watch.elapsed();
    let said = herdgate.output();
    let started = said.split("started_in_ms=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let pid = herdgate.process().unwrap().pid();
    let resident = || resident_kib(pid).unwrap();
    let at_start = resident();
    println!(
        "{KEYS} keys: serving after {started} ms, ready (servers probed) after {ready:?}; resident {at_start} KiB"
    );

    let mut spop = Spop::connect(herdgate.ports.spop).unwrap();
    let middle = spop.ask(&secret(KEYS / 2), SHARED_MODEL).unwrap();
    assert!(middle.starts_with("allow:"), "{middle}");
    assert_eq!(spop.ask(&secret(KEYS), SHARED_MODEL).unwrap(), "refuse:401:invalid_api_key");
    for number in 0..1_000 {
        assert!(spop.ask(&secret(number * 99), SHARED_MODEL).unwrap().starts_with("allow:"));
    }
    let asked = resident();
    println!("after 1,000 decisions: resident {asked} KiB");

    assert!(at_start.max(asked) <= RESIDENT_MAX_KIB, "{asked} KiB resident, more than {RESIDENT_MAX_KIB}");
    let mut most = 0;
    for round in 1..=5 {
        write_keys(&scratch, round);
        let taken_up = || herdgate.output().matches("keys reloaded").count() >= round as usize;
        wait_until("the keys are reloaded", Duration::from_secs(20), taken_up).unwrap();
        let verdict = spop.ask(&secret(KEYS / 2), SHARED_MODEL).unwrap();
        assert!(verdict.starts_with("allow:"), "{verdict}");
        most = most.max(resident());
        println!("after reload {round}: resident {} KiB", resident());
    }
    assert!(most <= RELOADED_MAX_KIB, "{most} KiB resident after a reload, more than {RELOADED_MAX_KIB}");
}
