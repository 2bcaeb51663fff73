//! The audit log of a running herdgate: what is written, what is not, and that no secret ever is.

use crate::harness::client::{Request, send};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::Fleet;
use crate::harness::herdgate::Herdgate;
use crate::harness::scratch::Scratch;
use std::time::Duration;

const USER: &str = "x-openwebui-user-email";

struct Site {
    scratch: Scratch,
    _fleet: Fleet,
    herdgate: Herdgate,
}

impl Site {
    fn start(addition: &str, level: &str) -> Site {
        let scratch = Scratch::new().unwrap();
        let fleet = Fleet::start(&scratch, 1_000).unwrap();
        let mut herdgate = Herdgate::new_with(&scratch, &fleet, addition).unwrap();
        herdgate.start_at(level).unwrap();
        Site { scratch, _fleet: fleet, herdgate }
    }

    /// Returns what herdgate answers to nginx, of a request that a client on `source` makes.
    fn ask(&self, secret: &str, source: &str, user: &str) -> u16 {
        let request = Request::get("/handoff")
            .header("X-Herdgate-Method", "GET")
            .header("X-Herdgate-Uri", "/v1/models?key=in-the-query")
            .header("X-Herdgate-Source", source)
            .header("X-Herdgate-Uid", "u1")
            .header("X-Herdgate-On-Behalf-Name", USER)
            .header("X-Herdgate-On-Behalf", user)
            .header("Connection", "close")
            .key(secret);
        send(self.herdgate.ports.http, &request).unwrap().status
    }

    fn lines(&self, word: &str) -> Vec<String> {
        let output = self.herdgate.output();
        let audit = output.lines().filter(|line| line.contains("herdgate::audit"));
        audit.filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

#[test]
fn ten_refusals_of_a_kind_are_written_and_a_stranger_cannot_fill_the_disk() {
    // At the level "error" too: who was refused what does not depend on it.
    let site = Site::start("", "error");
    for _ in 0..40 {
        assert_eq!(site.ask("hg_a-secret-that-is-wrong", "192.0.2.1", "ann"), 401);
    }
    for _ in 0..3 {
        assert_eq!(site.ask("hg_a-secret-that-is-wrong", "192.0.2.2", "ann"), 401);
    }
    wait_until("the lines", Duration::from_secs(5), || site.lines("src=Some(192.0.2.2)").len() == 3).unwrap();
    assert_eq!(site.lines("src=Some(192.0.2.1)").len(), 10);
    for network in 0..400_u32 {
        site.ask("hg_a-secret-that-is-wrong", &format!("198.51.{}.{}", network / 200, network % 200), "ann");
    }
    site.herdgate.run(&["block", "key", "team", "--for", "1h"]).unwrap();
    assert_eq!(site.ask(&site.herdgate.keys.team, "192.0.2.1", ""), 403);
    wait_until("the last line", Duration::from_secs(5), || site.lines("reason=\"blocked\"").len() == 1).unwrap();
    assert_eq!(site.lines("reason=\"unknown_key\"").len(), 300, "strangers have a budget in all");
    assert!(site.lines("reason=\"blocked\"")[0].contains("caller=\"team\""), "known, though it may not call");
    let line = &site.lines("reason=\"unknown_key\"")[0];
    for fact in [
        "refused",
        "id=\"",
        "uid=u1",
        "ingress=\"http\"",
        "path=/v1/models",
        "caller=\"-\"",
        "status=401",
        "code=\"invalid_api_key\"",
    ] {
        assert!(line.contains(fact), "{fact}: {line}");
    }
    let output = site.herdgate.output();
    assert!(!output.contains("a-secret-that-is-wrong") && !output.contains("in-the-query"));
    assert!(!output.contains(&site.herdgate.keys.team));
}

#[test]
fn changes_of_keys_and_blocks_are_written_with_their_names() {
    let site = Site::start("", "info");
    let webui = site.herdgate.new_key_with("webui", "team", &["--on-behalf-of", USER]).unwrap();
    wait_until("the key", Duration::from_secs(5), || site.ask(&webui, "192.0.2.1", "ann@x") == 200).unwrap();
    site.herdgate.rotate_key("webui", "1h").unwrap();
    wait_until("the rotation", Duration::from_secs(5), || !site.lines("what=\"changed\"").is_empty()).unwrap();
    site.herdgate.run(&["key", "revoke", "slow"]).unwrap();
    wait_until("the revocation", Duration::from_secs(5), || !site.lines("what=\"revoked\"").is_empty()).unwrap();
    let changes: Vec<String> =
        site.lines("key changed").iter().map(|line| line.split("key changed ").nth(1).unwrap().to_owned()).collect();
    let words: Vec<&str> = changes.iter().map(|change| change.split(" owner").next().unwrap()).collect();
    let expected = ["added", "changed", "added"].map(|what| format!("key=\"webui\" what=\"{what}\""));
    assert_eq!(words[..3], expected);
    assert!(site.lines("what=\"revoked\"")[0].contains("key=\"slow\" "), "{:?}", site.lines("revoked"));

    site.herdgate.run(&["block", "user", "Ann@X", "--for", "1h"]).unwrap();
    assert_eq!(site.ask(&webui, "192.0.2.1", "ann@x"), 403);
    assert_eq!(site.ask(&webui, "192.0.2.1", "bob@x"), 200);
    site.herdgate.run(&["unblock", "user", "ann@x"]).unwrap();
    wait_until("the lines", Duration::from_secs(5), || site.lines("unblocked").len() == 1).unwrap();
    let lines = site.lines("kind=\"user\" name=ann@x");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn the_last_use_is_written_beside_the_key_file_when_herdgate_stops() {
    let mut site = Site::start("", "info");
    let before = std::fs::read(site.scratch.join("keys.toml")).unwrap();
    let team = site.herdgate.keys.team.clone();
    assert_eq!(site.ask(&team, "192.0.2.1", ""), 200);
    site.herdgate.stop();
    let used = |site: &Site| -> Vec<String> {
        let rows = site.herdgate.run(&["key", "list"]).unwrap();
        let row = |row: &str| row.split_whitespace().next().unwrap_or_default().to_owned();
        rows.lines().skip(1).filter(|row| !row.ends_with("never")).map(row).collect()
    };
    assert_eq!(used(&site), ["team"]);
    assert_eq!(std::fs::read(site.scratch.join("keys.toml")).unwrap(), before, "the key file itself is not touched");
    // Another run remembers, and adds its own.
    site.herdgate.start_at("info").unwrap();
    let all = site.herdgate.keys.all.clone();
    assert_eq!(site.ask(&all, "192.0.2.1", ""), 200);
    site.herdgate.stop();
    assert_eq!(used(&site), ["team", "all"]);
}

#[test]
fn a_changed_limit_of_failures_is_taken_up_without_a_restart() {
    let site = Site::start("", "info");
    for _ in 0..5 {
        assert_eq!(site.ask("hg_wrong", "192.0.2.1", ""), 401);
    }
    let text = std::fs::read_to_string(site.herdgate.config()).unwrap();
    std::fs::write(site.herdgate.config(), text + "\n[auth]\nfailures = \"2/h\"\n").unwrap();
    wait_until("the limit", Duration::from_secs(5), || site.ask("hg_wrong", "192.0.2.1", "") == 429).unwrap();
    assert_eq!(site.ask("hg_wrong", "192.0.2.3", ""), 401);
}
