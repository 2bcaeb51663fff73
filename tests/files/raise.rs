//! A key raised to the limits of another plan: who is held to what until when, and what the file and the commands say.

use herdgate::config::compile::compile;
use herdgate::decision::caller::blocks::Blocks;
use herdgate::decision::caller::keyset::{Digest, KeySet};
use herdgate::keys::file::{Raise, entries};
use herdgate::keys::{KeyFile, load, write};
use herdgate::time::clock::Clock;
use herdgate::time::date;
use herdgate::trial::{PASSES, Rehearsal, Request, configured};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = r#"
[[server]]
name = "gpu1"
url = "http://10.0.1.10:11434"
models = ["llama3.2:3b", "qwen3:8b"]
[plans.small]
models = ["llama3.*"]
budget = ["1k/day"]
concurrency = 2
max_output = 100
[plans.big]
models = ["*"]
budget = ["2k/day"]
requests = "600/min"
"#;

/// A folder with a `herdgate.toml`, in which commands are run; removed when the test is over.
struct Site(PathBuf);

impl Site {
    /// With keys `ann` and `bob` of plan `small`.
    fn new(name: &str) -> Site {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("raise-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let site = Site(folder);
        fs::write(site.0.join("herdgate.toml"), CONFIG).unwrap();
        site.write(&(block("ann", "small", "") + &block("bob", "small", "")));
        site
    }

    fn write(&self, text: &str) {
        fs::write(self.file().path, text).unwrap();
        fs::set_permissions(self.file().path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file().path).unwrap()
    }

    fn file(&self) -> KeyFile {
        KeyFile::new(&self.0.join("keys.toml"))
    }

    fn keys(&self) -> KeySet {
        load(&self.file()).unwrap()
    }

    /// Exit status, and what was printed.
    fn run(&self, arguments: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herdgate"));
        let ran = command.args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code().unwrap(), text(&ran.stdout) + &text(&ran.stderr))
    }

    fn check(&self, arguments: &str, status: i32, says: &str) {
        let (found, said) = self.run(arguments);
        assert!(found == status && said.contains(says), "{arguments}: {found} {said}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A key's table; its digest is that of its name and of what more there is to say.
fn block(name: &str, plan: &str, more: &str) -> String {
    let digest = Digest::of(format!("{name}{more}").as_bytes()).0.map(|byte| format!("{byte:02x}")).concat();
    format!(
        "[[key]]\nname = \"{name}\"\nplan = \"{plan}\"\nsha256 = \"{digest}\"\ncreated = 2026-01-01T00:00:00Z\n{more}"
    )
}

fn raise(plan: &str, until: &str) -> Raise {
    Raise { plan: plan.to_owned(), until_unix_ms: date::parse(until).unwrap() }
}

/// Requests of one day on the same books, with keys that may change between them.
struct Day {
    rehearsal: Rehearsal,
    config: &'static str,
}

impl Day {
    fn of(config: &'static str, keys: &KeySet) -> Day {
        Day { rehearsal: on(config, keys), config }
    }

    /// The verdict's code (or `allow`) on a chat at this hour that may come to 100 tokens of output and really used so
    /// many, and what its step of limits says.
    fn ask(&mut self, keys: &KeySet, at: &str, key: &str, model: &str, used: u64) -> (String, String) {
        let keys = herdgate::trial::lent(keys, key, b"a-secret-of-this-test", 0).unwrap();
        let view = on(self.config, &keys).view();
        let line = serde_json::json!({
            "method": "POST", "path": "/api/chat", "at": format!("2026-03-{at}:00Z"),
            "headers": [["authorization", "Bearer a-secret-of-this-test"]],
            "body": format!(r#"{{"model":"{model}","options":{{"num_predict":100}}}}"#),
            "usage": {"in": 0, "out": used, "ms": 0},
        })
        .to_string();
        let ruling = self.rehearsal.put(&view, &Request::read(&line).unwrap(), true).unwrap();
        let limits = ruling.steps.iter().find(|taken| taken.step.as_str() == "limits");
        let code = ruling.account.code.unwrap_or(ruling.account.verdict).to_owned();
        (code, limits.map(|taken| taken.found.clone()).unwrap_or_default())
    }
}

fn on(config: &str, keys: &KeySet) -> Rehearsal {
    let config = compile(config, "f.toml", Path::new("")).unwrap();
    let fleet = configured(&config.policy);
    Rehearsal::new(config, keys.clone(), fleet, Blocks::default(), PASSES, Clock::new().now())
}

#[test]
fn a_key_over_its_budget_passes_while_it_is_raised_and_not_a_moment_longer() {
    let site = Site::new("budget");
    let plain = site.keys();
    assert!(!write::raise(&site.file(), "ann", Some(&raise("big", "2026-03-01T12:00:00Z"))).unwrap());
    let raised = site.keys();
    let mut day = Day::of(CONFIG, &plain);
    let llama = "llama3.2:3b";
    for (step, (keys, at, key, model, used, code, told)) in [
        (&plain, "01T10:00", "ann", llama, 950, "allow", "key 2 in flight, 1000 tokens a day"),
        (&plain, "01T10:01", "ann", llama, 0, "quota_exceeded", "1000 tokens a day"),
        (&raised, "01T10:02", "ann", llama, 550, "allow", "key, raised to plan \"big\", 600 requests in 60 s"),
        (&raised, "01T10:02", "ann", llama, 0, "allow", "2000 tokens a day"),
        // What it may do is its own plan's still.
        (&raised, "01T10:03", "ann", "qwen3:8b", 0, "model_not_found", ""),
        // Others are held to theirs.
        (&raised, "01T10:04", "bob", llama, 950, "allow", "key 2 in flight, 1000 tokens a day"),
        (&raised, "01T10:05", "bob", llama, 0, "quota_exceeded", "key 2 in flight"),
        (&raised, "01T11:59", "ann", llama, 0, "allow", "raised to plan \"big\""),
        (&raised, "01T12:00", "ann", llama, 0, "quota_exceeded", "key 2 in flight, 1000 tokens a day"),
        (&plain, "01T12:01", "ann", llama, 0, "quota_exceeded", "1000 tokens a day"),
        (&raised, "01T11:00", "ann", llama, 450, "allow", "raised to plan \"big\""),
        // What was charged before counts in the other plan's limits too.
        (&raised, "01T11:01", "ann", llama, 0, "quota_exceeded", "raised to plan \"big\""),
        (&raised, "02T00:00", "ann", llama, 0, "allow", "key 2 in flight, 1000 tokens a day"),
    ]
    .into_iter()
    .enumerate()
    {
        let (found, limits) = day.ask(keys, at, key, model, used);
        assert_eq!(found, code, "step {step}: {limits}");
        assert!(limits.contains(told), "step {step}: {limits}");
    }
}

/// A plan that is gone gives nobody more, and takes nothing.
#[test]
fn raised_to_a_plan_that_is_not_configured_a_key_is_held_to_its_own() {
    let site = Site::new("gone");
    write::raise(&site.file(), "ann", Some(&raise("gone", "2026-03-01T12:00:00Z"))).unwrap();
    let keys = site.keys();
    let (code, limits) = Day::of(CONFIG, &keys).ask(&keys, "01T10:00", "ann", "llama3.2:3b", 0);
    assert!(code == "allow" && limits.starts_with("key 2 in flight, 1000 tokens"), "{code} {limits}");
}

#[test]
fn the_command_raises_lists_and_ends() {
    let site = Site::new("command");
    site.check("key raise ann --plan big --until 2h", 0, "has the limits of plan \"big\" until 2");
    site.check("check", 0, "ok: 1 server, 2 plans, 2 keys");
    let listed = |name: &str| {
        let (_, json) = site.run("key list --json");
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let row = rows.into_iter().find(|row| row["name"] == name).unwrap();
        (row["raised_plan"].clone(), row["raised_until"].is_string())
    };
    assert_eq!(listed("ann"), ("big".into(), true));
    assert_eq!(listed("bob"), (serde_json::Value::Null, false));
    let (_, table) = site.run("key list");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].contains("never  raised to big until 2") && !lines[2].contains("raised"), "{table}");
    site.check(
        "explain POST /api/chat --key ann -d {\"model\":\"llama3.2:3b\"}",
        0,
        "key, raised to plan \"big\", 600",
    );
    site.check("explain POST /api/chat --key bob -d {\"model\":\"llama3.2:3b\"}", 0, "ok  key 2 in flight");
    // A raise stands in the place of the one before; a rotated secret is raised like the others.
    site.check("key raise ann --plan big --until 2999-01-01T00:00:00Z", 0, "until 2999-01-01T00:00:00Z");
    site.check("key rotate ann --grace 1h", 0, "");
    let raises: Vec<_> = entries(&site.file()).unwrap().into_iter().map(|entry| entry.raised).collect();
    let until_2999 = Some(raise("big", "2999-01-01T00:00:00Z"));
    assert_eq!(raises, [until_2999.clone(), None, until_2999]);
    assert_eq!(site.text().matches("raised_plan").count(), 2);
    site.check("key raise ann --end", 0, "has the limits of its own plan");
    site.check("key raise ann --end", 0, "was not raised");
    assert!(!site.text().contains("raised"));
    // One that is over is not told, and needs its plan no more.
    write::raise(&site.file(), "bob", Some(&raise("gone", "2026-01-01T00:00:00Z"))).unwrap();
    assert_eq!(listed("bob"), (serde_json::Value::Null, false));
    site.check("check", 0, "ok: ");
    write::raise(&site.file(), "bob", Some(&raise("gone", "2999-01-01T00:00:00Z"))).unwrap();
    site.check("check", 2, "key \"bob\" is raised to plan \"gone\", which is not configured");
    for (arguments, status, says) in [
        ("key raise ann --plan big", 2, "--until"),
        ("key raise ann --until 2h", 2, "--plan"),
        ("key raise ann", 2, "--plan"),
        ("key raise ann --plan big --until 2h --end", 2, "cannot be used with"),
        ("key raise ann --plan huge --until 2h", 2, "there is no plan \"huge\"; the plans are small, big"),
        ("key raise ann --plan big --until 2020-01-01T00:00:00Z", 2, "is not in the future"),
        ("key raise ann --plan big --until soon", 2, "neither a duration nor a time"),
        ("key raise ann --plan small --until 2h", 1, "the key \"ann\" is on plan \"small\" itself"),
        ("key raise carol --plan big --until 2h", 1, "no key named \"carol\" that is not revoked"),
    ] {
        site.check(arguments, status, says);
    }
    site.check("key revoke ann", 0, "is revoked");
    site.check("key raise ann --end", 1, "no key named \"ann\" that is not revoked");
}

#[test]
fn what_people_wrote_around_a_raise_stays() {
    let site = Site::new("comments");
    let tail = "raised_until = 2026-03-01T00:00:00Z # soon\n# why\nraised_plan = \"other\"\n";
    let text = format!("# ours\n{}\n{}", block("ann", "small", tail), block("bob", "small", "# last"));
    site.write(&text);
    assert!(write::raise(&site.file(), "ann", Some(&raise("big", "2026-03-02T00:00:00Z"))).unwrap());
    let lines = "raised_plan = \"big\"\nraised_until = 2026-03-02T00:00:00Z\n";
    let rest =
        text.replace("raised_until = 2026-03-01T00:00:00Z # soon\n", "").replace("raised_plan = \"other\"\n", "");
    assert_eq!(site.text(), rest.replacen("[[key]]\n", &format!("[[key]]\n{lines}"), 1));
    assert!(write::raise(&site.file(), "ann", None).unwrap());
    assert_eq!(site.text(), rest);
}

#[test]
fn a_raise_that_cannot_be_meant_is_told_with_its_line() {
    let site = Site::new("bad");
    let (plan, until) = ("raised_plan = \"big\"\n", "raised_until = 2026-03-01T00:00:00Z\n");
    let other = "raised_until = 2026-03-02T00:00:00Z\n";
    for (text, expected) in [
        (block("ann", "small", plan), "1:1: \"raised_plan\" and \"raised_until\", one without the other"),
        (block("ann", "small", until), "1:1: \"raised_plan\" and \"raised_until\", one without the other"),
        (block("ann", "small", &format!("{plan}raised_until = 3\n")), "7:16: \"raised_until\" must be a time such as"),
        (block("ann", "small", &format!("raised_plan = \"hg_ x\"\n{until}")), "6:15: \"raised_plan\" must be 1 to 64"),
        (
            block("ann", "small", &format!("{plan}{until}")) + &block("ann", "small", &format!("{other}{plan}")),
            "8:1: this key is raised otherwise above",
        ),
    ] {
        site.write(&text);
        let problems = load(&site.file()).unwrap_err().to_string();
        assert!(problems.contains(expected) && !problems.contains("hg_"), "{text}\n{problems}");
    }
    // What is revoked raises nothing, and one secret's raise is its name's.
    let revoked = format!("{plan}{other}revoked = 2026-02-01T00:00:00Z\n");
    site.write(
        &(block("ann", "small", &revoked)
            + &block("ann", "small", &format!("{plan}{until}"))
            + &block("ann", "small", "")),
    );
    let keys = site.keys();
    let (ann, now) = (herdgate::keys::file::scope("ann"), date::parse("2026-02-28T23:59:59Z").unwrap());
    assert!(keys.raised(ann, now).is_some() && keys.raised(ann, now + 1_000).is_none());
}

#[test]
fn the_change_is_told_with_plan_and_end() {
    let site = Site::new("changes");
    let mut keys = vec![site.keys()];
    for to in [Some(raise("big", "2026-03-01T00:00:00Z")), Some(raise("big", "2026-03-02T00:00:00Z")), None] {
        write::raise(&site.file(), "ann", to.as_ref()).unwrap();
        keys.push(site.keys());
    }
    let told: Vec<Vec<String>> = keys
        .windows(2)
        .map(|pair| {
            let changes = pair[0].changes(&pair[1], 9);
            let told = |change: &herdgate::decision::caller::keyset::Change<'_>| {
                let to = change.raised.map(|(plan, until)| format!(" {plan} {}", date::format(until)));
                format!("{} {}{}", change.name, change.what, to.unwrap_or_default())
            };
            changes.first.iter().map(told).collect()
        })
        .collect();
    let expected =
        [["ann raised big 2026-03-01T00:00:00Z"], ["ann raised big 2026-03-02T00:00:00Z"], ["ann raise ended"]];
    assert_eq!(told, expected);
}
