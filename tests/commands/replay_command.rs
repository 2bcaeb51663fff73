//! `herdgate replay` as a command: bad lines, standard input, exit statuses, a reader that leaves, and no secret in what it says.

use super::replay::{CONFIG, and, asking_for, chat, told, with};
use base64::Engine;
use herdgate::trial::PASSES;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder with a configuration and a key, in which the command is run; removed when the test is over.
struct Site {
    folder: PathBuf,
    secret: String,
}

impl Site {
    fn new(name: &str) -> Site {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("herdgate.toml"), CONFIG).unwrap();
        let mut site = Site { folder, secret: String::new() };
        site.secret =
            site.run(&["key", "new", "--name", "alice", "--plan", "wide", "--print"], b"").1.trim().to_owned();
        site
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herdgate"));
        command.args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit status, standard output, standard error.
    fn run(&self, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeding = std::thread::spawn(move || {
            // A command that reads no input closes it.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn line(&self) -> String {
        chat(&self.secret, "llama3.2:3b").to_string() + "\n"
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_bad_line_is_told_in_its_place_and_the_rest_is_decided_on() {
    let site = Site::new("bad");
    let good = site.line();
    let lines = [
        good.as_bytes(),
        b"garbage\n",
        b"\n",
        b"\xff\xfe\n",
        br#"{"method":"POST","path":"/api/chat","body_base64":"%"}"#,
        b"\n",
        good.as_bytes(),
    ]
    .concat();
    fs::write(site.folder.join("in.jsonl"), &lines).unwrap();
    let (status, out, err) = site.run(&["replay", "in.jsonl"], b"");
    let out: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(status, 1, "{err}");
    assert_eq!(err, "herdgate: 4 lines were not decided on; the first is line 2\n");
    let told: Vec<String> =
        out.iter().map(|line| line["error"].as_str().map_or_else(|| told(line), str::to_owned)).collect();
    let expected = [
        "gpu1",
        "is not JSON (column 1)",
        "is not JSON (column 0)",
        "is not UTF-8",
        "\"body_base64\" is not base64",
        "gpu2",
    ];
    assert_eq!(told, expected);
    let numbers: Vec<Option<u64>> = out.iter().map(|line| line["line"].as_u64()).collect();
    assert_eq!(numbers, [None, Some(2), Some(3), Some(4), Some(5), None]);
}

#[test]
fn standard_input_exit_statuses_and_files_that_are_not_there() {
    let site = Site::new("stdin");
    let (status, out, err) = site.run(&["replay", "-"], site.line().as_bytes());
    assert_eq!((status, out.lines().count(), err.as_str()), (0, 1, ""));
    // A refusal is a good answer.
    let refused = chat("hg_no", "llama3.2:3b").to_string();
    let (status, out, _) = site.run(&["replay", "-"], refused.as_bytes());
    assert_eq!((status, told(&serde_json::from_str(&out).unwrap()).as_str()), (0, "401 invalid_api_key unknown_key"));
    assert_eq!(site.run(&["replay", "-"], b""), (0, String::new(), String::new()));
    let encoded = base64::engine::general_purpose::STANDARD.encode(r#"{"model":"qwen3:8b"}"#);
    let line = with(chat(&site.secret, ""), json!({ "body": null, "body_base64": encoded })).to_string();
    assert!(site.run(&["replay", "-"], line.as_bytes()).1.contains("\"model\":\"qwen3:8b\""));
    for (arguments, complaint) in [
        (&["replay", "absent.jsonl"][..], "absent.jsonl: cannot be read"),
        (&["--config", "-", "replay", "-"], "standard input holds the requests"),
        (&["--config", "absent.toml", "replay", "-"], "absent.toml: cannot be read"),
        (&["replay"], "required arguments"),
    ] {
        let (status, out, err) = site.run(arguments, b"");
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(complaint), "{arguments:?}: {err}");
    }
}

/// In June it is noon of UTC when a day begins in Auckland.
#[test]
fn a_budget_s_day_begins_where_the_configuration_says() {
    const SPENT: &str = "429 quota_exceeded budget";
    let check = |zone: &str, expected: [&str; 4], ends: &str| {
        let site = Site::new(&format!("zone-{}", zone.replace('/', "-")));
        let path = site.folder.join("herdgate.toml");
        fs::write(&path, format!("{CONFIG}\n[ledger]\ntime_zone = \"{zone}\"\n")).unwrap();
        let (_, secret, _) = site.run(&["key", "new", "--name", "ann", "--plan", "frugal", "--print"], b"");
        let at = |time: &str| {
            let used = json!({ "at": format!("2026-06-01T{time}Z"), "usage": { "in": 100, "out": 895 } });
            with(with(chat(secret.trim(), "llama3.2:3b"), asking_for(10)), used)
        };
        let lines = ["11:58:00", "11:59:59", "12:00:00", "23:59:59"].map(|time| at(time).to_string()).join("\n");
        let (status, out, err) = site.run(&["replay", "-"], lines.as_bytes());
        let verdicts: Vec<String> =
            out.lines().map(|line| told(&serde_json::from_str(line).unwrap()).replace("gpu2", "gpu1")).collect();
        assert_eq!((status, verdicts), (0, expected.map(str::to_owned).to_vec()), "{zone}: {err}");
        let ask = ["explain", "POST", "/api/chat", "--key", "ann", "--at", "2026-06-01T11:00:00Z", "--json"];
        let body = asking_for(10)["body"].as_str().unwrap().to_owned();
        let (_, out, err) = site.run(&[&ask[..], &["-d", &body]].concat(), b"");
        let explained: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        assert_eq!(explained["headers"]["x-ratelimit-reset-tokens"], ends, "{zone}: {explained}");
    };
    check("UTC", ["gpu1", SPENT, SPENT, SPENT], "13h0m0s");
    check("Pacific/Auckland", ["gpu1", SPENT, "gpu1", SPENT], "1h0m0s");
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let site = Site::new("pipe");
    let mut child = site.command(&["replay", "-"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = site.line().repeat(20_000);
    // More than all buffers between the two hold; ends when the command closes its input.
    let feeding = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).is_err());
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("\"verdict\":\"allow\""), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(feeding.join().unwrap(), "the input was read to its end, although nobody reads the output");
}

#[test]
fn no_secret_and_no_prompt_comes_out() {
    const PLANTED: &str = "pl4nted-s3cret";
    let site = Site::new("secrets");
    let bodies = [
        json!({ "model": "llama3.2:3b", "messages": [{ "role": "user", "content": PLANTED }] }).to_string(),
        format!("{{\"model\":\"llama3.2:3b\",\"{PLANTED}\":1"),
        PLANTED.to_owned(),
    ];
    let mut lines: Vec<String> = Vec::new();
    for body in &bodies {
        for key in [site.secret.as_str(), PLANTED, &format!("{PLANTED} {PLANTED}")] {
            let line = and(chat(key, ""), "cookie", PLANTED);
            let line = and(line, PASSES, PLANTED);
            lines.push(with(line, json!({ "body": body, "path": format!("/api/chat?key={PLANTED}") })).to_string());
        }
    }
    lines.push(format!("{PLANTED} is no JSON"));
    lines.push(format!(r#"{{"method":"POST","path":"/","{PLANTED}":1}}"#));
    lines.push(format!(r#"{{"method":"POST","path":"/","at":"{PLANTED}"}}"#));
    lines.push(format!(r#"{{"method":"POST","path":"/","headers":"{PLANTED}"}}"#));
    lines.push(format!(r#"{{"method":"POST","path":"/","src":"{PLANTED}"}}"#));
    lines.push(format!(r#"{{"method":"POST","path":"/","usage":{{"{PLANTED}":"{PLANTED}"}}}}"#));
    lines.push(format!(r#"{{"method":"POST","path":"/","body_base64":"{PLANTED}"}}"#));
    let (status, out, err) = site.run(&["replay", "-"], lines.join("\n").as_bytes());
    assert_eq!((status, out.lines().count()), (1, lines.len()), "{err}");
    assert!(out.contains("\"server\":\"gpu1\""), "{out}");
    for text in [out, err] {
        assert!(!text.contains(PLANTED) && !text.contains(&site.secret), "{text}");
    }
}
