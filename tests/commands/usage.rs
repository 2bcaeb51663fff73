//! `herdgate usage`: what it tells of a ledger, beside a daemon and without one; forgetting, backups, and how a daemon starts.

use crate::harness::client::{self, Request};
use crate::harness::deadline::wait_until;
use crate::harness::fleet::Fleet;
use crate::harness::herdgate::Herdgate;
use crate::harness::process::built;
use crate::harness::scratch::Scratch;
use crate::store::{self, Folder, record, reservation, today};
use herdgate::ledger::journal::Journal;
use herdgate::ledger::reservation::{Cost, Evidence, Record, Reservation};
use herdgate::time::date;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A configuration and a ledger with some requests in it, in a folder of their own.
struct Site(Folder);

const CONFIG: &str = "[[server]]\nname = \"gpu1\"\nurl = \"http://10.0.1.10:11434\"\n[plans.team]\nmodels = [\"*\"]\n";

#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Site {
    fn new() -> Site {
        let site = Site(Folder::new());
        fs::write(site.0.path().join("herdgate.toml"), CONFIG).unwrap();
        let (store, _) = store::open(&site.ledger()).unwrap();
        requests().into_iter().for_each(|record| store.settled(record));
        site
    }

    fn ledger(&self) -> PathBuf {
        self.0.path().join("herdgate.db")
    }

    fn run(&self, arguments: &str) -> Ran {
        let mut command = Command::new(built("herdgate").unwrap());
        let output = command.args(arguments.split_whitespace()).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { status: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn check(&self, arguments: &str, status: i32, out: &str, err: &str) {
        let ran = self.run(arguments);
        assert_eq!((ran.status, ran.out.as_str()), (status, out), "{arguments}: {ran:?}");
        assert!(ran.err.contains(err) && ran.err.is_empty() == err.is_empty(), "{arguments}: {ran:?}");
    }
}

/// Four requests of three days.
fn requests() -> Vec<Record> {
    let dear = Cost { input_milli: 500, output_milli: 2_000 };
    let one =
        |id, key, user, evidence, ago, tokens| record(reservation(id, key, user), evidence, today() - ago, tokens);
    let mut cheap = one(4, "cy,\"o\"", "=x", Evidence::Estimated, 40, (1, 1));
    cheap.reservation = Reservation { cost: dear, team: None, model: None, ..cheap.reservation };
    cheap.server = "".into();
    vec![
        one(1, "ann", "", Evidence::Exact, 0, (100, 50)),
        one(2, "ann", "", Evidence::Counted, 1, (100, 50)),
        one(3, "webui", "zoe", Evidence::Reserved, 1, (0, 600)),
        cheap,
    ]
}

#[test]
fn usage_is_a_table_for_people() {
    let site = Site::new();
    let expected = "\
key      requests      tokens in     tokens out           charge     exact   counted estimated  reserved
webui           1              0            600              600         -         -         -   100.0 %
ann             2            200            100              300    50.0 %    50.0 %         -         -
cy,\"o\"          1              1              1              2.5         -         -   100.0 %         -
";
    site.check("usage", 0, expected, "");
    site.check(
        "usage --key nobody",
        0,
        &format!("{}\n", expected.lines().next().unwrap().replace("key   ", "key")),
        "",
    );
}

/// Returns what the lines of a report begin with.
fn lines(site: &Site, arguments: &str) -> Vec<String> {
    let ran = site.run(&format!("usage --csv {arguments}"));
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
    let first = |line: &str| line.split(',').take(4).collect::<Vec<_>>().join(",");
    ran.out.lines().skip(1).map(first).collect()
}

#[test]
fn usage_can_be_asked_by_everything_and_of_a_part() {
    let site = Site::new();
    let day = |ago: i32| date::format_day(today() - ago);
    let cases: &[(&str, &[&str])] = &[
        ("--by user", &["zoe,1,0,600", ",2,200,100", "'=x,1,1,1"]),
        ("--by team", &["research,3,200,700", ",1,1,1"]),
        ("--by model", &["llama3.1:8b,3,200,700", ",1,1,1"]),
        ("--by endpoint", &["chat,4,201,701"]),
        ("--by server", &["gpu1,3,200,700", ",1,1,1"]),
        (
            "--by day",
            &[&format!("{},1,1,1", day(40)), &format!("{},2,100,650", day(1)), &format!("{},1,100,50", day(0))],
        ),
        ("--by day --since 2d", &[&format!("{},2,100,650", day(1)), &format!("{},1,100,50", day(0))]),
        (
            &format!("--by day --since {} --until {}", day(40), day(1)),
            &[&format!("{},1,1,1", day(40)), &format!("{},2,100,650", day(1))],
        ),
        ("--key ann", &["ann,2,200,100"]),
        ("--user zoe", &["webui,1,0,600"]),
        ("--team research --by team", &["research,3,200,700"]),
        ("--model LLAMA3.1:8B --by model --key ann", &["llama3.1:8b,2,200,100"]),
        ("--until 2020-01-01", &[]),
    ];
    cases.iter().for_each(|(arguments, expected)| assert_eq!(lines(&site, arguments), *expected, "{arguments}"));
    let csv = site.run("usage --csv --until 30d").out;
    assert_eq!(
        csv,
        "key,requests,tokens_in,tokens_out,charge,exact,counted,estimated,reserved\n\"cy,\"\"o\"\"\",1,1,1,2.5,0,0,2.5,0\n"
    );
    let json: serde_json::Value = serde_json::from_str(&site.run("usage --json --by user").out).unwrap();
    let by_evidence = serde_json::json!({"exact": 0.0, "counted": 0.0, "estimated": 0.0, "reserved": 600.0});
    let zoe = serde_json::json!({
        "user": "zoe", "requests": 1, "tokens_in": 0, "tokens_out": 600, "charge": 600.0, "charge_by_evidence": by_evidence,
    });
    assert_eq!(json[0], zoe);
}

#[test]
fn one_requests_life_is_explained_long_after_the_daemon_forgot_it() {
    let site = Site::new();
    let (store, _) = store::open(&site.ledger()).unwrap();
    store.opened(reservation(0xa5, "webui", "yan"));
    drop(store);
    let id = |number: u128| format!("{number:032x}");
    // Times are written to the second.
    let explained = |number: u128| {
        let ran = site.run(&format!("explain {}", id(number)));
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
        let year = date::format(store::now_ms())[..3].to_owned();
        let is_time = |word: &&str| word.starts_with(&year) && word.contains('T');
        let untimed = |line: &str| line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ");
        ran.out.lines().map(untimed).collect::<Vec<_>>()
    };
    let day = date::format_day(today() - 1);
    let settled = [
        &*id(3),
        "granted for webui (user zoe), chat, model llama3.1:8b: reserved 600.0 tokens",
        &format!(
            "settled 0 in, 600 out, charged 600.0 (reserved), in the budgets of {day}; by gpu1, status 200, 1234 ms"
        ),
    ];
    assert_eq!(explained(3), settled);
    let open = [
        &*id(0xa5),
        "granted for webui (user yan), chat, model llama3.1:8b: reserved 600.0 tokens",
        "in flight, or its end was not reported yet",
    ];
    assert_eq!(explained(0xa5), open);
    let json: serde_json::Value = serde_json::from_str(&site.run(&format!("explain --json {}", id(4))).out).unwrap();
    let life = &json["life"];
    assert_eq!(
        (&life["state"], &life["charge"], &life["evidence"]),
        (&"settled".into(), &2.5.into(), &"estimated".into())
    );
    assert_eq!((&life["model"], &life["server"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    site.check(&format!("explain {}", id(99)), 1, "", "no daemon answers on");
}

#[test]
fn what_cannot_be_told_is_said() {
    let site = Site::new();
    site.check("usage --since soon", 2, "", "--since soon: write 2027-01-31, or 30d");
    site.check("usage --csv --json", 2, "", "cannot be used with");
    site.check("usage --by colour", 2, "", "possible values: key, user, team, model, day, endpoint, server");
    fs::remove_file(site.ledger()).unwrap();
    for command in ["usage", "usage forget zoe", "usage backup copy.db"] {
        site.check(command, 2, "", "herdgate.db; the daemon makes it");
        assert!(!site.ledger().exists(), "{command}");
    }
    fs::write(site.ledger(), "no ledger").unwrap();
    site.check("usage", 2, "", "is damaged");
    fs::write(site.0.path().join("herdgate.toml"), format!("{CONFIG}[ledger]\npath = \"off\"\n")).unwrap();
    site.check("usage", 2, "", "[ledger] path is off");
}

#[test]
fn without_a_daemon_a_user_is_forgotten_directly_and_a_backup_is_made() {
    let site = Site::new();
    let done = "user \"zoe\": removed the name from 1 rows, and the usage counters of 1 days; sums stay\n";
    site.check("usage forget zoe", 0, done, "");
    assert_eq!(lines(&site, "--by user"), [",3,200,700", "'=x,1,1,1"]);
    let ran = site.run("usage backup copy.db");
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.starts_with("copy.db: ") && ran.out.ends_with(" bytes, checked\n"), "{ran:?}");
    site.check("usage backup copy.db", 2, "", "copy.db: not copied: the file is there already");
    let before = lines(&site, "");
    // A restore, as the documentation says.
    fs::rename(site.0.path().join("copy.db"), site.ledger()).unwrap();
    assert_eq!(lines(&site, ""), before);
}

#[test]
fn beside_a_daemon_it_reads_forgets_and_copies_what_the_daemon_writes() {
    let scratch = Scratch::new().unwrap();
    let fleet = Fleet::start(&scratch, 20).unwrap();
    let ledger = scratch.join("herdgate.db");
    let (store, _) = store::open(&ledger).unwrap();
    requests().into_iter().for_each(|record| store.settled(record));
    drop(store);
    let mut herdgate = Herdgate::new(&scratch, &fleet).unwrap();
    herdgate.start_at("info").unwrap();
    let log = || fs::read_to_string(scratch.join("herdgate.log")).unwrap();
    assert!(log().contains("the ledger is open"), "{}", log());
    assert!(herdgate.run(&["usage", "--csv", "--by", "user"]).unwrap().contains("\nzoe,1,"));
    let said = herdgate.run(&["usage", "forget", "zoe"]).unwrap();
    assert_eq!(said, "user \"zoe\": removed the name from 1 rows, and the usage counters of 1 days; sums stay\n");
    assert!(!herdgate.run(&["usage", "--csv", "--by", "user"]).unwrap().contains("zoe"));
    let copy = scratch.join("copy.db");
    herdgate.run(&["usage", "backup", copy.to_str().unwrap()]).unwrap();
    assert_eq!(store::consistent(&copy).0, 4);
    let metrics =
        client::send(herdgate.ports.metrics, &Request::get("/metrics").header("Connection", "close")).unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "herdgate_ledger_file_pending 0\n",
        "herdgate_ledger_file_failing 0\n",
        "herdgate_ledger_file_faults_total{fault=\"full\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let status: serde_json::Value = serde_json::from_str(&herdgate.run(&["status", "--json"]).unwrap()).unwrap();
    assert_eq!(status["ledger"], serde_json::json!({"pending": 0, "dropped": 0}));
    herdgate.process().unwrap().signal(Signal::TERM);
    let mut ended = None;
    wait_until("it ends", Duration::from_secs(15), || {
        ended = herdgate.process().unwrap().ended();
        ended.is_some()
    })
    .unwrap();
    assert_eq!(ended.unwrap().code(), Some(0));
    assert!(!scratch.join("herdgate.db-wal").exists(), "the file is closed");
    assert_eq!(store::consistent(&ledger).0, 4);
}

#[test]
fn a_daemon_that_cannot_have_its_ledger_does_not_start_and_says_why() {
    let site = Site::new();
    let off = ["agent_check", "metrics", "control"].map(|port| format!("{port} = \"off\"\n")).concat();
    let ports = format!("[listen]\nusage = []\nspop = \"unix:spop\"\nhttp = \"unix:http\"\n{off}");
    let config = |more: &str| fs::write(site.0.path().join("herdgate.toml"), format!("{CONFIG}{ports}{more}")).unwrap();
    config("");
    // A process that another test begins at this moment has all open files for an instant, and with them the lock.
    let mut opened = None;
    wait_until("the file to be free", Duration::from_secs(5), || {
        opened = store::open(&site.ledger()).ok();
        opened.is_some()
    })
    .unwrap();
    let (store, _) = opened.unwrap();
    let ran = site.run("serve");
    assert!(ran.status == 2 && ran.err.contains("is in use by another herdgate; stop it, or give each"), "{ran:?}");
    drop(store);
    fs::write(site.ledger(), "garbage").unwrap();
    let ran = site.run("serve");
    assert!(ran.status == 2 && ran.err.contains("restore a backup, or set [ledger] on_damage = \"fresh\""), "{ran:?}");
    config("[ledger]\npath = \"absent/herdgate.db\"\n");
    let ran = site.run("serve");
    assert!(ran.status == 2 && ran.err.contains("absent/herdgate.db"), "{ran:?}");
}
