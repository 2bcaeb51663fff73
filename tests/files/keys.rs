//! API keys: their form, their file, and what takes effect when it changes.
#![allow(clippy::disallowed_methods)] // it reads clock and switch

use herdgate::decision::caller::keyset::{KeySet, UnixMs};
use herdgate::files::problem::Problems;
use herdgate::files::watch::FileWatch;
use herdgate::keys::file::{self, KeyEntry, KeyTerms, scope};
use herdgate::keys::secret::{self, LENGTH, Secret, looks_malformed};
use herdgate::keys::{KeyFile, watch, write};
use herdgate::time::date;
use proptest::prelude::*;
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CREATED: &str = "2026-01-31T12:00:00Z";

/// A folder of one test, removed when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }

    /// A key file with this text, mode 0600.
    fn keys(&self, text: &str) -> PathBuf {
        let path = self.0.join("keys.toml");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(path: &Path) -> Result<KeySet, Problems> {
    herdgate::keys::load(&KeyFile::new(path))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn block(name: &str, plan: &str, digest: &str) -> String {
    format!("[[key]]\nname = \"{name}\"\nplan = \"{plan}\"\nsha256 = \"{digest}\"\ncreated = {CREATED}\n")
}

fn entry(name: &str, secret: &Secret) -> KeyEntry {
    KeyEntry {
        name: name.to_owned(),
        terms: KeyTerms { plan: "team".to_owned(), ..KeyTerms::default() },
        digest: secret.digest(),
        peppered: false,
        weak: false,
        created_unix_ms: date::parse(CREATED).unwrap(),
        not_before_unix_ms: None,
        expires_unix_ms: None,
        retires_unix_ms: None,
        revoked_unix_ms: None,
        raised: None,
        line: 0,
        retires_line: 0,
        raised_lines: [0; 2],
    }
}

/// The secret number `i`: different for each, the same in each run.
fn numbered(i: u64) -> Secret {
    let mut random = [0x5a; 32];
    random[..8].copy_from_slice(&i.to_le_bytes());
    Secret::from_random(random)
}

#[test]
fn a_key_is_hg_then_43_random_and_6_checksum_digits() {
    let random: Vec<u8> = (0..32).collect();
    let secret = Secret::from_random(random.try_into().unwrap());
    // Computed outside this program.
    assert_eq!(secret.reveal(), "hg_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1sh72b");
    assert_eq!(LENGTH, 52);
    let made: HashSet<String> = (0..100).map(|_| Secret::generate().unwrap().reveal().to_owned()).collect();
    assert_eq!(made.len(), 100, "no two alike");
    for secret in made {
        assert_eq!(secret.len(), LENGTH);
        assert!(secret.starts_with("hg_") && secret[3..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(!looks_malformed(secret.as_bytes()));
    }
}

#[test]
fn a_change_of_any_one_character_is_noticed() {
    let good = numbered(7).reveal().as_bytes().to_vec();
    let mut noticed = 0;
    for at in 3..LENGTH {
        for byte in (0..=u8::MAX).filter(|byte| *byte != good[at]) {
            let mut typo = good.clone();
            typo[at] = byte;
            assert!(looks_malformed(&typo), "{:?}", String::from_utf8_lossy(&typo));
            noticed += 1;
        }
    }
    assert_eq!(noticed, 49 * 255);
}

#[test]
fn only_what_claims_to_be_a_key_of_ours_can_look_malformed() {
    let good = numbered(1).reveal().to_owned();
    let cases = [
        (good.clone(), false),
        (good[..LENGTH - 1].to_owned(), true),
        (format!("{good}0"), true),
        ("hg_".to_owned(), true),
        ("hg_".to_owned() + &"0".repeat(10_000), true),
        ("sk-1234567890".to_owned(), false),
        ("HG_123".to_owned(), false),
        (String::new(), false),
    ];
    for (presented, malformed) in cases {
        assert_eq!(looks_malformed(presented.as_bytes()), malformed, "{presented:.60}");
    }
}

#[test]
fn a_digest_never_authenticates_as_in_litellm_ghsa_69x8_hrgq_fjj8() {
    let scratch = Scratch::new("digest");
    let secret = numbered(1);
    let digest = secret.digest().0;
    let keys = load(&scratch.keys(&block("alice", "team", &hex(&digest)))).unwrap();
    assert!(keys.get(&secret::digest(secret.reveal().as_bytes())).is_some(), "the secret does");
    let upper = hex(&digest).to_uppercase();
    for presented in [&digest[..], hex(&digest).as_bytes(), upper.as_bytes(), format!("sha256:{upper}").as_bytes()] {
        assert!(keys.get(&secret::digest(presented)).is_none());
    }
}

#[test]
fn secrets_and_digests_are_not_in_debug_output() {
    let secret = numbered(1);
    let shown = format!("{:?} {:?} {:?}", secret, secret.digest(), entry("alice", &secret));
    assert!(!shown.contains(secret.reveal()), "{shown}");
    assert!(!shown.contains(&hex(&secret.digest().0)), "{shown}");
    assert!(!shown.contains(&format!("{:?}", &secret.digest().0[..4])), "{shown}");
}

#[test]
fn imported_secrets_must_be_hard_to_guess() {
    let cases = [
        ("sk-0123456789abcdef0123456789abcdef".to_owned(), true),
        ("0123456789abcdef0123456789abcde".to_owned(), false),
        ("a".repeat(64), false),
        ("0123456789abcdef 0123456789abcdef".to_owned(), false),
        ("0123456789abcdef0123456789abcdé0".to_owned(), false),
        ("x0123456789".repeat(50), false),
        (numbered(1).reveal().to_owned(), true),
        (numbered(1).reveal()[..51].to_owned(), false),
    ];
    for (written, accepted) in cases {
        assert_eq!(Secret::imported(&written, false).is_ok(), accepted, "{written:.60}");
    }
}

#[test]
fn a_key_file_is_read_into_what_decisions_need() {
    let scratch = Scratch::new("read");
    let [one, two, three] = [numbered(1), numbered(2), numbered(3)];
    let text = format!(
        "# The team's keys.\n\n{}# a comment\n{}expires = 2026-02-01T00:00:00+01:00\n\n  [[key]]  # odd spacing\n{}revoked = \"{CREATED}\"\n",
        block("alice", "team", &hex(&one.digest().0)),
        block("bob@example.com", "batch", &hex(&two.digest().0).to_uppercase()),
        block("alice", "team", &hex(&three.digest().0)).trim_start_matches("[[key]]\n"),
    );
    let keys = load(&scratch.keys(&text)).unwrap();
    assert_eq!(keys.len(), 3);
    let plans: Vec<&str> = keys.plans().iter().map(|plan| &**plan).collect();
    assert_eq!(plans, ["team", "batch"]);
    let bob = keys.get(&two.digest()).unwrap();
    assert_eq!((&*bob.name, bob.plan, bob.revoked), ("bob@example.com", 1, false));
    assert_eq!(bob.expires_unix_ms.map(UnixMs::get), date::parse("2026-01-31T23:00:00Z"));
    assert!(keys.get(&three.digest()).unwrap().revoked);
    let scopes = [&one, &three, &two].map(|secret| keys.get(&secret.digest()).unwrap().scope);
    assert_eq!(scopes[0], scopes[1], "two secrets of one name share its books");
    assert_ne!(scopes[0], scopes[2]);
    assert_eq!(scopes[0], scope("alice"));
    assert_eq!(load(&scratch.0.join("absent.toml")).unwrap().len(), 0, "no file, no keys");
}

#[test]
fn every_problem_of_a_key_file_has_its_place_and_shows_no_value() {
    let scratch = Scratch::new("problems");
    let digest = hex(&numbered(1).digest().0);
    let good = block("alice", "team", &digest);
    let check = |text: &str, expected: &[&str]| {
        let problems = load(&scratch.keys(text)).expect_err(text);
        let found: Vec<String> = problems
            .items
            .iter()
            .map(|problem| {
                let place = problem.position.unwrap();
                format!("{}:{} {}", place.line, place.column, problem.what)
            })
            .collect();
        assert_eq!(found, expected, "{text}");
        assert!(!problems.to_string().contains("hg_"), "{problems}");
    };
    let with = |line: &str| format!("{good}{line}\n");
    check(&with("paln = \"x\""), &["6:1 unknown key \"paln\" in [[key]]"]);
    check(&with("expires = \"soon\""), &["6:11 \"expires\" must be a time such as 2026-01-31T12:00:00Z"]);
    check(&with("expires = 2026-01-31"), &["6:11 \"expires\" must be a time such as 2026-01-31T12:00:00Z"]);
    check(&with("revoked = true"), &["6:11 \"revoked\" must be a time such as 2026-01-31T12:00:00Z"]);
    check(&with("name = \"bob\""), &["6:1 duplicate key"]);
    check(&with("[other]"), &["6:2 \"other\" does not belong here"]);
    check(&with("[[ key ]]"), &["1:3 \"key\" does not belong here"]);
    check(&with("x = \"hg_pasted"), &["6:15 invalid basic string, expected `\"`"]);
    check(&format!("{good}{good}"), &["6:1 this key has the digest of an earlier key"]);
    check("key = 1\n", &["1:1 \"key\" does not belong here"]);
    check(
        "[[key]]\n",
        &[
            "1:1 [[key]] needs \"name\"",
            "1:1 [[key]] needs \"plan\"",
            "1:1 [[key]] needs \"sha256\"",
            "1:1 [[key]] needs \"created\"",
        ],
    );
    let other = hex(&numbered(2).digest().0);
    check(&format!("{good}\n{}", block("alice", "batch", &other)), &["7:1 key \"alice\" is on another plan above"]);
    let pasted = numbered(3).reveal().to_owned();
    let rule = "\"sha256\" must be the SHA-256 digest of the secret, 64 hexadecimal digits";
    check(&block("alice", "team", &pasted), &[&format!("4:10 {rule}")]);
    check(&block("alice", "team", &digest[1..]), &[&format!("4:10 {rule}")]);
    check(&block("alice", "team", &digest.replace(&digest[..1], "g")), &[&format!("4:10 {rule}")]);
    check(&block("a b", "team", &digest), &["2:8 \"name\" must be 1 to 64 letters, digits or any of _.@+-/:"]);
    // Several at once, in several tables.
    check(
        &format!("x = 1\n{}{}y = 2\n", with("z = 1"), block("bob", "", &other)),
        &[
            "1:1 \"x\" does not belong here",
            "7:1 unknown key \"z\" in [[key]]",
            "10:8 \"plan\" must be 1 to 64 letters, digits or any of _.@+-/:",
            "13:1 unknown key \"y\" in [[key]]",
        ],
    );
    check(&format!("{good}# {}\n", "x".repeat(70_000)), &["1:1 a key's table is longer than 64 KiB"]);
}

#[test]
fn a_key_file_open_to_others_is_refused() {
    let scratch = Scratch::new("mode");
    let path = scratch.keys(&block("alice", "team", &hex(&numbered(1).digest().0)));
    for (mode, accepted) in
        [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o777, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = load(&path);
        assert_eq!(loaded.is_ok(), accepted, "mode {mode:o}");
        if let Err(problems) = loaded {
            assert!(problems.to_string().contains("chmod 600"), "{problems}");
        }
    }
    assert!(load(&scratch.0).is_err(), "a folder");
}

#[test]
fn writing_keeps_comments_and_order_and_the_mode() {
    let scratch = Scratch::new("write");
    let first = block("alice", "team", &hex(&numbered(1).digest().0));
    let path = scratch.keys(&format!("# head\n{first}# the last line has no end"));
    write::append(&KeyFile::new(&path), &[entry("bob", &numbered(2)), entry("carol", &numbered(3))]).unwrap();
    assert_eq!(write::revoke(&KeyFile::new(&path), "alice", date::parse(CREATED).unwrap()).unwrap(), 1);
    assert_eq!(write::revoke(&KeyFile::new(&path), "alice", 0).unwrap(), 0, "revoked already");
    let revoked = first.replace("[[key]]\n", &format!("[[key]]\nrevoked = {CREATED}\n"));
    let expected = format!(
        "# head\n{revoked}# the last line has no end\n\n{}\n{}",
        block("bob", "team", &hex(&numbered(2).digest().0)),
        block("carol", "team", &hex(&numbered(3).digest().0)),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let names: Vec<String> = file::entries(&KeyFile::new(&path)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["alice", "bob", "carol"]);
    assert!(!scratch.0.join("keys.toml.new").exists());
}

#[test]
fn what_makes_no_sense_is_not_written() {
    let scratch = Scratch::new("refuse");
    let text = block("alice", "team", &hex(&numbered(1).digest().0));
    let path = scratch.keys(&text);
    let refused = |entries: &[KeyEntry]| assert!(write::append(&KeyFile::new(&path), entries).is_err());
    refused(&[entry("alice", &numbered(2))]);
    refused(&[entry("bob", &numbered(1))]);
    refused(&[entry("bob", &numbered(2)), entry("bob", &numbered(3))]);
    refused(&[entry("bob", &numbered(2)), entry("carol", &numbered(2))]);
    refused(&[entry("bob\"\nplan = \"admin", &numbered(2))]);
    assert!(write::revoke(&KeyFile::new(&path), "nobody", 0).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let broken = format!("{text}oops = 1\n");
    scratch.keys(&broken);
    refused(&[entry("bob", &numbered(2))]);
    assert_eq!(fs::read_to_string(&path).unwrap(), broken, "a file with problems is not touched");
}

#[test]
fn through_a_symbolic_link_the_file_it_points_at_is_replaced() {
    let scratch = Scratch::new("link");
    let path = scratch.keys("");
    let link = scratch.0.join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write::append(&KeyFile::new(&link), &[entry("alice", &numbered(1))]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
    assert_eq!(load(&path).unwrap().len(), 1);
}

#[test]
fn a_reader_sees_the_old_file_or_the_new_one_and_two_writers_lose_nothing() {
    const EACH: u64 = 40;
    let scratch = Scratch::new("concurrent");
    let path = scratch.keys("");
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut least, mut reads) = (0, 0);
            while !done.load(Ordering::Acquire) {
                let found = load(&path).expect("never a part of a file").len();
                assert!(found >= least, "{found} keys after {least}");
                (least, reads) = (found, reads + 1);
            }
            reads
        });
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || {
                    for i in 0..EACH {
                        let secret = numbered(writer * EACH + i);
                        write::append(&KeyFile::new(path), &[entry(&format!("k{writer}-{i}"), &secret)]).unwrap();
                    }
                })
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        // Before a writer's failure is looked at: the reader must end either way.
        done.store(true, Ordering::Release);
        written.into_iter().for_each(|result| result.unwrap());
        reader.join().unwrap()
    });
    assert!(reads > 0);
    assert_eq!(load(&path).unwrap().len() as u64, 2 * EACH);
}

/// Waits until the published set satisfies `condition`, at most ten seconds; answers how long it took.
async fn until(published: &Mutex<Option<KeySet>>, condition: impl Fn(&KeySet) -> bool) -> Duration {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        if published.lock().unwrap().as_ref().is_some_and(&condition) {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the change was not taken up");
}

#[tokio::test]
async fn a_changed_key_file_is_taken_up_within_a_second_or_so() {
    let scratch = Scratch::new("follow");
    let path = scratch.keys("");
    let published = Arc::new(Mutex::new(None));
    let sink = published.clone();
    let follower = tokio::spawn(watch::follow(FileWatch::new(&path), KeyFile::new(&path), move |keys| {
        *sink.lock().unwrap() = Some(keys)
    }));

    write::append(&KeyFile::new(&path), &[entry("alice", &numbered(1))]).unwrap();
    let took = until(&published, |keys| keys.get(&numbered(1).digest()).is_some_and(|key| !key.revoked)).await;
    println!("a new key took effect after {took:?}");
    write::revoke(&KeyFile::new(&path), "alice", 1).unwrap();
    let took = until(&published, |keys| keys.get(&numbered(1).digest()).is_some_and(|key| key.revoked)).await;
    println!("a revocation took effect after {took:?}");

    fs::remove_file(&path).unwrap();
    until(&published, KeySet::is_empty).await;
    follower.abort();
}

#[test]
fn a_bad_key_file_is_seen_and_not_taken_up() {
    let scratch = Scratch::new("bad");
    let path = scratch.keys("");
    let mut watch = FileWatch::new(&path);
    scratch.keys("not toml");
    assert!(watch::look(&mut watch, &KeyFile::new(&path)).is_none(), "it may still be written");
    assert!(watch::look(&mut watch, &KeyFile::new(&path)).unwrap().is_err());
    assert!(watch::look(&mut watch, &KeyFile::new(&path)).is_none(), "reported once");
    scratch.keys(&block("bob", "team", &hex(&numbered(2).digest().0)));
    assert!(watch::look(&mut watch, &KeyFile::new(&path)).is_none());
    assert_eq!(watch::look(&mut watch, &KeyFile::new(&path)).unwrap().unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes a key file is changed to, there is an answer, and no key it did not hold.
    #[test]
    fn no_mutation_of_a_key_file_panics(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
    ) {
        let text: String = (0..4).map(|i| block(&format!("k{i}"), "team", &hex(&numbered(i).digest().0))).collect();
        let mut bytes = text.into_bytes();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let mut keys = 0;
        match file::read(&bytes[..], "keys.toml", |_| { keys += 1; Ok(()) }) {
            Ok(()) => prop_assert!(keys <= 4),
            Err(problems) => {
                prop_assert!(!problems.items.is_empty());
                for problem in problems.items {
                    prop_assert!((1..=lines).contains(&problem.position.unwrap().line));
                }
            }
        }
    }
}

/// Prints what loading costs; the machine decides on times, so only counts are asserted.
#[test]
fn a_hundred_thousand_keys_are_loaded() {
    const KEYS: u64 = 100_000;
    let scratch = Scratch::new("many");
    let path = scratch.keys("");
    let mut file = std::io::BufWriter::new(fs::OpenOptions::new().append(true).open(&path).unwrap());
    for i in 0..KEYS {
        let digest = secret::digest(&i.to_le_bytes());
        writeln!(file, "{}", block(&format!("user-{i:06}@example.com"), "team", &hex(&digest.0))).unwrap();
    }
    file.flush().unwrap();
    drop(file);
    let before = resident_kib();
    let began = Instant::now();
    let keys = load(&path).unwrap();
    let took = began.elapsed();
    let size = fs::metadata(&path).unwrap().len() / 1024;
    println!("{KEYS} keys ({size} KiB): {took:?}, resident {before} KiB before, {} KiB after", resident_kib());
    assert_eq!(keys.len() as u64, KEYS);
    for i in [0, KEYS / 2, KEYS - 1] {
        assert!(keys.get(&secret::digest(&i.to_le_bytes())).is_some());
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
