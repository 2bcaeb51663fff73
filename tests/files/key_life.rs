//! A key's life on the command line and in its file: terms, rotation with overlap, weak imports, pepper, last use.

use herdgate::decision::caller::keyset::{Digest, Key, KeySet};
use herdgate::keys::file::{self, KeyEntry};
use herdgate::keys::{KeyFile, load, used, write};
use herdgate::time::date;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CONFIG: &str = r#"
[[server]]
name = "gpu1"
url = "http://10.0.1.10:11434"
[plans.team]
models = ["*"]
[plans.member]
models = ["*"]
[teams.research]
plan = "member"
"#;

/// A folder with a `herdgate.toml`, in which commands are run; removed when the test is over.
struct Site(PathBuf);

impl Site {
    fn new(name: &str, addition: &str) -> Site {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("life-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("herdgate.toml"), CONFIG.to_owned() + addition).unwrap();
        Site(folder)
    }

    /// What a command that ends well prints; what one that does not complains of.
    fn run(&self, arguments: &str, input: &str) -> Result<String, String> {
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
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn refuses(&self, arguments: &str, input: &str, complaint: &str) {
        let said = self.run(arguments, input).unwrap_err();
        assert!(said.contains(complaint), "{arguments}: {said}");
    }

    fn file(&self) -> KeyFile {
        KeyFile::new(&self.0.join("keys.toml"))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file().path).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn list(&self, arguments: &str) -> Vec<serde_json::Value> {
        let rows = self.run(&format!("key list --json {arguments}"), "").unwrap();
        serde_json::from_str::<serde_json::Value>(&rows).unwrap().as_array().unwrap().clone()
    }

    fn states(&self) -> Vec<String> {
        self.list("").iter().map(|row| format!("{} {}", text(&row["name"]), text(&row["state"]))).collect()
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn found<'k>(keys: &'k KeySet, secret: &str) -> &'k Key {
    keys.find(secret.as_bytes()).expect("a known secret").0
}

#[test]
fn a_key_is_made_on_terms_and_they_are_read_back() {
    let site = Site::new("terms", "");
    let more = "--plan team --team research --on-behalf-of X-OpenWebUI-User-Email --user-plan member --not-before 2h --expires 30d";
    let secret = site.run(&format!("key new --name webui {more} --print"), "").unwrap();
    let keys = load(&site.file()).unwrap();
    let key = found(&keys, &secret);
    assert_eq!(&*keys.teams()[usize::from(key.team.unwrap())], "research");
    let behalf = key.on_behalf.as_ref().unwrap();
    assert_eq!((&*behalf.header, &*keys.plans()[usize::from(behalf.plan)]), ("x-openwebui-user-email", "member"));
    assert!(key.not_before_unix_ms.unwrap() < key.expires_unix_ms.unwrap());
    assert_eq!(site.states(), ["webui early"]);
    assert_eq!(site.run("check", "").unwrap(), "ok: 1 server, 2 plans, 1 key");
    site.refuses(
        "key new --name a --plan team --team reserch",
        "",
        "there is no team \"reserch\"; the teams are research",
    );
    site.refuses("key new --name a --plan team --user-plan member", "", "--on-behalf-of");
    site.refuses(
        "key new --name a --plan team --on-behalf-of x-user --user-plan gone",
        "",
        "there is no plan \"gone\"",
    );
    site.refuses("key new --name a --plan team --on-behalf-of Authorization", "", "none of a credential's");
    site.refuses("key new --name a --plan team --not-before 2020-01-01T00:00:00Z", "", "not in the future");
    // A team, or a plan of users, that the configuration no longer has is told with its line.
    for (from, to, what) in [
        ("[teams.research]", "[teams.other]", "keys.toml:1:1: key \"webui\" is of team \"research\""),
        ("plans.member", "plans.guest", "there is no plan \"member\""),
    ] {
        let changed = CONFIG.replace(from, to);
        fs::write(site.0.join("herdgate.toml"), changed).unwrap();
        site.refuses("check", "", what);
    }
    fs::write(site.0.join("herdgate.toml"), CONFIG.replace("member", "guest")).unwrap();
    site.refuses("check", "", "key \"webui\" is on plan \"member\"");
}

#[test]
fn a_rotated_secret_is_shown_once_and_those_before_end_with_the_grace() {
    let site = Site::new("rotate", "");
    let first = site.run("key new --name ann --plan team --team research --expires 30d --print", "").unwrap();
    let second = site.run("key rotate ann --grace 24h --print", "").unwrap();
    assert!(first != second && !site.text().contains(&second));
    let keys = load(&site.file()).unwrap();
    let (old, new) = (found(&keys, &first), found(&keys, &second));
    assert_eq!((old.scope, old.plan, old.team), (new.scope, new.plan, new.team));
    let day = 86_400_000;
    assert!(old.expires_unix_ms.unwrap().get() < new.expires_unix_ms.unwrap().get() - 28 * day, "it ends after a day");
    assert_eq!(site.states(), ["ann retiring", "ann live"]);
    // Again, with less grace: nobody's time is made longer, and what is left of the first is cut.
    let third = site.run("key rotate ann --grace 1h --expires 2d --print", "").unwrap();
    let entries = file::entries(&site.file()).unwrap();
    let hours = |entry: &KeyEntry| (entry.ends_unix_ms().unwrap() - entries[2].created_unix_ms) / 3_600_000;
    assert_eq!(entries.iter().map(hours).collect::<Vec<_>>(), [1, 1, 48]);
    site.run("key rotate ann --grace 20d", "").unwrap();
    let entries = file::entries(&site.file()).unwrap();
    assert_eq!(entries.iter().take(3).map(hours).collect::<Vec<_>>(), [1, 1, 48], "a longer grace gives none back");
    // Without grace all of them end now, for good.
    let last = site.run("key rotate ann --grace 0s --print", "").unwrap();
    let keys = load(&site.file()).unwrap();
    for secret in [&first, &second, &third] {
        assert!(found(&keys, secret).revoked);
    }
    assert!(!found(&keys, &last).revoked);
    site.run("key revoke ann", "").unwrap();
    site.refuses("key rotate ann --grace 1h", "", "there is no key named \"ann\" that is not revoked");
    site.refuses("key rotate bob --grace 1h", "", "there is no key named \"bob\" that is not revoked");
    site.refuses("key rotate ann --grace soon", "", "--grace soon is not a duration");
}

#[test]
fn an_expired_key_is_given_new_life_by_a_rotation() {
    let site = Site::new("renew", "");
    let digest = "ab".repeat(32);
    let old = format!(
        "[[key]]\nname = \"ann\"\nplan = \"team\"\nsha256 = \"{digest}\"\ncreated = 2026-01-01T00:00:00Z\nexpires = 2026-01-03T00:00:00Z\n"
    );
    site.write("keys.toml", &old, 0o600);
    site.run("key rotate ann --grace 24h", "").unwrap();
    assert_eq!(site.states(), ["ann expired", "ann live"]);
    let new = &file::entries(&site.file()).unwrap()[1];
    assert_eq!(new.expires_unix_ms.unwrap() - new.created_unix_ms, 2 * 86_400_000, "as long as the one before");
}

#[test]
fn rotation_keeps_what_people_wrote_into_the_file() {
    let site = Site::new("comments", "");
    let digest = "ab".repeat(32);
    let old = format!(
        "# ours\n[[key]] # ann's\nname = \"ann\"\nretires = 2999-01-01T00:00:00Z # later\nplan = \"team\"\nsha256 = \"{digest}\"\ncreated = 2026-01-31T12:00:00Z"
    );
    let path = site.write("keys.toml", &old, 0o600);
    let now = date::parse("2026-02-01T00:00:00Z").unwrap();
    let made = |newest: &KeyEntry| KeyEntry {
        digest: Digest([7; 32]),
        created_unix_ms: now,
        retires_unix_ms: None,
        ..newest.clone()
    };
    write::rotate(&KeyFile::new(&path), "ann", now, 60_000, made).unwrap();
    let kept = old.replace("retires = 2999-01-01T00:00:00Z # later", "retires = 2026-02-01T00:01:00Z");
    let added = "[[key]]\nname = \"ann\"\nplan = \"team\"\nsha256 = \"0707070707070707070707070707070707070707070707070707070707070707\"\ncreated = 2026-02-01T00:00:00Z\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{kept}\n\n{added}"));
    let again = write::rotate(&KeyFile::new(&path), "ann", now, 60_000, made);
    assert!(again.unwrap_err().to_string().contains("is there already"));
}

#[test]
fn secrets_of_one_name_share_their_terms_and_every_rule_of_the_file_is_told() {
    let site = Site::new("rules", "");
    let entry =
        |lines: &str| format!("[[key]]\nname = \"ann\"\nplan = \"team\"\ncreated = 2026-01-31T12:00:00Z\n{lines}\n");
    let sha = |byte: &str| format!("sha256 = \"{}\"", byte.repeat(32));
    let one = entry(&sha("aa"));
    for (text, what) in [
        (
            one.clone() + &entry(&(sha("bb") + "\nteam = \"x\"")),
            "key \"ann\" is on another team, header or plan of users above",
        ),
        (entry(&(sha("aa") + "\nuser_plan = \"member\"")), "\"user_plan\" without \"on_behalf_of\""),
        (entry(&(sha("aa") + "\non_behalf_of = \"X-User\"")), "\"on_behalf_of\" must be a header in lower case"),
        (entry(&(sha("aa") + "\non_behalf_of = \"authorization\"")), "\"on_behalf_of\" must be a header in lower case"),
        (entry(&(sha("aa") + "\nweak = \"yes\"")), "\"weak\" must be true or false"),
        (entry(&(sha("aa") + "\nnot_before = 3")), "\"not_before\" must be a time"),
        (entry(&(sha("aa") + "\nretires = 3")), "\"retires\" must be a time"),
        (entry(&format!("{}\nhmac_{}", sha("aa"), sha("bb"))), "\"sha256\" beside \"hmac_sha256\""),
        (entry(&format!("hmac_{}", sha("bb"))), "is keyed with a pepper, and [keys] names no pepper_file"),
        (entry("weak = true"), "[[key]] needs \"sha256\""),
    ] {
        let path = site.write("keys.toml", &text, 0o600);
        let problems = load(&KeyFile::new(&path)).unwrap_err().to_string();
        assert!(problems.contains(what), "{text}\n{problems}");
    }
    // What the first version wrote stays valid.
    let path = site.write("keys.toml", &one, 0o600);
    assert_eq!(load(&KeyFile::new(&path)).unwrap().len(), 1);
}

#[test]
fn weak_secrets_are_taken_only_where_somebody_says_so() {
    let site = Site::new("weak", "");
    let import = "key import --plan team";
    site.refuses(import, "ann short-one-16\n", "is shorter than 32 characters");
    site.refuses(&format!("{import} --weak"), "ann seven77\n", "is shorter than 8 characters");
    site.refuses(&format!("{import} --weak"), "ann no\"header\"takes\"quotes\n", "no Authorization header can carry");
    site.run(&format!("{import} --weak"), "ann short-one-16\nbob a-long-one-0123456789-abcdefghijk\n").unwrap();
    let weak: Vec<bool> = site.list("").iter().map(|row| row["weak"].as_bool().unwrap()).collect();
    assert_eq!(weak, [true, false], "said of the one that is");
    assert_eq!(site.text().matches("weak = true").count(), 1);
    assert!(load(&site.file()).unwrap().find(b"short-one-16").is_some());
    assert!(site.run("key list", "").unwrap().lines().nth(1).unwrap().ends_with("  weak"));
    let secret = site.run("key rotate ann --grace 1h --print", "").unwrap();
    assert_eq!(secret.len(), 52);
    assert_eq!(site.text().matches("weak = true").count(), 1, "its successor is not");
}

#[test]
fn with_a_pepper_the_key_file_alone_cannot_be_tried_against() {
    let site = Site::new("pepper", "[keys]\npepper_file = \"pepper\"\n");
    site.refuses("key new --name ann --plan team", "", "there is no such file");
    site.write("pepper", &"x".repeat(31), 0o600);
    site.refuses("key new --name ann --plan team", "", "holds 31 bytes; a pepper has 32 to 1024");
    site.write("pepper", "0123456789abcdef0123456789abcdef\n", 0o640);
    site.refuses("key new --name ann --plan team", "", "is open to group or others");
    let pepper = site.write("pepper", "0123456789abcdef0123456789abcdef\n", 0o600);
    let secret = site.run("key new --name ann --plan team --print", "").unwrap();
    site.run("key import --plan team --weak", "bob guess-me\n").unwrap();
    let plain: String = Digest::of(b"guess-me").0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(site.text().matches("hmac_sha256").count() == 2 && !site.text().contains(&plain));
    // HMAC-SHA-256 of "guess-me" under the pepper, computed outside this program.
    assert!(
        site.text().contains("319fdbf4b8c8f889a0ab6ac452dfa3c515d1a9ee2e77aba634024f9cbbb3b821"),
        "{}",
        site.text()
    );
    let with = KeyFile { pepper_file: Some(pepper.clone()), ..site.file() };
    let keys = load(&with).unwrap();
    assert_eq!((&*found(&keys, &secret).name, &*found(&keys, "guess-me").name), ("ann", "bob"));
    // Another pepper knows none of them; keys of before there was one stay valid.
    site.write("pepper", &"y".repeat(32), 0o600);
    assert!(load(&with).unwrap().find(secret.as_bytes()).is_none());
    let plain = Site::new("plain", "");
    let before = plain.run("key new --name carol --plan team --print", "").unwrap();
    assert_eq!(&*found(&load(&KeyFile { pepper_file: Some(pepper), ..plain.file() }).unwrap(), &before).name, "carol");
}

#[test]
fn a_file_that_others_may_read_is_refused_unless_that_is_allowed_and_never_one_they_may_write() {
    let site = Site::new("readable", "");
    site.run("key new --name ann --plan team", "").unwrap();
    let path = site.file().path;
    for (mode, strict, allowed) in
        [(0o600, true, true), (0o640, false, true), (0o644, false, true), (0o660, false, false), (0o646, false, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&site.file()).is_ok(), strict, "{mode:o}");
        assert_eq!(load(&KeyFile { allow_readable: true, ..site.file() }).is_ok(), allowed, "{mode:o}");
    }
    // By the configuration, and a change keeps the mode.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    site.refuses("key list", "", "is open to group or others (mode 0640)");
    fs::write(site.0.join("herdgate.toml"), format!("{CONFIG}[keys]\nallow_readable = true\n")).unwrap();
    site.run("key rotate ann --grace 1h", "").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_expires_soon_is_listed_and_the_last_use_is_shown() {
    let site = Site::new("used", "");
    let secret = site.run("key new --name ann --plan team --expires 3d --print", "").unwrap();
    site.run("key new --name bob --plan team --expires 30d", "").unwrap();
    site.run("key new --name carol --plan team --expires 3d", "").unwrap();
    site.run("key rotate carol --grace 1d --expires 60d", "").unwrap();
    let names: Vec<String> = site.list("--expiring 14d").iter().map(|row| text(&row["name"])).collect();
    assert_eq!(names, ["ann"], "a secret that retires has its successor already");
    let uses = used::path(&site.file().path);
    let at = date::parse("2026-03-01T10:00:00Z").unwrap() / 1_000;
    used::write(&uses, &[(Digest::of(secret.as_bytes()).fingerprint(), at), (7, 0)]).unwrap();
    assert_eq!(fs::metadata(&uses).unwrap().permissions().mode() & 0o777, 0o600);
    let last: Vec<String> = site.list("").iter().map(|row| text(&row["last_used"])).collect();
    assert_eq!(last, ["2026-03-01T10:00:00Z", "", "", ""]);
    assert!(site.run("key list", "").unwrap().lines().nth(1).unwrap().ends_with("2026-03-01T10:00:00Z"));
    // A damaged file is none.
    fs::write(&uses, "zz 2026\n\u{fffd}\n0000000000000007 2026-03-01T10:00:00Z\n").unwrap();
    assert_eq!(used::read(&uses).into_iter().collect::<Vec<_>>(), [(7, at)]);
}
