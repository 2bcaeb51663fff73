//! The command line: what the built binary prints, and its exit status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use herdgate::keys::KeyFile;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CONFIG: &str =
    "[[server]]\nname = \"gpu1\"\nurl = \"http://10.0.1.10:11434\"\n\n[plans.team]\nmodels = [\"*\"]\n";

/// A folder with a `herdgate.toml`, in which commands are run; removed when the test is over.
struct Site(PathBuf);

/// What a command did.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Site {
    fn new(name: &str, config: &str) -> Site {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("herdgate.toml"), config).unwrap();
        Site(folder)
    }

    fn run(&self, arguments: &str) -> Ran {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &str, input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_herdgate"))
            .args(arguments.split_whitespace())
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input closes it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs and compares: exit status, the whole of standard output, and what standard error must contain.
    fn check(&self, arguments: &str, input: &str, status: i32, out: &str, err: &str) {
        let ran = self.run_with_input(arguments, input);
        assert_eq!((ran.status, ran.out.as_str()), (status, out), "{arguments}: {ran:?}");
        assert!(ran.err.contains(err) && ran.err.is_empty() == err.is_empty(), "{arguments}: {ran:?}");
    }

    fn keys(&self) -> String {
        fs::read_to_string(self.0.join("keys.toml")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_says_what_it_counted() {
    let site = Site::new("check", CONFIG);
    site.check("check", "", 0, "ok: 1 server, 1 plan, 0 keys\n", "");
    site.check("check --config herdgate.toml", "", 0, "ok: 1 server, 1 plan, 0 keys\n", "");
    site.check("--config - check", CONFIG, 0, "ok: 1 server, 1 plan, 0 keys\n", "");
    let json = "{\"keys\":0,\"ok\":true,\"overshoot\":{},\"plans\":1,\"problems\":[],\"servers\":1,\"warnings\":[]}\n";
    site.check("check --json", "", 0, json, "");
    assert_eq!(site.run("key new --name alice").status, 0);
    site.check("check", "", 0, "ok: 1 server, 1 plan, 1 key\n", "");
}

/// The bound itself is `decision/overshoot.rs`'s; here, that it is told.
#[test]
fn check_tells_by_how_much_a_token_limit_can_be_passed() {
    const BOUNDED: &str = "max_output = 100\nleft_open = \"refuse\"\nmax_context = 4096\nconcurrency = 8\n";
    const AT_MOST: &str =
        "exceeded by at most 32768 tokens at worst (concurrency x max_context, if no server's own context is larger)";
    const NO_BOUND: &str = "exceeded without bound by a burst; concurrency = 8 helps bound it";
    for (bounds, told, json) in [(BOUNDED, AT_MOST, "32768"), ("", NO_BOUND, "null")] {
        let site = Site::new("overshoot", &format!("{CONFIG}tokens = \"100k/min\"\n{bounds}"));
        let out = format!("note: the token limits of plan \"team\" may be {told}\nok: 1 server, 1 plan, 0 keys\n");
        site.check("check", "", 0, &out, "");
        assert!(site.run("check --json").out.contains(&format!("\"overshoot\":{{\"team\":{json}}}")));
    }
}

#[test]
fn check_warns_of_a_bound_that_a_request_can_leave_out() {
    let warned = "warning: plan \"team\": \"max_output\" does not limit a request that names no output length; the server's own default does. Choose left_open = \"allow\" (it passes) or \"refuse\" (400: the client must say)\n";
    for (left_open, warned) in [("", warned), ("left_open = \"allow\"\n", ""), ("left_open = \"refuse\"\n", "")] {
        let site = Site::new("warns", &format!("{CONFIG}max_output = 4096\n{left_open}"));
        site.check("check", "", 0, &format!("{warned}ok: 1 server, 1 plan, 0 keys\n"), "");
        assert_eq!(site.run("check --json").out.contains("\"warnings\":[]"), warned.is_empty());
    }
}

#[test]
fn check_lists_every_problem_with_line_hint_and_exit_status_2() {
    let site = Site::new("problems", &CONFIG.replace("models", "modls").replace("gpu1", "gpu 1"));
    let expected = "\
herdgate.toml:2:8: \"gpu 1\" cannot be the name of a server
  2 | name = \"gpu 1\"
    |        ^
  hint: 1 to 64 letters, digits, \"_\", \".\" or \"-\"
herdgate.toml:5:8: [plans.team] needs \"models\"
  5 | [plans.team]
    |        ^
  hint: a list of strings
herdgate.toml:6:1: unknown key \"modls\" in [plans.team]
  6 | modls = …
    | ^
  hint: did you mean \"models\"?
";
    let ran = site.run("check");
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (2, "", expected));
    let ran = site.run("check --json");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, ran.err.as_str()), (2, ""));
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 3);
    assert_eq!(problems[2]["line"], 6);
    assert_eq!(problems[2]["hint"], "did you mean \"models\"?");
    site.check("check --config absent.toml", "", 2, "", "absent.toml: cannot be read");
    // Every command that needs the configuration refuses a bad one.
    for command in ["serve", "status", "key list", "key new --name a", "key revoke a", "key import"] {
        let ran = site.run(command);
        assert_eq!((ran.status, ran.err.as_str()), (2, expected), "{command}");
    }
}

#[test]
fn check_looks_for_the_certificates_of_an_issuer() {
    let issuer =
        "[[issuer]]\nissuer = \"https://id.example.com/\"\naudience = \"a\"\nplan = \"team\"\nca_file = \"id.pem\"\n";
    let site = Site::new("issuer", &format!("{CONFIG}\n{issuer}"));
    site.check("check", "", 2, "", "herdgate.toml: issuer https://id.example.com/: ca_file id.pem: No such file");
}

#[test]
fn check_reads_the_key_file_against_the_plans() {
    let site = Site::new("lost-plan", CONFIG);
    assert_eq!(site.run("key new --name alice").status, 0);
    fs::write(site.0.join("herdgate.toml"), CONFIG.replace("plans.team", "plans.crew")).unwrap();
    let expected = "keys.toml:1:1: key \"alice\" is on plan \"team\", which is not configured\n  hint: add it";
    site.check("check", "", 2, "", expected);
    fs::set_permissions(site.0.join("keys.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    site.check("check", "", 2, "", "keys.toml: is open to group or others (mode 0644)\n  hint: chmod 600");
}

#[test]
fn a_new_key_is_shown_once_and_kept_as_a_digest() {
    let site = Site::new("new", CONFIG);
    let ran = site.run("key new --name alice");
    let secret = ran.out.trim_end();
    assert_eq!((ran.status, secret.len(), ran.out.len()), (0, 52, 53), "{ran:?}");
    assert!(ran.err.contains("\"alice\" on plan \"team\", does not expire"), "{ran:?}");
    assert!(!ran.err.contains(secret) && !site.keys().contains(secret));
    let keys = herdgate::keys::load(&KeyFile::new(&site.0.join("keys.toml"))).unwrap();
    assert!(keys.get(&herdgate::keys::secret::digest(secret.as_bytes())).is_some());
    site.check("key new --name alice", "", 1, "", "there is already a key named \"alice\"");
    let ran = site.run("key new --name bob --print --expires 14d");
    assert_eq!((ran.status, ran.out.len(), ran.err.as_str()), (0, 53, ""));
    assert!(site.keys().contains("\nexpires = 20"));
    assert_eq!(site.run("key new --name carol --expires 2999-01-31T12:00:00+01:00").status, 0);
    assert!(site.keys().contains("expires = 2999-01-31T11:00:00Z\n"));
}

#[test]
fn a_key_that_makes_no_sense_is_not_made() {
    let site = Site::new("refused", &(CONFIG.to_owned() + "[plans.batch]\nmodels = [\"*\"]\n"));
    site.check("key new --name alice", "", 2, "", "say which plan with --plan; the plans are team, batch");
    site.check("key new --name alice --plan tem", "", 2, "", "there is no plan \"tem\"; the plans are team, batch");
    site.check("key new --name a\"b --plan team", "", 2, "", "a key's name is 1 to 64");
    site.check("key new --name a --plan team --team x", "", 2, "", "there is no team \"x\"; add [teams.x]");
    site.check("key new --name a --plan team --expires soon", "", 2, "", "write 14d");
    site.check("key new --name a --plan team --expires 2020-01-01T00:00:00Z", "", 2, "", "not in the future");
    site.check("key new --plan team", "", 2, "", "--name");
    site.check("key", "", 2, "", "Usage");
    site.check("frobnicate", "", 2, "", "frobnicate");
    assert_eq!(site.keys(), "");
}

#[test]
fn keys_are_listed_without_their_digests_and_revoked_by_name() {
    let site = Site::new("list", CONFIG);
    for arguments in ["alice", "bob --expires 3d", "carol --expires 30d"] {
        assert_eq!(site.run(&format!("key new --name {arguments}")).status, 0);
    }
    let names = |arguments: &str| -> Vec<String> {
        let rows = site.run(arguments).out;
        let words = |row: &str| row.split_whitespace().next().unwrap_or_default().to_owned();
        rows.lines().skip(1).map(words).collect()
    };
    assert_eq!(names("key list"), ["alice", "bob", "carol"]);
    assert_eq!(names("key list --expiring 14d"), ["bob"]);
    assert_eq!(names("key list --expiring 60d"), ["bob", "carol"]);
    site.check("key list --expiring soon", "", 2, "", "is not a duration");
    let taken_up = "key \"bob\" is revoked; a running herdgate takes it up within a second\n";
    site.check("key revoke bob", "", 0, taken_up, "");
    site.check("key revoke bob", "", 0, "key \"bob\" was revoked already\n", "");
    site.check("key revoke zed", "", 1, "", "there is no key named \"zed\"");
    assert_eq!(names("key list --expiring 14d"), [""; 0], "a revoked key does not expire any more");
    let ran = site.run("key list --json");
    let rows: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let states: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["live", "revoked", "live"]);
    for shown in [ran.out, site.run("key list").out] {
        for line in site.keys().lines().filter(|line| line.starts_with("sha256")) {
            assert!(!shown.contains(&line[10..20]), "{shown}");
        }
    }
}

#[test]
fn secrets_from_elsewhere_are_imported_all_or_none() {
    let site = Site::new("import", CONFIG);
    let one = "sk-live-0123456789abcdefghijklmnop";
    let two = "another-long-secret-0123456789-xyz";
    site.check("key import", "", 1, "", "standard input holds no secret");
    let ran = site.run_with_input("key import", &format!("{one}\nshort\nbob {one} {two}\nbad\"name {two}\n"));
    assert_eq!((ran.status, ran.out.as_str(), site.keys().as_str()), (1, "", ""), "{ran:?}");
    for expected in [
        "line 2: the secret is shorter than 32 characters",
        "line 3: more than a name and a secret",
        "line 4: the name is not",
        "nothing was imported",
    ] {
        assert!(ran.err.contains(expected), "{ran:?}");
    }
    assert!(!ran.err.contains(one) && !ran.err.contains(two) && !ran.err.contains("short\n"), "{ran:?}");
    let input = format!("{one}\n\nbob\t{two}\r\n");
    site.check("key import --name-prefix old-", &input, 0, "old-1\nbob\n", "");
    let again = format!("{two}\n");
    site.check("key import --name-prefix old-", &again, 1, "", "the secret of \"old-2\" is there already");
    site.check("key import --config -", &again, 2, "", "standard input holds the secrets");
    let keys = herdgate::keys::load(&KeyFile::new(&site.0.join("keys.toml"))).unwrap();
    let name = |secret: &str| keys.get(&herdgate::keys::secret::digest(secret.as_bytes())).unwrap().name.clone();
    assert_eq!((&*name(one), &*name(two)), ("old-1", "bob"));
}

#[test]
fn without_a_configuration_the_places_are_named() {
    let site = Site::new("nowhere", CONFIG);
    fs::remove_file(site.0.join("herdgate.toml")).unwrap();
    if !Path::new("/etc/herdgate/herdgate.toml").exists() {
        site.check("check", "", 2, "", "there is no herdgate.toml and no /etc/herdgate/herdgate.toml");
    }
    assert_eq!(site.run("--version").status, 0);
    assert_eq!(site.run("--help").status, 0);
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let site = Site::new("pipe", CONFIG);
    assert_eq!(site.run("key new --name alice").status, 0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_herdgate"));
    let child = command.args(["key", "list"]).current_dir(&site.0).stdout(writer).stderr(Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
